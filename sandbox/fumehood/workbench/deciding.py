"""Which lines of the policies decided one call.

A decision names rules; a rule may have several definitions. Some are tried, the others blanked out: where the
rule still speaks, it is one of these that decided.
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
from fumehood.workbench.reach import Reach, bodies_of

__all__ = ["Deciding", "DecidingLines"]

_MAX_JUDGES = 8  # kept at a time
_MAX_TRIES = 100  # in one run
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
        context = Context(verdict.modules, verdict.data)
        self._definitions = _definitions(context)
        self._reach = Reach(context)
        self._tries = 0
        self._late: dict[str, str] = {}
        self._alone: dict[tuple[str, tuple[int, ...]], EmbeddedJudge | None] = {}

    def behind(self, document: Document, answer: Answer) -> list[Deciding]:
        """The definitions behind *answer*; where nothing spoke, the `permit`s that did not hold; where the
        policies had to be ended, those of the first rule that has to be ended alone."""
        if answer.too_late:
            name, tool = self._late_rule(document), _tool_of(document)
            found = self._definitions.get(name, [])
            return [_as_deciding(name, one) for one in found if self._is_about(one, tool)]
        if not answer.rules:
            silent = [name for name in self._definitions if name.endswith((".permit", ".permit_connect"))]
            return [
                _as_deciding(name, one, is_silent=True)
                for name in silent
                for one in self._definitions[name]
                if self._is_about(one, _tool_of(document))
            ]
        return [
            _as_deciding(name, self._definitions[name][index])
            for name in answer.rules
            for index in self._speaking(name, document)
        ]

    def _late_rule(self, document: Document) -> str:
        """What has to be ended alone, "" for none; looked for once for each tool, as it takes long."""
        tool = _tool_of(document)
        if tool not in self._late:
            judge = EmbeddedJudge(self._verdict)
            self._late[tool] = judge.late_rule(document, self._definitions)
            judge.close()
        return self._late[tool]

    def _speaking(self, name: str, document: Document) -> list[int]:
        """Those definitions of the rule that speak about this call."""
        tool = _tool_of(document)
        rules = self._definitions.get(name, [])
        some = tuple(i for i, one in enumerate(rules) if self._is_about(one, tool))
        return list(self._among(name, some, document)) if len(some) > 1 else list(some)

    def _is_about(self, definition: Definition, tool: str) -> bool:
        """False only if no body of the definition can hold for this tool."""
        module, rule = definition
        reached = [self._reach.tools(module, body) for body in bodies_of(rule)]
        return any(tools is None or tool in tools for tools in reached)

    def _among(self, name: str, some: tuple[int, ...], document: Document) -> Iterator[int]:
        """Those of *some* definitions that speak: by halves, so that many need a few tries."""
        judge = self._judge(name, some)
        if judge is not None and name not in judge.answers([document])[0].rules:
            return
        if len(some) == 1:
            yield some[0]
        else:
            middle = len(some) // 2
            yield from self._among(name, some[:middle], document)
            yield from self._among(name, some[middle:], document)

    def _judge(self, name: str, kept: tuple[int, ...]) -> EmbeddedJudge | None:
        """The policies with these definitions only. None where they do not stand alone, or after too many
        tries: they are shown then, rather than hidden."""
        if (name, kept) not in self._alone and self._tries < _MAX_TRIES:
            self._tries += 1
            while len(self._alone) >= _MAX_JUDGES:
                _ended(self._alone.pop(next(iter(self._alone))))
            others = [one for at, one in enumerate(self._definitions[name]) if at not in kept]
            try:
                self._alone[name, kept] = EmbeddedJudge(self._verdict, instead=_blanked(others))
            except ConfigError:
                self._alone[name, kept] = None
        return self._alone.get((name, kept))


def _ended(judge: EmbeddedJudge | None) -> None:
    if judge is not None:
        judge.close()


def _definitions(context: Context) -> Mapping[str, list[Definition]]:
    found: dict[str, list[Definition]] = {}
    for module, rule in context.each_rule():
        if rule.shape in ("value", "set"):
            found.setdefault(f"{module.name}.{rule.name}", []).append((module, rule))
    return found


def _tool_of(document: Document) -> str:
    resource = document["resource"]
    return str(resource.get("id")) if isinstance(resource, dict) else ""


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
