"""A policy input from what a person writes: a fragment, filled in with what a guard would send for an
ordinary call. Rows of case tables and calls of `eval`, `explain` and `bench` are completed alike, here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from fumehood.canonical import JSON
from fumehood.model import Phase
from fumehood.normalise import normalised

if TYPE_CHECKING:
    from fumehood.workbench.tools import ToolSchema

__all__ = ["FIELDS", "PARTS", "Document", "Ordinary", "clash", "completed", "dialect_of", "with_forms"]

PARTS = ("subject", "action", "resource", "context")
FIELDS = ("tool", "args", "phase", "origins", *PARTS)

_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
Document = dict[str, JSON]


@dataclass(frozen=True, slots=True)
class Ordinary:
    """What an ordinary call has: agent and session are called `name`, it is `at` (Unix seconds), and paths
    are relative to `cwd`."""

    name: str = "case"
    at: float = _NOON
    cwd: str | None = None


def completed(
    fragment: Mapping[str, JSON], tools: Mapping[str, ToolSchema], ordinary: Ordinary | None = None
) -> Document:
    """The whole policy input: *ordinary*, with what the fragment says put over it. *tools* know their
    annotations."""
    document = _usual(fragment, tools, ordinary or Ordinary())
    given = {part: value for part in PARTS if isinstance(value := fragment.get(part), dict)}
    whole = _merged(document, cast("Mapping[str, JSON]", given))
    with_forms(whole, cwd=ordinary.cwd if ordinary else None)
    return whole


def clash(fragment: Mapping[str, JSON]) -> tuple[str, str] | None:
    """What is said twice, in short and as a part of the policy input, or not at all; and the remedy."""
    action, resource, context = (_object(fragment.get(n)) for n in ("action", "resource", "context"))
    if fragment.get("args") is not None and "args" in _object(action.get("properties")):
        return "the arguments are given twice, as `args` and in `action`", "Keep one of them."
    if fragment.get("tool") is not None and "id" in resource:
        return "the tool is given twice, as `tool` and as `resource.id`", "Keep one of them."
    if fragment.get("phase") is not None and "name" in action:
        return "the phase is given twice, as `phase` and as `action.name`", "Keep one of them."
    if fragment.get("tool") is None and "id" not in resource:
        return "no tool is named", "Write `tool: …`."
    if fragment.get("origins") and "args" in _object(context.get("provenance")):
        return "origins are given twice, as `origins` and in `context.provenance`", "Keep one of them."
    return None


def with_forms(document: Document, *, cwd: str | None = None) -> None:
    """Add what Fumehood works out of the arguments for each call: paths, URLs, commands."""
    context = document.get("context")
    action = _object(document.get("action")).get("properties")
    if isinstance(context, dict) and isinstance(action, dict) and "normalised" not in context:
        here = cwd if _runs(document) == "in_process" else None
        context["normalised"] = normalised(action.get("args"), cwd=here, sql_dialect=dialect_of(document))


def dialect_of(document: Mapping[str, JSON]) -> str | None:
    """What the tool's annotations say that its SQL is written in."""
    properties = _object(_object(document.get("resource")).get("properties"))
    found = _object(properties.get("annotations")).get("sql_dialect")
    return found if isinstance(found, str) else None


def _usual(fragment: Mapping[str, JSON], tools: Mapping[str, ToolSchema], ordinary: Ordinary) -> Document:
    action, given = _object(fragment.get("action")), _object(fragment.get("resource"))
    name = fragment.get("tool") if fragment.get("tool") is not None else given.get("id")
    known = tools.get(name) if isinstance(name, str) else None
    annotations: JSON = dict(known.annotations) if known else {}
    phase = fragment.get("phase") or action.get("name") or Phase.EXECUTE_TOOL.value
    context: Document = {"time": _rfc3339(ordinary.at), "session": {"id": ordinary.name}}
    if phase == Phase.EXECUTE_TOOL:
        context["history"] = []
        context["counters"] = {"session": {}, "windows": {"60": {"calls": 0}, "3600": {"calls": 0}}}
        origins = _object(fragment.get("origins"))
        sources: JSON = {at: [{"origin": origin, "source": "given"}] for at, origin in origins.items()}
        context["provenance"] = {"args": sources}
    args = fragment.get("args")
    return {
        "subject": {"type": "agent", "id": ordinary.name, "properties": {"roles": []}},
        "action": {"name": phase, "properties": {"args": {} if args is None else args}},
        "resource": {
            "type": "tool",
            "id": name,
            "properties": {"runs": "in_process", "annotations": annotations},
        },
        "context": context,
    }


def _merged(base: Document, over: Mapping[str, JSON]) -> Document:
    """*base* with *over* put into it, object by object; arguments and provenance are taken as they are."""
    found = dict(base)
    for name, value in over.items():
        before = found.get(name)
        is_whole = name in ("args", "provenance")
        if isinstance(before, dict) and isinstance(value, dict) and not is_whole:
            found[name] = _merged(before, value)
        else:
            found[name] = value
    return found


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _runs(document: Mapping[str, JSON]) -> JSON:
    return _object(_object(document.get("resource")).get("properties")).get("runs")


def _object(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}
