"""Evaluates every rule once: what regorus only reports when it gets there is found before it decides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from fumehood.canonical import JSON
from fumehood.errors import PdpError, Problem
from fumehood.pdp import combine, sources
from fumehood.pdp.engine import Engine, EngineError
from fumehood.pdp.gate.context import Context
from fumehood.pdp.syntax import Rule

__all__ = ["check_trial"]

_PLACE = re.compile(r"-->\s*(?P<file>[^\n]*):(?P<line>\d+):(?P<column>\d+)")
_SAID = re.compile(r"^error: (?P<said>.*)$", re.MULTILINE)

_REMEDIES = {
    "expects": "Check the type in a statement before: is_number(x), is_string(x), is_array(x).",
    "used before definition": "Declare the variable in a statement before, or in the same list of `some`.",
    "divide by zero": "Check in a statement before that the divisor is not 0.",
    "multiple": "Let one definition hold at a time, or join them with `else`.",
    "conflict": "Let one definition hold at a time, or join them with `else`.",
}


def check_trial(context: Context) -> Iterator[Problem]:
    files = [(f.path, f.text) for f in sources.library()] + [
        (m.file.path, m.file.text) for m in context.modules
    ]
    try:
        engine = Engine(files, json.dumps(context.data))
    except EngineError as error:
        yield _problem(context, str(error))
        return
    asked: dict[str, Rule] = {}  # all definitions of a rule are evaluated together
    for module, rule in context.each_rule():
        if rule.shape != "function" and not rule.args:
            asked.setdefault(f"data.{module.name}.{rule.name}", rule)
    for path, rule in asked.items():
        yield from _once(context, engine, path, rule)


def _once(context: Context, engine: Engine, path: str, rule: Rule) -> Iterator[Problem]:
    ask = engine.query if rule.shape == "object" else engine.evaluate
    for phase in combine.PHASES:
        try:
            ask(path, json.dumps(_document(phase)))
        except PdpError as error:
            if error.code != "pdp_undefined":
                yield _problem(context, str(error))
                return


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
