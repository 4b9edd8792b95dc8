"""What a LangChain tool returned, as JSON: for policy, for the record, and for taking values out of it.

A result is content, or content with an artifact, or a `ToolMessage`, or a `Command` whose update holds
messages, or a list of those. Policy sees the same tree: `{"content": …, "artifact": …}` for the second,
`{"command": {"update": …}}` for a `Command`, each message with its fields. What a policy redacts is put
back into a copy of the same type.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast

from langchain_core.messages import BaseMessage, ToolMessage
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from fumehood.canonical import JSON, MAX_DEPTH
from fumehood.errors import FumehoodError
from fumehood.functions import error_text, number_view, text_view

__all__ = ["rebuilt", "replayed", "viewed"]

_PAIR = {"content", "artifact"}
_IDENTITY = frozenset({"type", "id", "tool_call_id", "status"})  # what makes a message that message


def viewed(result: object, *, has_artifact: bool) -> tuple[JSON, bool]:
    """*result* as JSON, and whether `replayed` makes an equal result of it.

    Raises:
        FumehoodError: nested too deeply to be looked through.
    """
    if isinstance(result, BaseException):
        return error_text(result), False
    if has_artifact and isinstance(result, tuple) and len(result) == 2:
        view: JSON = {"content": _view(result[0], 1), "artifact": _view(result[1], 1)}
    else:
        view = _view(result, 0)
    return view, _is_same(replayed(view, has_artifact=has_artifact), result)


def rebuilt(result: object, view: JSON, *, has_artifact: bool) -> object:
    """A result of the same types as *result*, with the values of *view* in it.

    Raises:
        FumehoodError: something that changed cannot be written back.
    """
    if has_artifact and isinstance(result, tuple) and len(result) == 2:
        if not isinstance(view, dict) or set(view) != _PAIR:
            return view, None  # the whole result was redacted
        return _rebuild(result[0], view["content"]), _rebuild(result[1], view["artifact"])
    return _rebuild(result, view)


def replayed(view: JSON, *, has_artifact: bool) -> object:
    """The result that *view* was made of, as far as JSON tells."""
    if has_artifact and isinstance(view, dict) and set(view) == _PAIR:
        return _replay(view["content"]), _replay(view["artifact"])
    return _replay(view)


def _view(value: object, depth: int) -> JSON:
    if depth > MAX_DEPTH:
        text = f"the tool's result is nested deeper than {MAX_DEPTH} levels; return something flatter"
        raise FumehoodError(text)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text_view(value)
    if isinstance(value, int | float):
        return number_view(value)
    if isinstance(value, Mapping):
        shown = {text_view(key): _view(item, depth + 1) for key, item in value.items()}
        return shown if len(shown) == len(value) else text_view(value)  # 1 and "1" are two keys
    if isinstance(value, list | tuple | set | frozenset):
        return [_view(item, depth + 1) for item in value]
    parts = _parts(value)
    if parts is None:
        return _opaque(value)
    fields: JSON = {name: _view(item, depth + 1) for name, item in parts.items()}
    return {"command": fields} if _is_command(value) else fields


def _rebuild(value: object, view: JSON) -> object:
    """*value* with *view* in it; what did not change is kept as it is."""
    if _view(value, 0) == view:
        return value
    if isinstance(view, str):  # a list of messages must stay one: text in it would count as the user's
        return value.model_copy(update={"content": view}) if isinstance(value, BaseMessage) else view
    if isinstance(value, Mapping) and isinstance(view, dict):
        return {key: _rebuild(item, view.get(text_view(key))) for key, item in value.items()}
    if isinstance(value, list | tuple) and isinstance(view, list):
        made = [_rebuild(item, part) for item, part in zip(value, view, strict=True)]
        return tuple(made) if isinstance(value, tuple) else made
    parts = _parts(value)
    if parts is None or not isinstance(view, dict):
        raise FumehoodError(
            f"a {type(value).__name__} cannot be redacted; "
            "let the tool return text, a list, an object or messages"
        )
    fields = cast("dict[str, JSON]", view["command"]) if _is_command(value) else view
    kept = _IDENTITY if isinstance(value, BaseMessage) else frozenset()
    return _copied(value, {n: _rebuild(item, fields[n]) for n, item in parts.items() if n not in kept})


def _replay(view: JSON) -> object:
    if isinstance(view, list):
        return [_replay(item) for item in view]
    if not isinstance(view, dict):
        return view
    if set(view) == {"command"} and isinstance(view["command"], dict):
        from langgraph.types import Command  # not loaded by those who only guard tools

        fields: dict[str, Any] = {name: _replay(item) for name, item in view["command"].items()}
        return Command(**fields) if set(fields) <= set(Command.__dataclass_fields__) else view
    if view.get("type") == "tool" and set(view) == set(ToolMessage.model_fields):
        return ToolMessage.model_validate(view)
    return {name: _replay(item) for name, item in view.items()}


def _parts(value: object) -> dict[str, Any] | None:
    """The fields of a model or a dataclass; None for anything else."""
    if isinstance(value, BaseModel):
        named = {name: getattr(value, name) for name in type(value).model_fields}
        return {**named, **(value.model_extra or {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {n: v for n, v in named.items() if v not in (None, ())} if _is_command(value) else named
    return None


def _copied(value: object, fields: dict[str, Any]) -> object:
    if isinstance(value, BaseModel):
        return value.model_copy(update=fields)
    made = copy.copy(value)
    for name, item in fields.items():
        object.__setattr__(made, name, item)
    return made


def _is_command(value: object) -> bool:
    return type(value).__name__ == "Command" and type(value).__module__ == "langgraph.types"


def _opaque(value: object) -> JSON:
    """Anything else: as pydantic writes it, or its text."""
    if isinstance(value, Iterator):
        return text_view(value)  # looking into it would use it up
    try:
        made = to_jsonable_python(value)
    except (PydanticSerializationError, ValueError, TypeError):
        return text_view(value)
    return made if isinstance(made, str) else text_view(value)


def _is_same(made: object, result: object) -> bool:
    """True if both are equal, type by type (`1`, `1.0` and `True` are not the same)."""
    if type(made) is not type(result):
        return False
    if isinstance(made, dict) and isinstance(result, dict):
        return made.keys() == result.keys() and all(_is_same(made[k], result[k]) for k in made)
    if isinstance(made, list | tuple) and isinstance(result, list | tuple):
        return len(made) == len(result) and all(map(_is_same, made, result))
    parts, others = _parts(made), _parts(result)
    if parts is not None and others is not None:
        return _is_same(parts, others)
    return bool(made == result)
