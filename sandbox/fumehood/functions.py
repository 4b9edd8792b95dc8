"""Plain Python functions as tools: their signature is the schema, their call is the body."""

from __future__ import annotations

import functools
import inspect
import math
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, create_model
from pydantic_core import to_jsonable_python

from fumehood.binding import Bound, bind_model, define
from fumehood.canonical import JSON, MAX_DEPTH
from fumehood.errors import BindError, ConfigError, FumehoodError
from fumehood.model import Annotations, Confine, Runs, ToolDefinition

__all__ = [
    "FunctionBody",
    "FunctionTool",
    "error_text",
    "hints_of",
    "is_async",
    "jsonable",
    "number_view",
    "text_view",
    "tool_of",
]

_MAX_INT = 2**53


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function with its frozen definition and the model of its arguments."""

    definition: ToolDefinition
    schema: type[BaseModel]
    function: Callable[..., object]
    positional_only: tuple[str, ...] = ()

    def arguments(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """The call's arguments by name.

        Raises:
            BindError: they do not fit the signature.
        """
        try:
            bound = inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise BindError(f"{self.definition.name}: {error}") from error
        return _flat(inspect.signature(self.function), bound.arguments)

    def values(self, value: BaseModel) -> dict[str, Any]:
        """The bound object's fields by name."""
        return {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})

    def invoke(self, value: BaseModel) -> object:
        """Call the function with the bound object's fields, in its own way of taking them."""
        given = self.values(value)
        first = [given.pop(name) for name in self.positional_only]
        return self.function(*first, **given)


@dataclass(frozen=True, slots=True)
class FunctionBody:
    """One call of a function tool (see `fumehood.binding.Body`)."""

    tool: FunctionTool
    given: Callable[[], Mapping[str, object]]
    call_id: str | None = None

    @property
    def definition(self) -> ToolDefinition:
        return self.tool.definition

    @property
    def is_async(self) -> bool:
        return is_async(self.tool.function)

    def bind(self) -> Bound:
        return bind_model(self.tool.schema, self.given())

    def run(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object:
        result = self.tool.invoke(cast("BaseModel", bound.value))
        if isinstance(result, Coroutine):
            result.close()
        if isinstance(result, AsyncIterator) or inspect.isawaitable(result):  # nothing of it has run yet
            raise FumehoodError(
                f"{self.definition.name} is a coroutine function, or returned something to be awaited; "
                "declare it `async def` and await it, or use `acall`"
            )
        # A generator's body has not run yet: it has to run here, while the call is on record.
        return list(result) if isinstance(result, Iterator) else result

    async def arun(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object:
        result = self.tool.invoke(cast("BaseModel", bound.value))
        if isinstance(result, AsyncIterator):
            return [item async for item in result]
        if inspect.isawaitable(result):
            result = await result
        return list(result) if isinstance(result, Iterator) else result

    def view(self, result: object, /) -> tuple[JSON, bool]:
        return jsonable(result)

    def rebuild(self, result: object, view: JSON, /) -> object:
        if type(result) in (str, int, float, bool, list, dict):
            return view
        raise FumehoodError(
            f"a {type(result).__name__} cannot be redacted; let the tool return text, a list or an object"
        )

    def replay(self, view: JSON, /) -> object:
        return view

    def is_interrupt(self, error: BaseException, /) -> bool:
        return False


def tool_of(
    function: Callable[..., object],
    *,
    name: str | None = None,
    description: str | None = None,
    annotations: Annotations | Mapping[str, object] | None = None,
    runs: Runs = Runs.IN_PROCESS,
) -> FunctionTool:
    """*function* as a tool.

    Raises:
        ConfigError: its signature cannot be a schema, or annotations name an argument it lacks.
    """
    called: str = name or getattr(function, "__name__", None) or ""
    schema = _schema(called, function)
    definition = define(
        called,
        description=inspect.getdoc(function) or "" if description is None else description,
        schema=schema.model_json_schema(),
        annotations=annotations,
        runs=runs,
    )
    only = tuple(
        n
        for n, p in inspect.signature(function).parameters.items()
        if p.kind is inspect.Parameter.POSITIONAL_ONLY
    )
    return FunctionTool(definition, schema, function, only)


def is_async(function: Callable[..., object]) -> bool:
    """True if calling *function* gives something to be awaited, or an asynchronous generator."""
    body = _hinted(function)
    return inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body)


def jsonable(result: object) -> tuple[JSON, bool]:
    """*result* as JSON, and whether that JSON is the result itself.

    What JSON cannot hold becomes text where it stands, so that rules about the rest still find it. An
    exception shows its type, its text, and those of every exception behind it.
    """
    if isinstance(result, BaseException):
        return error_text(result), False
    view = _view(result, 0)
    return view, type(result) in (str, int, float, bool, list, dict, type(None)) and view == result


def error_text(error: BaseException) -> str:
    """An exception with every other behind it: what a rule about results has to see."""
    shown = traceback.TracebackException.from_exception(error, limit=0).format(chain=True)
    text = text_view("".join(shown)).strip()
    return (
        text if text == text_view(f"{type(error).__name__}: {error}") else f"{text}\n{text_view(repr(error))}"
    )


def _view(value: object, depth: int) -> JSON:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text_view(value)
    if isinstance(value, int | float):
        return number_view(value)
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    if depth >= MAX_DEPTH or isinstance(value, Iterator):  # looking into an iterator would use it up
        return text_view(value)
    if isinstance(value, Mapping):
        shown = {text_view(key): _view(item, depth + 1) for key, item in value.items()}
        return shown if len(shown) == len(value) else text_view(value)  # 1 and "1" are two keys
    if isinstance(value, list | tuple | set | frozenset):
        return [_view(item, depth + 1) for item in value]
    return _opaque(value, depth)


def number_view(value: float) -> JSON:
    """A number, or its text where JSON has no exact form of it."""
    if not isinstance(value, int):
        return float(value) if math.isfinite(value) and abs(value) < _MAX_INT else str(value)
    try:
        return int(value) if abs(value) < _MAX_INT else str(value)
    except ValueError:  # more digits than Python writes
        return hex(value)


def _opaque(value: object, depth: int) -> JSON:
    """A model, a dataclass, a date, …: as pydantic writes it; else its text."""
    try:
        return _view(to_jsonable_python(value, fallback=text_view, inf_nan_mode="strings"), depth + 1)
    except (ValueError, TypeError):
        return text_view(value)


def text_view(value: object) -> str:
    """Any text without lone surrogates; of a subclass of `str` what it holds, not what it says."""
    text = str.__str__(value) if isinstance(value, str) else str(value)
    return text.encode("utf-8", "replace").decode()


def _schema(name: str, function: Callable[..., object]) -> type[BaseModel]:
    try:
        hints = hints_of(function)
    except (NameError, TypeError) as error:
        raise ConfigError(f"{name}: its type hints cannot be resolved: {error}") from error
    fields: dict[str, Any] = {}
    extra = "forbid"
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise ConfigError(f"{name}: *{parameter.name} has no JSON name; take a list instead")
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = "allow"
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        hint = hints.get(parameter.name, Any)
        fields[parameter.name] = (hint | None if default is None else hint, default)  # `n: int = None`
    try:
        config = ConfigDict(extra=cast("Any", extra), protected_namespaces=())
        return create_model(f"{name}_arguments", __config__=config, **fields)
    except (PydanticSchemaGenerationError, NameError, ValueError) as error:
        raise ConfigError(f"{name}: its arguments have no schema: {error}") from error


def hints_of(function: Callable[..., object]) -> dict[str, Any]:
    """The resolved type hints of *function*. Raises NameError or TypeError where one cannot be."""
    return get_type_hints(_hinted(function), include_extras=True)


def _hinted(function: Callable[..., object]) -> Callable[..., object]:
    """What carries the type hints: of a partial its function, of an object its `__call__`."""
    if isinstance(function, functools.partial):
        return _hinted(function.func)
    is_routine = inspect.isroutine(function) or inspect.isclass(function)
    return function if is_routine else cast("Callable[..., object]", type(function).__call__)


def _flat(signature: inspect.Signature, bound: Mapping[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in bound.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            flat.update(cast("Mapping[str, object]", value))
        else:
            flat[name] = value
    return flat
