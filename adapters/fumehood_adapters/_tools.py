"""The boundary: one `BaseTool` that decides in `_run` and `_arun`, through which every entry point goes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Never, Self, cast, get_type_hints

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, BaseToolkit
from langchain_core.tools import tool as make_tool
from pydantic import BaseModel, PrivateAttr

from fumehood.binding import annotations_from, define
from fumehood.errors import ConfigError, Denied, Withheld
from fumehood.guard import Guard
from fumehood.model import Annotations, Runs
from fumehood.sessions import OpenSession
from fumehood_adapters._answers import refusal_message
from fumehood_adapters._arguments import Given, arguments_of, body_of
from fumehood_adapters._body import (
    Context,
    Governed,
    Seal,
    ToolBody,
    has_coroutine,
    opened,
    runner_of,
    sealed,
)
from fumehood_adapters._confined_functions import confined_function_of

__all__ = ["GuardedTool", "Notes", "guard_tool", "guard_tools"]

Notes = Annotations | Mapping[str, object]

_FIELDS = (
    "args_schema", "return_direct", "verbose", "callbacks", "tags", "metadata", "response_format", "extras",
)  # fmt: skip
_ENTRY_POINTS = (
    "invoke", "ainvoke", "run", "arun", "batch", "abatch", "stream", "astream", "transform", "atransform",
    "_parse_input", "_to_args_and_kwargs",
)  # fmt: skip


class GuardedTool(BaseTool):
    """A tool whose every call is decided by a guard. Made by `guard_tools`, never by hand.

    To LangChain it is the tool that it was made of: name, description, schema, injected arguments,
    response format, callbacks and error handlers. What policy knows of it (its name and definition) is
    frozen: renaming a copy changes what the model sees, never what is decided.
    """

    _seal: Seal = PrivateAttr()

    @classmethod
    def _of(cls, governed: Governed, **fields: Any) -> Self:
        made = cls(**fields)
        made._seal = sealed(governed)
        return made

    # --- deciding ---

    def _run(
        self,
        *args: Any,
        fumehood_config: RunnableConfig = None,  # type: ignore[assignment]  # LangChain looks for this very type
        run_manager: CallbackManagerForToolRun | None = None,
        **kwargs: Any,
    ) -> Any:
        call = self._call(args, kwargs, Context(run_manager, fumehood_config))
        try:
            session = call.governed.guard.find_session(
                bound=call.governed.session, conversation_id=call.conversation_id
            )
            with _inside(session):
                return call.governed.guard.enforce(call, session=session)
        except (Denied, Withheld) as refused:
            return self._refusal(refused, call)

    async def _arun(
        self,
        *args: Any,
        fumehood_config: RunnableConfig = None,  # type: ignore[assignment]  # LangChain looks for this very type
        run_manager: AsyncCallbackManagerForToolRun | None = None,
        **kwargs: Any,
    ) -> Any:
        call = self._call(args, kwargs, Context(run_manager, fumehood_config))
        try:
            session = await call.governed.guard.afind_session(
                bound=call.governed.session, conversation_id=call.conversation_id
            )
            with _inside(session):
                return await call.governed.guard.aenforce(call, session=session)
        except (Denied, Withheld) as refused:
            return self._refusal(refused, call)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any], context: Context) -> ToolBody:
        governed = self._governed()
        given = args[0] if len(args) == 1 and isinstance(args[0], Given) else _given(args, kwargs)
        return ToolBody(governed, given, governed.arguments.split(given), context)

    def _refusal(self, refused: Denied | Withheld, call: ToolBody) -> Any:
        """The answer to a tool call; a direct Python call gets the error itself."""
        if call.invalid is not None and self.handle_validation_error:
            raise call.invalid  # LangChain hands it to the tool's own handler
        call_id = call.given.call_id
        if call_id is None:
            raise refused
        answer = refusal_message(
            refused, name=self.name, call_id=call_id, is_return_direct=self.return_direct
        )
        return (answer, None) if self.response_format == "content_and_artifact" else answer

    def _governed(self) -> Governed:
        try:
            return opened(self._seal)
        except (AttributeError, KeyError):
            raise ConfigError("a GuardedTool is made by guard_tools(), not by hand") from None

    # --- what LangChain asks of a tool ---

    def _to_args_and_kwargs(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments are bound once, in the guard; here they only pass."""
        return (Given(tool_input, tool_call_id),), {}

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        return cast("type[BaseModel]", self._governed().surface.get_input_schema(config))

    @property
    def tool_call_schema(self) -> Any:
        governed = self._governed()
        return governed.arguments.schema if governed.arguments.is_bare else governed.surface.tool_call_schema

    @property
    def args(self) -> dict[str, Any]:
        return self._governed().surface.args

    @property
    def _injected_args_keys(self) -> frozenset[str]:
        return self._governed().surface._injected_args_keys

    @property
    def func(self) -> Callable[..., Any] | None:
        """The tool as a plain function, governed like every other way to call it."""
        surface = self._governed().surface
        is_missing = getattr(surface, "func", _as_function) is None
        return None if is_missing else _as_function(self, body_of(surface))

    @property
    def coroutine(self) -> Callable[..., Coroutine[Any, Any, Any]] | None:
        """The tool as a coroutine function, governed like every other way to call it."""
        surface = self._governed().surface
        return _as_coroutine(self, body_of(surface)) if has_coroutine(surface) else None

    def as_tool(self, args_schema: type[BaseModel] | None = None, **changes: Any) -> BaseTool:
        """This tool; under another name or description if one is given."""
        known = {k: v for k, v in changes.items() if k in ("name", "description") and v is not None}
        return self.model_copy(update=known)

    def __reduce_ex__(self, _: object) -> Never:
        raise TypeError(f"the guarded tool {self.name!r} cannot be pickled; guard it anew where it is needed")


def guard_tools(
    tools: Iterable[BaseTool | Callable[..., Any]],
    guard: Guard,
    *,
    annotations: Mapping[str, Notes] | None = None,
    session: OpenSession | None = None,
) -> list[BaseTool]:
    """*tools*, each of whose calls is decided by *guard*.

    *annotations* say what each tool does, by its name: `{"issue_refund": {"kind": "money", "target":
    ["order_id"]}}`. *session* binds the tools to one session, for code that loses context variables.

    Raises:
        ConfigError: something is not a tool of this process, is guarded by another guard, or annotations
            name a tool or an argument that does not exist.
    """
    found = [as_base_tool(tool) for tool in tools]
    notes = annotations or {}
    strange = sorted(set(notes) - {tool.name for tool in found})
    if strange:
        names = ", ".join(tool.name for tool in found) or "none"
        raise ConfigError(f"annotations name the tool {strange[0]!r}; the tools are: {names}")
    return [guard_tool(tool, guard, notes=notes.get(tool.name), session=session) for tool in found]


def guard_tool(
    tool: BaseTool, guard: Guard, *, notes: Notes | None = None, session: OpenSession | None = None
) -> GuardedTool:
    """One tool, guarded; a tool that *guard* guards already is returned as it is.

    Raises:
        ConfigError: as `guard_tools`.
    """
    if isinstance(tool, GuardedTool):
        return _guarded_already(tool, guard, notes, session)
    _check_entry_points(tool)
    arguments = arguments_of(tool)
    confined = confined_function_of(tool, guard, arguments)
    definition = define(
        tool.name,
        description=tool.description,
        schema=arguments.schema,
        annotations=confined.annotations(tool, notes) if confined else notes or {},
        runs=Runs.CONFINED if confined else Runs.IN_PROCESS,
    )
    governed = Governed(
        guard,
        session,
        definition,
        arguments,
        confined.runner if confined else runner_of(tool, arguments),
        tool,
        tool.response_format == "content_and_artifact",
    )
    return GuardedTool._of(governed, **fields_of(tool))


def as_base_tool(tool: object) -> BaseTool:
    """*tool* as LangChain's tool: plain functions become one, everything else is refused.

    Raises:
        ConfigError: it is not a tool that runs in this process.
    """
    if isinstance(tool, BaseTool):
        return tool
    if isinstance(tool, dict):
        name = tool.get("name") or tool.get("type") or "without a name"
        raise ConfigError(
            f"the tool {name!r} is run by the model's provider, out of reach of any guard; "
            "leave it out, or use a tool that runs here"
        )
    if isinstance(tool, BaseToolkit):
        raise ConfigError(f"{type(tool).__name__} is a toolkit; give its tools: toolkit.get_tools()")
    if inspect.isfunction(tool) or inspect.ismethod(tool):
        return make_tool(tool)
    raise ConfigError(
        f"a {type(tool).__name__} is not a tool; give a BaseTool or a function (a Runnable: .as_tool())"
    )


def fields_of(tool: BaseTool) -> dict[str, Any]:
    """The public fields of *tool*, for the guarded one. A handler is called through a function of ours:
    it may be a method of the original."""
    handlers = {name: getattr(tool, name) for name in ("handle_tool_error", "handle_validation_error")}
    return {
        "name": tool.name,
        "description": tool.description,
        **{name: getattr(tool, name) for name in _FIELDS},
        **{n: _through(h) if callable(h) else h for n, h in handlers.items()},
    }


@contextmanager
def _inside(session: OpenSession) -> Iterator[None]:
    """While a tool runs, an agent that starts in the same session is not the outermost one."""
    session.begin_run()
    try:
        yield
    finally:
        session.end_run()


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
    """The arguments of somebody who calls `_run` by hand."""
    if not args:
        return Given(kwargs)
    if len(args) == 1 and not kwargs and isinstance(args[0], str | dict):
        return Given(args[0])
    raise TypeError("a guarded tool takes its arguments by name")


def _guarded_already(
    tool: GuardedTool, guard: Guard, notes: Notes | None, session: OpenSession | None
) -> GuardedTool:
    governed = tool._governed()
    if governed.guard is not guard:
        raise ConfigError(f"the tool {tool.name!r} is guarded by another guard; give the original tool")
    if notes is not None and _read(tool.name, notes) != governed.definition.annotations:
        raise ConfigError(f"the tool {tool.name!r} is guarded already; annotate it where that is done")
    if session is None or session is governed.session:
        return tool
    bound = tool.model_copy()
    bound._seal = sealed(replace(governed, session=session))
    return bound


def _read(name: str, notes: Notes) -> Annotations:
    return notes if isinstance(notes, Annotations) else annotations_from(name, notes)


def _check_entry_points(tool: BaseTool) -> None:
    """A tool that does its work in `invoke` or the like would do it outside the guard."""
    for name in _ENTRY_POINTS:
        owner = next(c for c in type(tool).__mro__ if name in vars(c))
        if not owner.__module__.startswith("langchain_core."):
            raise ConfigError(
                f"the tool {tool.name!r} overrides {name}(), where a guard cannot see what it does; "
                "do the work in _run() and _arun()"
            )


def _through(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def handle(error: Any) -> Any:
        return handler(error)

    return handle


def _as_function(tool: GuardedTool, body: Callable[..., object]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return tool._run(*args, **kwargs)

    _describe(call, tool, body)
    return call


def _as_coroutine(tool: GuardedTool, body: Callable[..., object]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def acall(*args: Any, **kwargs: Any) -> Any:
        return await tool._arun(*args, **kwargs)

    _describe(acall, tool, body)
    return acall


def _describe(function: Callable[..., Any], tool: GuardedTool, body: Callable[..., object]) -> None:
    """Give *function* the annotations of *body*: LangGraph reads from them what to inject."""
    function.__name__ = tool.name
    function.__doc__ = tool.description
    try:
        function.__annotations__ = get_type_hints(body, include_extras=True)
    except (NameError, TypeError, AttributeError):
        function.__annotations__ = {}
