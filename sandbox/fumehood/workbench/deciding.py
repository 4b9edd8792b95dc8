"""Which lines of the policies decided one call.

A decision names rules; a rule may have several definitions. Each is tried alone, the others blanked out: the
one that still speaks is the one that decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, Problem
from fumehood.pdp import gate
from fumehood.pdp.expand import expanded
from fumehood.pdp.gate.context import Context
from fumehood.pdp.syntax import Module, Rule, module_of
from fumehood.workbench.answers import Answer
from fumehood.workbench.judge import EmbeddedJudge

__all__ = ["Deciding", "DecidingLines"]

_MAX_DEFINITIONS = 40
_MAX_LINES = 12
Document = dict[str, JSON]
Definition = tuple[Module, Rule]


@dataclass(frozen=True, slots=True)
class Deciding:
    """One definition of a rule that spoke, with its source lines; *is_silent*: one that did not."""

    rule: str
    file: str
    line: int
    source: tuple[str, ...]
    is_silent: bool = False


class DecidingLines:
    """Finds the definitions behind answers; what it builds for one it keeps for the next."""

    def __init__(self, verdict: gate.Verdict) -> None:
        self._verdict = verdict
        self._definitions = _definitions(verdict)
        self._alone: dict[tuple[str, int], EmbeddedJudge | None] = {}

    def behind(self, document: Document, answer: Answer) -> list[Deciding]:
        """The definitions behind *answer*; where nothing spoke, the `permit`s that did not hold."""
        if not answer.rules:
            silent = [name for name in self._definitions if name.endswith((".permit", ".permit_connect"))]
            return [
                _as_deciding(name, one, is_silent=True)
                for name in silent
                for one in self._definitions[name]
                if _mentions(one, document)
            ]
        return [
            _as_deciding(name, self._definitions[name][index])
            for name in answer.rules
            for index in self._speaking(name, document)
        ]

    def _speaking(self, name: str, document: Document) -> Iterator[int]:
        count = len(self._definitions.get(name, ()))
        for index in range(min(count, _MAX_DEFINITIONS)):
            judge = self._judge(name, index) if count > 1 else None
            if judge is None or name in judge.answers([document])[0].rules:
                yield index

    def _judge(self, name: str, index: int) -> EmbeddedJudge | None:
        """The policies with this definition only; None where it does not stand alone: it is shown then."""
        if (name, index) not in self._alone:
            others = [one for at, one in enumerate(self._definitions[name]) if at != index]
            try:
                self._alone[name, index] = EmbeddedJudge(self._verdict, instead=_blanked(others))
            except ConfigError:
                self._alone[name, index] = None
        return self._alone[name, index]


def _definitions(verdict: gate.Verdict) -> Mapping[str, list[Definition]]:
    found: dict[str, list[Definition]] = {}
    for module, rule in Context(verdict.modules, verdict.data).each_rule():
        if rule.shape in ("value", "set"):
            found.setdefault(f"{module.name}.{rule.name}", []).append((module, rule))
    return found


def _mentions(definition: Definition, document: Document) -> bool:
    """Does the definition's text name the tool?"""
    module, rule = definition
    resource = document["resource"]
    name = resource.get("id") if isinstance(resource, dict) else None
    return isinstance(name, str) and f'"{name}"'.encode() in module.encoded[rule.start : _end(module, rule)]


def _blanked(definitions: Sequence[Definition]) -> Mapping[str, str]:
    """The files of *definitions* without them; lines keep their numbers."""
    texts: dict[str, tuple[Module, bytearray]] = {}
    for module, rule in definitions:
        _, text = texts.setdefault(module.file.path, (module, bytearray(module.encoded)))
        for at in range(rule.start, _end(module, rule)):
            if text[at : at + 1] != b"\n":
                text[at : at + 1] = b" "
    return {path: _written_out(module, text.decode()) for path, (module, text) in texts.items()}


def _end(module: Module, rule: Rule) -> int:
    """The end of the line where the rule ends: spans leave closing quotes out."""
    found = module.encoded.find(b"\n", rule.end)
    return found if found >= 0 else len(module.encoded)


def _written_out(module: Module, text: str) -> str:
    parsed = module_of(replace(module.file, text=text))
    if isinstance(parsed, Problem):
        raise ConfigError(str(parsed), problems=(parsed,))
    return expanded(parsed)


def _as_deciding(name: str, definition: Definition, *, is_silent: bool = False) -> Deciding:
    module, rule = definition
    line = module.encoded[: rule.start].count(b"\n") + 1
    text = module.encoded[rule.start : _end(module, rule)].decode(errors="replace").expandtabs(4)
    source = text.split("\n")
    cut = [*source[:_MAX_LINES], "…"] if len(source) > _MAX_LINES else source
    return Deciding(name, module.file.path, line, tuple(cut), is_silent=is_silent)
