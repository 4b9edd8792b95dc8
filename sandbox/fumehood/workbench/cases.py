"""Case tables: `*_cases.yaml`, one rule, many rows. Reads them strictly, and completes each row's input.

    cases:
      - name: a small refund runs at once
        input: {tool: issue_refund, args: {amount_usd: 40}, origins: {/amount_usd: user}}
        expect: {effect: permit}

An input is a fragment: what it does not say is filled in with what an ordinary call would have. What no
guard would ever send is an error, with its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from fumehood.canonical import JSON, require_plain
from fumehood.errors import BindError, Problem
from fumehood.model import Origin, Phase, PolicyInput
from fumehood.normalise import normalised
from fumehood.pdp.document import complaints_at
from fumehood.pdp.gate.context import nearest
from fumehood.pdp.sources import PolicyFile
from fumehood.workbench.located import Located, Path, YamlProblem, read_yaml
from fumehood.workbench.tools import ToolSchema

__all__ = ["ENDINGS", "Allowance", "Case", "Expected", "as_input", "cases_of", "completed", "dialect_of"]

ENDINGS = ("_cases.yaml", "_cases.yml")
Document = dict[str, JSON]
Text = Annotated[str, StringConstraints(min_length=1)]
Pointer = Annotated[str, Field(pattern=r"^/")]
Kind = Literal["removed", "nulled", "retyped", "negated", "untraced"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Fragment(_Strict):
    tool: Text | None = None
    args: dict[str, JsonValue] | None = None
    origins: dict[Pointer, Annotated[Origin, Field(strict=False)]] = {}
    subject: dict[str, JsonValue] = {}
    action: dict[str, JsonValue] = {}
    resource: dict[str, JsonValue] = {}
    context: dict[str, JsonValue] = {}


class _Expect(_Strict):
    effect: Literal["permit", "ask", "deny"]
    reasons: list[Text | dict[str, JsonValue]] | None = None
    obligations: list[dict[str, JsonValue]] | None = None


class _Allowed(_Strict):
    at: Pointer
    mutation: Kind
    because: Text


class _Case(_Strict):
    name: Text
    input: _Fragment
    expect: _Expect
    allow: list[_Allowed] = []


class _Table(_Strict):
    cases: list[_Case]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a row expects. Items are compared by the fields they name; None: anything."""

    effect: Literal["permit", "ask", "deny"]
    reasons: tuple[Mapping[str, JSON], ...] | None = None
    obligations: tuple[Mapping[str, JSON], ...] | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """A mutation of the argument at a JSON Pointer that may loosen the answer, and why."""

    at: str
    mutation: Kind
    because: str
    line: int


@dataclass(frozen=True, slots=True)
class Case:
    """One row: its whole policy input, what it expects, and where it stands."""

    name: str
    file: str
    line: int
    document: Document
    expected: Expected
    allowances: tuple[Allowance, ...] = ()
    has_own_forms: bool = False  # `context.normalised` was written by hand
    tool: ToolSchema | None = None  # where its schema is known


def cases_of(
    files: Sequence[PolicyFile], tools: Sequence[ToolSchema] = ()
) -> tuple[list[Case], list[Problem]]:
    """The rows of all case tables among *files*, and what is wrong with them."""
    cases: list[Case] = []
    problems: list[Problem] = []
    known = {tool.name: tool for tool in tools}
    for file in files:
        if file.name.endswith(ENDINGS):
            for found in _table(file, known):
                (problems if isinstance(found, Problem) else cases).append(found)  # type: ignore[arg-type]
    return cases, problems


def as_input(document: Document) -> PolicyInput:
    """The policy input that a guard would send."""
    phase = Phase(cast("str", cast("Document", document["action"])["name"]))
    body = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    return PolicyInput(phase, cast("str", cast("Document", document["resource"])["id"]), body)


def _table(file: PolicyFile, tools: Mapping[str, ToolSchema]) -> Iterator[Case | Problem]:
    try:
        located = read_yaml(file.text, file.path)
    except YamlProblem as error:
        yield error.problem
        return
    try:
        table = _Table.model_validate(located.value)
    except ValidationError as error:
        yield from _complaints(located, error)
        return
    seen: set[str] = set()
    for index, row in enumerate(table.cases):
        path: Path = ("cases", index)
        if row.name in seen:
            remedy = "Rename one of them."
            yield located.problem((*path, "name"), f"{row.name!r} is the name of another row", remedy)
        seen.add(row.name)
        yield from _row(located, path, row, tools)


def _complaints(located: Located, error: ValidationError) -> Iterator[Problem]:
    for one in error.errors():
        path, message, remedy = one["loc"], one["msg"], "See docs/workbench.md for what a row may have."
        if one["type"] == "extra_forbidden":
            known = _fields_at(path)
            hint = nearest(str(path[-1]), known)
            message, remedy = f"`{path[-1]}` is no field here{hint}", f"It may have {', '.join(known)}."
        elif one["type"] == "missing":
            message, remedy = f"`{path[-1]}` is missing", f"Add `{path[-1]}: …`."
        yield located.problem(path, message, remedy)


def _fields_at(path: Path) -> list[str]:
    by_depth: Mapping[str | int, type[BaseModel]] = {
        "input": _Fragment,
        "expect": _Expect,
        "allow": _Allowed,
    }
    model = _Table if len(path) < 2 else by_depth.get(path[2], _Case) if len(path) > 3 else _Case
    return list(model.model_fields)


def _row(
    located: Located, path: Path, row: _Case, tools: Mapping[str, ToolSchema]
) -> Iterator[Case | Problem]:
    clash = _clash(row.input)
    if clash:
        yield located.problem((*path, "input"), *clash)
        return
    document = completed(row.input.model_dump(mode="json", exclude_unset=True), tools)
    wrong = list(complaints_at(document))
    for place, said in wrong:
        yield located.problem((*path, "input", *_as_written(place)), f"the input is not one: {said}")
    try:
        require_plain(document)
    except BindError as error:
        yield located.problem((*path, "input"), f"no guard would send this: {error}")
        return
    if not wrong:
        tool = tools.get(cast("str", cast("Document", document["resource"])["id"]))
        yield replace(_case(located, path, row, document), tool=tool)


def _case(located: Located, path: Path, row: _Case, document: Document) -> Case:
    expected = Expected(row.expect.effect, _patterns(row.expect.reasons), _patterns(row.expect.obligations))
    allowances = tuple(
        Allowance(a.at, a.mutation, a.because, located.places[(*path, "allow", index)][0])
        for index, a in enumerate(row.allow)
    )
    own = "normalised" in row.input.context
    line = located.places[path][0]
    return Case(row.name, located.file, line, document, expected, allowances, has_own_forms=own)


def _patterns(items: Sequence[str | dict[str, JsonValue]] | None) -> tuple[Mapping[str, JSON], ...] | None:
    if items is None:
        return None
    return tuple(cast("Document", {"reason": i} if isinstance(i, str) else i) for i in items)


def _clash(fragment: _Fragment) -> tuple[str, str] | None:
    """The same thing said twice: in short, and as a part of the policy input."""
    properties = fragment.action.get("properties")
    if fragment.args is not None and isinstance(properties, dict) and "args" in properties:
        return "the arguments are given twice, as `args` and in `action`", "Keep one of them."
    if fragment.tool is not None and "id" in fragment.resource:
        return "the tool is given twice, as `tool` and as `resource.id`", "Keep one of them."
    if fragment.tool is None and "id" not in fragment.resource:
        return "no tool is named", "Write `tool: …`."
    provenance = fragment.context.get("provenance")
    if fragment.origins and isinstance(provenance, dict) and "args" in provenance:
        return "origins are given twice, as `origins` and in `context.provenance`", "Keep one of them."
    return None


def _as_written(place: Path) -> Path:
    """Where in a fragment the part of the whole document at *place* stands."""
    if place[:3] == ("action", "properties", "args"):
        return ("args", *place[3:])
    return place


def completed(fragment: Mapping[str, JSON], tools: Mapping[str, ToolSchema]) -> Document:
    """The whole policy input for a fragment: an ordinary call, with what the fragment says put over it."""
    document: Document = {
        "subject": {"type": "agent", "id": "case"},
        "action": {"name": "execute_tool", "properties": {"args": fragment.get("args") or {}}},
        "resource": {"type": "tool", "properties": {"runs": "in_process"}},
        "context": {
            "time": "2026-01-01T12:00:00.000Z",
            "session": {"id": "case"},
            "provenance": {"args": {}},
        },
    }
    resource = cast("Document", document["resource"])
    given = cast("Document", fragment.get("resource") or {})
    name = fragment.get("tool") or given.get("id")
    known = tools.get(name) if isinstance(name, str) else None
    if known and known.annotations:
        cast("Document", resource["properties"])["annotations"] = dict(known.annotations)
    if name is not None:
        resource["id"] = name
    origins = cast("Mapping[str, str]", fragment.get("origins") or {})
    _put(document, {"context": {"provenance": {"args": {at: [{"origin": o}] for at, o in origins.items()}}}})
    for part in ("subject", "action", "resource", "context"):
        _put(document, {part: fragment.get(part) or {}})
    with_forms(document)
    return document


def with_forms(document: Document) -> None:
    """Add what Fumehood works out of the arguments for each call: paths, URLs, commands."""
    context = document.get("context")
    action = cast("Document", document["action"]).get("properties")
    if isinstance(context, dict) and isinstance(action, dict) and "normalised" not in context:
        context["normalised"] = normalised(action.get("args"), sql_dialect=dialect_of(document))


def dialect_of(document: Document) -> str | None:
    """What the tool's annotations say that its SQL is written in."""
    found: JSON = document
    for name in ("resource", "properties", "annotations", "sql_dialect"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _put(into: Document, more: Mapping[str, JSON]) -> None:
    for name, value in more.items():
        here = into.get(name)
        if isinstance(here, dict) and isinstance(value, dict):
            _put(here, value)
        else:
            into[name] = value
