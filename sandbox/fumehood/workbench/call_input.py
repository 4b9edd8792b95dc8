"""Calls that a person writes as JSON: checked, and completed to whole policy inputs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import cast

from fumehood.canonical import JSON, MAX_DOCUMENT_BYTES, canonical, parse
from fumehood.errors import BindError
from fumehood.model import Phase
from fumehood.pdp.document import complaints
from fumehood.pdp.gate.context import nearest
from fumehood.workbench.completing import FIELDS, PARTS, Document, Ordinary, clash, completed
from fumehood.workbench.tools import ToolSchema

__all__ = ["document_from", "documents_from"]

_OBJECTS = ("args", "origins", *PARTS)
_EXAMPLES = {"args": '{"id": 881}', "origins": '{"/amount_usd": "user"}'}


def documents_from(text: bytes, tools: Sequence[ToolSchema] = ()) -> list[JSON]:
    """The policy inputs of a JSON text: one fragment, or a list of them.

    Raises:
        BindError: it is no JSON, or `document_from` refuses one of them (its number is said).
    """
    given = parse(text)
    if not isinstance(given, list):
        return [document_from(given, tools=tools)]
    found: list[JSON] = []
    for n, item in enumerate(given):
        try:
            found.append(document_from(item, tools=tools))
        except BindError as error:
            raise BindError(f"call {n} of the list: {error}") from error
    return found


def document_from(given: JSON, *, at: float | None = None, tools: Sequence[ToolSchema] = ()) -> JSON:
    """The whole policy input of a fragment.

    A fragment has `tool` and `args`, and may have `phase` (execute_tool unless it says otherwise),
    `origins` ({pointer: origin}) and any part of `subject`, `action`, `resource` and `context`, which
    take the place of what is filled in. A whole input is such a fragment, too. *at* is Unix seconds;
    *tools* know their annotations.

    Raises:
        BindError: a field that does not exist, a wrong type, no tool; over 1 MiB.
    """
    if not isinstance(given, dict):
        raise BindError('a call is a JSON object such as {"tool": "read_ticket", "args": {"id": 881}}')
    _require_fields(given)
    _require_small(given)  # before arguments are parsed
    ordinary = Ordinary("agent", time.time() if at is None else at, os.getcwd())  # noqa: PTH109
    whole = completed(given, {tool.name: tool for tool in tools}, ordinary)
    wrong = complaints(cast("JSON", whole))
    if wrong:
        raise BindError("this is no policy input: " + "; ".join(wrong[:5]))
    _require_small(whole)
    return cast("JSON", whole)


def _require_small(document: Document) -> None:
    if len(canonical(document)) > MAX_DOCUMENT_BYTES:
        raise BindError(f"the policy input is over {MAX_DOCUMENT_BYTES} bytes, which the guard would refuse")


def _require_fields(given: Mapping[str, JSON]) -> None:
    for name in given:
        if name not in FIELDS:
            raise BindError(
                f"a call has no field {name!r}{nearest(name, FIELDS)}; it may have: {', '.join(FIELDS)}"
            )
    phase = given.get("phase", "execute_tool")
    if phase not in list(Phase):
        raise BindError(f"phase is {phase!r}; it is one of: {', '.join(Phase)}")
    for name in _OBJECTS:
        if not isinstance(given.get(name, {}), dict):
            raise BindError(f"{name} is an object such as {_EXAMPLES.get(name, '{…}')}")
    twice = clash(given)
    if twice:
        raise BindError(" ".join((f"{twice[0]}.", twice[1])))
