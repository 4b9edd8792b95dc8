"""Evaluates every rule once: what regorus only reports when it gets there is found before it decides."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

from fumehood.canonical import JSON
from fumehood.errors import PdpError, Problem
from fumehood.pdp import combine, sources
from fumehood.pdp.apart import ApartLimits, EngineApart, Question
from fumehood.pdp.engine import EngineError
from fumehood.pdp.gate.context import Context
from fumehood.pdp.syntax import Module, Rule

__all__ = ["Trial", "trial_engine"]

_PLACE = re.compile(r"-->\s*(?P<file>[^\n]*):(?P<line>\d+):(?P<column>\d+)")
_SAID = re.compile(r"^error: (?P<said>.*)$", re.MULTILINE)

_REMEDIES = {
    "expects": "Check the type in a statement before: is_number(x), is_string(x), is_array(x).",
    "used before definition": "Declare the variable in a statement before, or in the same list of `some`.",
    "divide by zero": "Check in a statement before that the divisor is not 0.",
    "multiple": "Let one definition hold at a time, or join them with `else`.",
    "conflict": "Let one definition hold at a time, or join them with `else`.",
}


def trial_engine() -> EngineApart:
    """What rules are tried in. Raises PdpError where it cannot be started."""
    return EngineApart(ApartLimits(all_s=20.0))


class Trial:
    """Begins when it is made, in a process apart; meanwhile others may look at the policies."""

    def __init__(self, context: Context, engine: EngineApart) -> None:
        """Raises PdpError where the process ended."""
        self._context = context
        self._asked = _asked(context)
        documents = [json.dumps(_document(phase)) for phase in combine.PHASES]
        questions = [
            Question(path, document, "query" if rule.shape == "object" else "rule")
            for path, (_, rule) in self._asked.items()
            for document in documents
        ]
        engine.load(_files(context), json.dumps(context.data))
        self._answers = engine.each(questions)

    def problems(self) -> Iterator[Problem]:
        """What the engine refuses, when it is asked about a call with nothing in it."""
        try:
            for module, rule in self._asked.values():
                said = list(itertools.islice(self._answers, len(combine.PHASES)))
                failed = [e for e in said if isinstance(e, PdpError) and e.code != "pdp_undefined"]
                if failed and failed[0].code == "pdp_error":
                    yield _problem(self._context, str(failed[0]))
                elif failed:
                    yield _endless(module, rule, failed[0])
                    return
        except EngineError as error:
            yield _problem(self._context, str(error))


def _files(context: Context) -> list[tuple[str, str]]:
    library = [(f.path, f.text) for f in sources.library()]
    return library + [(m.file.path, m.file.text) for m in context.modules]


def _asked(context: Context) -> dict[str, tuple[Module, Rule]]:
    """Every rule by its full name (its definitions are evaluated together), helpers before who uses them."""
    found: dict[str, tuple[Module, Rule]] = {}
    for module, rule in sorted(context.each_rule(), key=lambda pair: pair[1].name in combine.PUBLIC):
        if rule.shape != "function" and not rule.args:
            found.setdefault(f"data.{module.name}.{rule.name}", (module, rule))
    return found


def _endless(module: Module, rule: Rule, error: PdpError) -> Problem:
    """The process had to be ended, or ended, while it evaluated *rule*."""
    name = f"{module.name}.{rule.name}"
    return module.problem(
        rule.start,
        f"evaluating `{name}` for a call with no arguments {_HOW.get(error.code, 'failed')} ({error})",
        "Look at what it, and the functions that it calls, go through: bound each list and each "
        "numbers.range, and put what only some calls need behind the name of the tool.",
    )


_HOW = {
    "pdp_timeout": "takes too long: it may never end",
    "pdp_crashed": "ends the policy engine: it may need too much memory",
}


def _document(phase: str) -> JSON:
    """A call with nothing in it that a policy could object to."""
    return {
        "subject": {"type": "agent", "id": "trial", "properties": {"roles": []}},
        "action": {
            "name": phase,
            "properties": {"args": {}, "digest": "", "is_error": False, "result": None},
        },
        "resource": {"type": "tool", "id": "trial", "properties": {"runs": "in_process", "annotations": {}}},
        "context": {
            "time": "2026-01-01T00:00:00.000Z",
            "session": {"id": "trial"},
            "provenance": {"args": {}},
        },
    }


def _problem(context: Context, said: str) -> Problem:
    place, message = _PLACE.search(said), _SAID.search(said)
    text = message["said"] if message else said
    what = f"the policy engine refuses it: {text}"
    for module in context.modules:
        if place and module.file.path == place["file"]:
            line = int(place["line"])
            source = module.file.text.split("\n")[line - 1].replace("\t", " ")
            return Problem(module.file.path, line, int(place["column"]), what, _remedy(text), source)
    return Problem(context.modules[0].file.path, 1, 1, what, _remedy(text))


def _remedy(text: str) -> str:
    """What to write instead of what regorus says *text* about."""
    for said, remedy in _REMEDIES.items():
        if said in text:
            return remedy
    return "Correct this rule; the message is the policy engine's own."
