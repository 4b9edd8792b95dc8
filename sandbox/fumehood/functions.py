"""Plain Python functions as tools: their signature is the schema, their call is the body."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, create_model
from pydantic_core import to_jsonable_python

from fumehood.binding import Bound, bind_model, define
from fumehood.canonical import JSON, canonical, parse
from fumehood.errors import BindError, ConfigError, FumehoodError
from fumehood.model import Annotations, Confine, ToolDefinition

__all__ = ["FunctionBody", "FunctionTool", "jsonable", "tool_of"]


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

    def invoke(self, value: BaseModel) -> object:
        """Call the function with the bound object's fields, in its own way of taking them."""
        given = {name: getattr(value, name) for name in type(value).model_fields}
        given.update(value.model_extra or {})
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
        return inspect.iscoroutinefunction(self.tool.function) or inspect.isasyncgenfunction(
            self.tool.function
        )

    def bind(self) -> Bound:
        return bind_model(self.tool.schema, self.given())

    def run(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object:
        result = self.tool.invoke(cast("BaseModel", bound.value))
        if isinstance(result, Coroutine):
            result.close()
            raise FumehoodError(f"{self.definition.name} is a coroutine function; await it, or use `acall`")
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
    )
    only = tuple(
        n
        for n, p in inspect.signature(function).parameters.items()
        if p.kind is inspect.Parameter.POSITIONAL_ONLY
    )
    return FunctionTool(definition, schema, function, only)


def jsonable(result: object) -> tuple[JSON, bool]:
    """*result* as JSON, and whether that JSON is the result itself. An exception shows its type and text."""
    if isinstance(result, BaseException):
        return f"{type(result).__name__}: {result}", False
    try:
        view = parse(canonical(to_jsonable_python(result)))
    except (BindError, ValueError, TypeError):
        return str(result).encode("utf-8", "replace").decode(), False
    return view, type(result) in (str, int, float, bool, list, dict, type(None)) and view == result


def _schema(name: str, function: Callable[..., object]) -> type[BaseModel]:
    try:
        hints = get_type_hints(_hinted(function), include_extras=True)
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
        fields[parameter.name] = (hints.get(parameter.name, Any), default)
    try:
        config = ConfigDict(extra=cast("Any", extra), protected_namespaces=())
        return create_model(f"{name}_arguments", __config__=config, **fields)
    except (PydanticSchemaGenerationError, NameError, ValueError) as error:
        raise ConfigError(f"{name}: its arguments have no schema: {error}") from error


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
