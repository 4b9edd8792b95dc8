"""An explanation as text that a policy's author can act on, and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fumehood.canonical import JSON
from fumehood.display import clip
from fumehood.model import Decision
from fumehood.workbench.explanation import Condition, Definition, Explanation, Value

__all__ = ["answer_word", "as_dict", "decision_dict", "decision_lines", "explanation_lines"]

_VALUE = 160  # characters of a value
_TEXT = 200  # characters of a condition


def answer_word(decision: Decision | None) -> str:
    """What becomes of the call: permit (at once), ask (a person must agree) or deny."""
    if decision is None or not decision.is_permit:
        return "deny"
    return "ask" if decision.approvals else "permit"


def decision_dict(decision: Decision) -> dict[str, Any]:
    """A decision for a program."""
    return {
        "effect": decision.effect.value,
        "reasons": [_said(r) for r in decision.reasons],
        "obligations": [{"type": type(o).__name__.lower(), **_said(o)} for o in decision.obligations],
        "rules": list(decision.rules),
        "revision": decision.revision,
    }


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """An explanation for a program."""
    decision = explanation.decision
    return {
        "answer": answer_word(decision),
        "decision": decision_dict(decision) if decision else None,
        "error": explanation.error or None,
        "not_recorded": list(explanation.missing),
        "rules": [_definition(d) for d in explanation.definitions],
    }


def decision_lines(decision: Decision | None, error: str = "") -> Iterator[str]:
    """The answer first."""
    if decision is None:
        yield f"DENY  the policies cannot decide this: {error}"
        return
    yield f"{answer_word(decision).upper()}  {decision.revision[:19]}"
    for reason in decision.reasons:
        detail = f"  (detail: {clip(reason.detail, _VALUE)})" if reason.detail else ""
        yield f"  {reason.text}  [{reason.rule or reason.code}]{detail}"
    for obligation in decision.obligations:
        said = {k: v for k, v in _said(obligation).items() if k != "rule"}
        rule = getattr(obligation, "rule", None) or ""
        yield f"  {type(obligation).__name__.lower()} {clip(_json(said), _TEXT)}  [{rule}]"
    if decision.is_permit and decision.confinements:
        yield "  (a tool that runs in the agent's own process cannot be, and is denied: cannot_confine)"


def explanation_lines(explanation: Explanation, *, is_verbose: bool = False) -> Iterator[str]:
    """The decision, what fired, what nearly did, and what cannot be said."""
    yield from decision_lines(explanation.decision, explanation.error)
    if explanation.missing:
        yield ""
        yield f"Not in the record as it was (redacted, or not kept): {', '.join(explanation.missing)}"
    found = explanation.definitions
    yield from _section("Fired", [d for d in found if d.outcome == "fired"])
    near = [d for d in found if d.outcome == "stopped" and d.passed > 0]
    near.sort(key=lambda d: (d.total - d.passed, d.rule, d.line))
    yield from _section("Nearly", near)
    odd = [d for d in found if d.outcome not in ("fired", "stopped")]
    yield from _section("Cannot be said, or not without an error", odd)
    far = [d for d in found if d.outcome == "stopped" and d.passed == 0]
    if is_verbose or not (near or odd or any(d.outcome == "fired" for d in found)):
        yield from _section("Not near: the first condition does not hold", far)
    elif far:
        rules = "rule" if len(far) == 1 else "rules"
        yield ""
        yield f"{len(far)} more {rules} of which not even the first condition holds; -v shows them."


def _section(title: str, definitions: Sequence[Definition]) -> Iterator[str]:
    if definitions:
        yield ""
        yield title
        for definition in definitions:
            yield from _lines(definition, 2)


def _lines(definition: Definition, indent: int) -> Iterator[str]:
    space = " " * indent
    count = (
        f"  {definition.passed} of {definition.total} conditions hold"
        if definition.outcome == "stopped"
        else ""
    )
    note = f"  {definition.outcome}: {definition.note}" if definition.note else ""
    word = f"  {definition.outcome}" if not note and definition.outcome not in ("fired", "stopped") else ""
    yield f"{space}{definition.rule}  {definition.file}:{definition.line}{count}{word}{note}"
    if definition.outcome == "fired" and definition.says not in (None, True):
        yield f"{space}  says {clip(_json(definition.says), _TEXT)}"
    for condition in definition.conditions:
        yield from _condition(definition, condition, indent + 4)


def _condition(definition: Definition, condition: Condition, indent: int) -> Iterator[str]:
    space, holds = " " * indent, condition.outcome == "holds"
    mark = {"holds": "+", "fails": "-", "error": "!"}.get(condition.outcome, "?")
    text = clip(" ".join(condition.text.split()), _TEXT)
    place = "" if holds else f"  {Path(definition.file).name}:{condition.line}:{condition.column}"
    said = "; ".join(filter(None, map(_value, condition.values)))
    yield f"{space}{mark} {text}{place}"
    if said:
        yield f"{space}    {said}"
    if condition.hint:
        yield f"{space}    {'to hold: ' if condition.outcome == 'fails' else ''}{condition.hint}"
    fitting = [
        d for d in condition.because if not holds or d.outcome == "fired" or len(condition.because) == 1
    ]
    for helper in fitting:
        yield from _lines(helper, indent + 4)


def _value(value: Value) -> str:
    if not value.is_known:
        return ""
    if not value.values:
        return f"{_one_line(value.text)} is undefined" if not value.text.startswith("what fails") else ""
    shown = " or ".join(clip(_rego(v), _VALUE) for v in value.values)
    return f"{_one_line(value.text)} is {shown}{' or more' if value.has_more else ''}"


def _one_line(text: str) -> str:
    return clip(" ".join(text.split()), _VALUE)


def _definition(definition: Definition) -> dict[str, Any]:
    return {
        "rule": definition.rule,
        "file": definition.file,
        "line": definition.line,
        "outcome": definition.outcome,
        "says": definition.says,
        "conditions_held": definition.passed,
        "conditions": definition.total,
        "note": definition.note,
        "reached": [
            {
                "line": c.line,
                "column": c.column,
                "text": c.text,
                "outcome": c.outcome,
                "to_hold": c.hint,
                "values": [dataclasses.asdict(v) for v in c.values],
                "because": [_definition(d) for d in c.because],
            }
            for c in definition.conditions
        ],
    }


def _said(value: Any) -> dict[str, Any]:
    """The fields of a reason or obligation that say something."""
    found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {name: item for name, item in found.items() if item not in (None, (), False)}


def _rego(value: JSON) -> str:
    """A value as one would write it: a set is told from a list."""
    if isinstance(value, dict) and list(value) == ["set"] and isinstance(value["set"], list):
        return f"{{{', '.join(map(_json, value['set']))}}}" if value["set"] else "set()"
    return _json(value)


def _json(value: JSON | dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
