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
from fumehood.pdp.document import complaints_at
from fumehood.pdp.gate.context import nearest
from fumehood.pdp.sources import PolicyFile
from fumehood.workbench.completing import Document, clash, completed
from fumehood.workbench.located import Located, Path, YamlProblem, read_yaml
from fumehood.workbench.tools import ToolSchema

__all__ = ["ENDINGS", "Allowance", "Case", "Expected", "as_input", "cases_of"]

ENDINGS = ("_cases.yaml", "_cases.yml")
Text = Annotated[str, StringConstraints(min_length=1)]
Pointer = Annotated[str, Field(pattern=r"^/")]
Kind = Literal["removed", "nulled", "retyped", "negated", "untraced"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Fragment(_Strict):
    tool: Text | None = None
    args: dict[str, JsonValue] | None = None
    phase: Annotated[Phase, Field(strict=False)] | None = None
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
    fragment = row.input.model_dump(mode="json", exclude_unset=True)
    twice = clash(fragment)
    if twice:
        yield located.problem((*path, "input"), *twice)
        return
    document = completed(fragment, tools)
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


def _as_written(place: Path) -> Path:
    """Where in a fragment the part of the whole document at *place* stands."""
    if place[:3] == ("action", "properties", "args"):
        return ("args", *place[3:])
    return place
