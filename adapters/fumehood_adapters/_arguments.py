"""How one LangChain tool takes its arguments: which are bound, which are injected, how the body gets them.

LangChain validates by `args_schema`, then adds what the framework injects (state, store, runtime, the
tool call's id). Here the two are kept apart: what the caller gave is bound to one canonical document;
what is injected is named in the call and handed to the body as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, cast, get_type_hints

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, Tool, ToolException
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, create_model
from pydantic.fields import FieldInfo

from fumehood.binding import Bound, bind_model, bind_plain
from fumehood.canonical import parse
from fumehood.errors import ConfigError

__all__ = ["Arguments", "Given", "Split", "arguments_of", "body_of", "config_parameter"]

_SINGLE = "tool_input"  # the name that LangChain's legacy `Tool` shows for its one argument
_VARIADIC = frozenset({"args", "kwargs"})  # fields that stand for * and ** in an inferred schema
_NO_CALL_ID = (
    "When tool includes an InjectedToolCallId argument, tool must always be invoked with a full model "
    "ToolCall of the form: {'args': {...}, 'name': '...', 'type': 'tool_call', 'tool_call_id': '...'}"
)


@dataclass(frozen=True, slots=True)
class Given:
    """What a caller handed to a tool: text or named arguments, and the id of the model's tool call."""

    input: str | Mapping[str, Any]
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """One call's arguments: those to bind, and those that the framework injected."""

    arguments: dict[str, Any]
    injected: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arguments:
    """One tool's way of taking arguments, read once when it is wrapped.

    `model` binds (None: the tool has no schema that validates, so arguments must be plain JSON);
    `schema` is their JSON Schema; `first` the argument that a bare text stands for.
    """

    model: type[BaseModel] | None
    schema: Mapping[str, object]
    first: str | None
    injected: frozenset[str] = frozenset()
    raw: frozenset[str] = frozenset()  # injected by the body's signature: passed on unvalidated
    call_ids: frozenset[str] = frozenset()
    variadic: frozenset[str] = _VARIADIC
    injection: type[BaseModel] | None = None
    is_single: bool = False  # a legacy `Tool`: one positional argument, whatever its name
    has_fields: bool = True

    @property
    def is_bare(self) -> bool:
        """True for a legacy `Tool` without a schema."""
        return self.is_single and self.model is None

    def split(self, given: Given) -> Split:
        """What to bind and what was injected.

        Raises:
            ValueError, ToolException, ValidationError: as LangChain raises them, before anything is decided.
        """
        named = self._named(given.input)
        injected = {name: named.pop(name) for name in self.injected if name in named}
        if self.call_ids:
            if given.call_id is None:
                raise ValueError(_NO_CALL_ID)
            injected.update(dict.fromkeys(self.call_ids, given.call_id))
        return Split(named if self.has_fields else {}, self._validated(injected))

    def bind(self, arguments: Mapping[str, object]) -> Bound:
        """One canonical document, and the object made from it.

        Raises:
            BindError: names the argument and says what to declare instead.
        """
        bound = bind_plain(arguments) if self.model is None else bind_model(self.model, arguments)
        return replace(bound, injected=tuple(sorted(self.injected)))

    def passed(self, bound: Bound, injected: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The body's positional and keyword arguments, made from what was bound."""
        if isinstance(bound.value, BaseModel):
            named = self._of_model(bound.value, bound.defaults)
        else:
            named = cast("dict[str, Any]", parse(bound.args))
        if self.is_single:
            return tuple(named.values()), {}
        return (), {**named, **injected}

    def _named(self, given: str | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(given, str):
            if self.first is None:
                raise ValueError("String tool inputs are not allowed for this tool; pass named arguments.")
            return {self.first: given}
        if not self.is_single or self.model is not None:
            return dict(given)
        if len(given) != 1:
            raise ToolException(
                "Too many arguments to single-input tool. Consider using StructuredTool instead. "
                f"Args: {list(given)}"
            )
        return {self.first or _SINGLE: next(iter(given.values()))}

    def _validated(self, injected: dict[str, Any]) -> dict[str, Any]:
        if self.injection is None:
            return injected
        values = self.injection.model_validate(injected)
        fields = self.injection.model_fields
        known = {n: getattr(values, n) for n, f in fields.items() if n in injected or not f.is_required()}
        return {**injected, **known}

    def _of_model(self, value: BaseModel, defaults: tuple[str, ...]) -> dict[str, Any]:
        named = {
            name: getattr(value, name)
            for name, declared in type(value).model_fields.items()
            if not declared.exclude and not (name in self.variadic and name in defaults)
        }
        return {**named, **(value.model_extra or {})}


class _ByName(BaseModel):
    """Arguments are known by their field's name: an alias is a spelling that only the model sees."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=False, protected_namespaces=())


def arguments_of(tool: BaseTool) -> Arguments:
    """Read how *tool* takes its arguments.

    Raises:
        ConfigError: it takes them in a way that cannot be bound; says what to declare instead.
    """
    raw = frozenset(tool._injected_args_keys) | _inferred_config(tool)
    if isinstance(tool.args_schema, dict):
        return Arguments(None, tool.args_schema, None, injected=raw, raw=raw)
    if tool.args_schema is None and isinstance(tool, Tool):
        properties = {_SINGLE: {"type": "string"}}
        schema = {"type": "object", "properties": properties, "required": [_SINGLE]}
        return Arguments(None, schema, _SINGLE, is_single=True)
    model = _model_of(tool)
    return _Reader(tool, model, raw).read()


def body_of(tool: BaseTool) -> Callable[..., object]:
    """The function or method whose signature says what *tool* takes."""
    function = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    return function if callable(function) else tool._run


def config_parameter(function: Callable[..., object]) -> str | None:
    """The parameter that LangChain fills with the run's `RunnableConfig`, if there is one."""
    return next((name for name, hint in _hints(function).items() if hint is RunnableConfig), None)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a tool whose schema is a pydantic model."""

    tool: BaseTool
    model: type[BaseModel]
    raw: frozenset[str]

    def read(self) -> Arguments:
        fields = self.model.model_fields
        injected = self.raw | self._hidden()
        bound = [name for name in fields if name not in injected]
        if isinstance(self.tool, Tool) and len(bound) != 1:
            raise ConfigError(
                f"{self.tool.name!r} is a single-input `Tool` with {len(bound)} arguments; use StructuredTool"
            )
        derived = self._derived(injected)
        return Arguments(
            derived,
            self._schema(derived, injected),
            bound[0] if bound else None,
            injected=injected,
            raw=self.raw,
            call_ids=self._call_ids(injected),
            variadic=_VARIADIC | _variadic(body_of(self.tool)),
            injection=self._injection(injected),
            is_single=isinstance(self.tool, Tool),
            has_fields=bool(fields),
        )

    def _hidden(self) -> frozenset[str]:
        """Fields that LangChain does not show to the model: the injected ones."""
        shown = cast("type[BaseModel]", self.tool.tool_call_schema)
        return frozenset(self.model.model_fields) - frozenset(shown.model_fields)

    def _derived(self, injected: frozenset[str]) -> type[BaseModel]:
        """The schema without its injected fields, known by name, whose `= None` defaults can be read back."""
        changes: dict[str, Any] = {}
        for name, declared in self.model.model_fields.items():
            if name in injected:
                changes[name] = (Any, Field(default=None, exclude=True))
            elif not declared.is_required() and declared.default is None and declared.default_factory is None:
                changes[name] = (cast("Any", declared.annotation) | None, copy(declared))
        try:
            return create_model(self.model.__name__, __base__=(self.model, _ByName), **changes)
        except (PydanticUserError, TypeError, NameError) as error:
            raise ConfigError(f"the arguments of {self.tool.name!r} cannot be bound: {error}") from error

    def _schema(self, derived: type[BaseModel], injected: frozenset[str]) -> dict[str, object]:
        try:
            schema = derived.model_json_schema(by_alias=False)
        except PydanticUserError as error:
            raise ConfigError(
                f"the arguments of {self.tool.name!r} have no JSON Schema: {error}; "
                "declare JSON types, or inject what is not JSON"
            ) from error
        properties = {n: s for n, s in schema.get("properties", {}).items() if n not in injected}
        return {**schema, "properties": properties}

    def _call_ids(self, injected: frozenset[str]) -> frozenset[str]:
        fields = self.model.model_fields
        marked = {n for n in injected if n in fields and _is_marked(fields[n], InjectedToolCallId)}
        return frozenset(marked | ({"tool_call_id"} & self.raw))

    def _injection(self, injected: frozenset[str]) -> type[BaseModel] | None:
        """A model of the injected fields alone; those of the signature pass as they are, if there."""
        declared = {n: f for n, f in self.model.model_fields.items() if n in injected}
        fields: dict[str, Any] = {
            n: (Any if n in self.raw else f.annotation, copy(f) if n not in self.raw else _presence(f))
            for n, f in declared.items()
        }
        if not fields or self.tool.args_schema is None:
            return None
        return create_model("Injected", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)


def _model_of(tool: BaseTool) -> type[BaseModel]:
    model = tool.args_schema if tool.args_schema is not None else tool.get_input_schema()
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ConfigError(
            f"the arguments of {tool.name!r} are declared with pydantic 1; declare them with pydantic 2"
        )
    if not model.__pydantic_complete__:
        model.model_rebuild()
    return model


def _inferred_config(tool: BaseTool) -> frozenset[str]:
    """The run's config, which LangChain fills in: it shows up in a schema that was inferred from `_run`."""
    config = config_parameter(tool._run) if tool.args_schema is None else None
    return frozenset({config} if config else ())


def _presence(declared: FieldInfo) -> Any:
    return ... if declared.is_required() else Field(default=declared.default)


def _is_marked(declared: FieldInfo, mark: type) -> bool:
    marks = (m if isinstance(m, type) else type(m) for m in declared.metadata)
    return any(issubclass(m, mark) for m in marks)


def _variadic(function: Callable[..., object]) -> frozenset[str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return frozenset(n for n, p in inspect.signature(function).parameters.items() if p.kind in kinds)


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}  # as LangChain does: a hint that does not resolve names no config
