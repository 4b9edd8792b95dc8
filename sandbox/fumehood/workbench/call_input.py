"""A policy input from what a person writes: a fragment, filled in with what the guard would send."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from fumehood.canonical import JSON, MAX_DOCUMENT_BYTES, canonical, parse
from fumehood.errors import BindError
from fumehood.model import Phase
from fumehood.normalise import normalised
from fumehood.pdp.document import complaints
from fumehood.workbench.cases import dialect_of

__all__ = ["FIELDS", "document_from", "documents_from"]

_PARTS = ("subject", "action", "resource", "context")
FIELDS = ("tool", "args", "phase", "origins", *_PARTS)

Object = dict[str, JSON]


def documents_from(text: bytes) -> list[JSON]:
    """The policy inputs of a JSON text: one fragment, or a list of them.

    Raises:
        BindError: it is no JSON, or `document_from` refuses one of them (its number is said).
    """
    given = parse(text)
    if not isinstance(given, list):
        return [document_from(given)]
    found: list[JSON] = []
    for n, item in enumerate(given):
        try:
            found.append(document_from(item))
        except BindError as error:
            raise BindError(f"call {n} of the list: {error}") from error
    return found


def document_from(given: JSON, *, at: float | None = None) -> JSON:
    """The whole policy input of a fragment.

    A fragment has `tool` and `args`, and may have `phase` (execute_tool unless it says otherwise),
    `origins` ({pointer: origin}) and any part of `subject`, `action`, `resource` and `context`, which
    take the place of what is filled in. A whole input is such a fragment, too. *at* is Unix seconds.

    Raises:
        BindError: a field that does not exist, a wrong type, no tool; over 1 MiB.
    """
    if not isinstance(given, dict):
        raise BindError('a call is a JSON object such as {"tool": "read_ticket", "args": {"id": 881}}')
    _refuse_unknown(given)
    whole = _merged(
        _filled_in(given, time.time() if at is None else at), {p: given[p] for p in _PARTS if p in given}
    )
    wrong = complaints(cast("JSON", whole))
    if wrong:
        raise BindError("this is no policy input: " + "; ".join(wrong[:5]))
    _require_small(whole)  # before arguments are parsed
    context = cast("Object", whole["context"])
    if "normalised" not in context:
        context["normalised"] = normalised(_arguments(whole), cwd=_cwd(whole), sql_dialect=dialect_of(whole))
        _require_small(whole)
    return cast("JSON", whole)


def _require_small(whole: Object) -> None:
    if len(canonical(whole)) > MAX_DOCUMENT_BYTES:
        raise BindError(f"the policy input is over {MAX_DOCUMENT_BYTES} bytes, which the guard would refuse")


def _refuse_unknown(given: Mapping[str, JSON]) -> None:
    for name in given:
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1)
            meant = f'; did you mean "{close[0]}"?' if close else ";"
            raise BindError(f"a call has no field {name!r}{meant} it may have: {', '.join(FIELDS)}")
    phase = given.get("phase", "execute_tool")
    if phase not in list(Phase):
        raise BindError(f"phase is {phase!r}; it is one of: {', '.join(Phase)}")
    if not isinstance(given.get("origins", {}), dict):
        raise BindError('origins is an object such as {"/amount_usd": "user"}')
    resource = given.get("resource")
    if "tool" not in given and not (isinstance(resource, dict) and "id" in resource):
        raise BindError('no tool is named: write "tool": "…"')


def _filled_in(given: Mapping[str, JSON], at: float) -> Object:
    phase = given.get("phase", "execute_tool")
    origins = cast("Mapping[str, JSON]", given.get("origins", {}))
    sources = {pointer: [{"origin": origin, "source": "given"}] for pointer, origin in origins.items()}
    properties: Object = {"args": given.get("args", {})}
    context: Object = {
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "session": {"id": "given"},
    }
    if phase == Phase.EXECUTE_TOOL:
        windows: JSON = {"60": {"calls": 0}, "3600": {"calls": 0}}
        context["history"] = []
        context["counters"] = {"session": {}, "windows": windows}
        context["provenance"] = {"args": cast("JSON", sources)}
    return {
        "subject": {"type": "agent", "id": "agent", "properties": {"roles": []}},
        "action": {"name": phase, "properties": properties},
        "resource": {
            "type": "tool",
            "id": given.get("tool"),
            "properties": {"runs": "in_process", "annotations": {}},
        },
        "context": context,
    }


def _merged(base: Object, over: Mapping[str, JSON]) -> Object:
    """*base* with *over* put into it, object by object; arguments and provenance are taken as they are."""
    found = dict(base)
    for name, value in over.items():
        before = found.get(name)
        is_merged = (
            isinstance(before, dict) and isinstance(value, dict) and name not in ("args", "provenance")
        )
        found[name] = _merged(before, value) if is_merged else value  # type: ignore[arg-type]
    return found


def _arguments(whole: Mapping[str, JSON]) -> JSON:
    try:
        return cast("JSON", whole["action"]["properties"]["args"])  # type: ignore[index,call-overload]
    except (KeyError, TypeError):
        return {}


def _cwd(whole: Mapping[str, JSON]) -> str | None:
    try:
        is_here = whole["resource"]["properties"]["runs"] == "in_process"  # type: ignore[index,call-overload]
    except (KeyError, TypeError):
        is_here = False
    return os.getcwd() if is_here else None  # noqa: PTH109
