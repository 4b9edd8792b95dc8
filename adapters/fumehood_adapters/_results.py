"""What a LangChain tool returned, as JSON: for policy, for the record, and for taking values out of it.

A result is content, or content with an artifact, or a `ToolMessage`, or a `Command` whose update holds
messages, or a list of those. Policy sees the same tree: `{"content": …, "artifact": …}` for the second,
`{"command": {"update": …}}` for a `Command`, each message with its fields. What a policy redacts is put
back into a copy of the same type.

A model is shown the text of an object, which may say more than its fields. So an object that has a text of
its own, or computed fields, shows them beside its fields (`__str__` is the text).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any, cast

from langchain_core.messages import BaseMessage, ToolMessage
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from fumehood.canonical import JSON, MAX_DEPTH
from fumehood.errors import FumehoodError
from fumehood.functions import error_text, number_view, text_view

__all__ = ["rebuilt", "replayed", "viewed"]

_PAIR = {"content", "artifact"}
_TEXT_OF_MODEL = ("__str__", "__repr__", "__repr_str__", "__repr_args__", "__repr_name__")
_IDENTITY = frozenset({"type", "id", "tool_call_id", "status"})  # what makes a message that message


def viewed(result: object, *, has_artifact: bool) -> tuple[JSON, bool]:
    """*result* as JSON, and whether `replayed` makes an equal result of it.

    Raises:
        FumehoodError: nested too deeply to be looked through.
    """
    if isinstance(result, BaseException):
        return _error(result), False
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


def _error(error: BaseException) -> str:
    """Its text, and its first argument, which is what `handle_tool_error=True` hands on."""
    text = error_text(error)
    first = _texts(error.args[0]) if error.args else ""
    return text if first in text else f"{text}\n{first}"


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
        shown = {_key(key): _view(item, depth + 1) for key, item in value.items()}
        if not isinstance(value, dict) and _speaks(type(value)):
            return {**shown, "__str__": _texts(value)}
        return shown if len(shown) == len(value) else text_view(value)  # 1 and "1" are two keys
    if isinstance(value, list | tuple | set | frozenset):
        items = [_view(item, depth + 1) for item in value]
        return (
            [*items, _texts(value)] if isinstance(value, set | frozenset) and _speaks(type(value)) else items
        )
    parts = _parts(value)
    if parts is None:
        return _opaque(value)
    fields: JSON = {name: _view(item, depth + 1) for name, item in {**parts, **_derived(value)}.items()}
    return {"command": fields} if _is_command(value) else fields


def _rebuild(value: object, view: JSON) -> object:
    """*value* with *view* in it; what did not change is kept as it is."""
    if _view(value, 0) == view:
        return value
    if isinstance(view, str):  # a list of messages must stay one: text in it would count as the user's
        return value.model_copy(update={"content": view}) if isinstance(value, BaseMessage) else view
    if isinstance(value, Mapping) and isinstance(view, dict):
        pairs = zip(value.items(), view.items(), strict=False)  # in one order; a text of its own comes last
        return {k if _key(k) == n else n: _rebuild(item, part) for (k, item), (n, part) in pairs}
    if isinstance(value, list | tuple) and isinstance(view, list):
        made = [_rebuild(item, part) for item, part in zip(value, view, strict=True)]
        return tuple(made) if isinstance(value, tuple) else made
    parts = _parts(value)
    if parts is None or not isinstance(view, dict):
        raise _unwritable(value)
    fields = cast("dict[str, JSON]", view["command"]) if _is_command(value) else view
    kept = _IDENTITY if isinstance(value, BaseMessage) else frozenset()
    copied = _copied(value, {n: _rebuild(item, fields[n]) for n, item in parts.items() if n not in kept})
    before, after = _derived(value), _derived(copied)
    if any(fields[name] not in (_view(old, 1), _view(after[name], 1)) for name, old in before.items()):
        raise _unwritable(value)  # what was redacted there is not made of the fields
    return copied


def _unwritable(value: object) -> FumehoodError:
    return FumehoodError(
        f"a {type(value).__name__} cannot be redacted; "
        "let the tool return text, a list, an object or messages"
    )


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


def _derived(value: object) -> dict[str, Any]:
    """What an object shows beside its fields: computed ones, and a text of its own."""
    if isinstance(value, BaseMessage) or _is_command(value):
        return {}
    computed = type(value).model_computed_fields if isinstance(value, BaseModel) else {}
    shown = {name: getattr(value, name) for name in computed}
    return shown if _has_plain_text(type(value)) else {**shown, "__str__": _texts(value)}


def _has_plain_text(kind: type) -> bool:
    """True if the text of a model or dataclass is made of its fields, by pydantic or `dataclasses`."""
    if issubclass(kind, BaseModel):
        return all(getattr(kind, name) is getattr(BaseModel, name) for name in _TEXT_OF_MODEL)
    code = getattr(getattr(kind.__repr__, "__wrapped__", None), "__code__", None)  # one that was generated
    return kind.__str__ is object.__str__ and getattr(code, "co_filename", "") == "<string>"


def _speaks(kind: type) -> bool:
    """True if the text of a *kind* is written in Python: it may say anything."""
    return isinstance(kind.__str__, FunctionType) or isinstance(kind.__repr__, FunctionType)


def _key(key: object) -> str:
    return text_view(key) if isinstance(key, str) else _texts(key)


def _texts(value: object) -> str:
    """What `str` says, and `repr` if it says something else (it is what stands inside a list)."""
    texts = [text_view(value)]
    if type(value).__repr__ is not object.__repr__:
        texts.append(text_view(repr(value)))
    return "\n".join(dict.fromkeys(texts))


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
        return _texts(value)
    return made if isinstance(made, str) else _texts(value)


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
