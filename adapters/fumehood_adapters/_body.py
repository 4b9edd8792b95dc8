"""One call of a guarded tool: what is kept of the original, and how its body is run.

What a guarded tool does is looked up by a seal that all its copies share; the ungoverned original is in
no attribute, field or private attribute of it, and neither a copy nor a pickle carries it.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Never, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool, StructuredTool, Tool
from pydantic import ValidationError

from fumehood.binding import Bound
from fumehood.canonical import JSON
from fumehood.errors import BindError, FumehoodError
from fumehood.guard import Guard
from fumehood.model import Confine, ToolDefinition
from fumehood.sessions import OpenSession
from fumehood_adapters._arguments import Arguments, Given, Split, config_parameter
from fumehood_adapters._results import rebuilt, replayed, viewed
from fumehood_adapters._spoken import marked

__all__ = [
    "Context",
    "Governed",
    "Runner",
    "Seal",
    "ToolBody",
    "has_coroutine",
    "opened",
    "runner_of",
    "sealed",
]

RunManager = CallbackManagerForToolRun | AsyncCallbackManagerForToolRun | None


class Seal:
    """Stands for what a guarded tool does. It has no content: the record is kept apart, by identity."""

    __slots__ = ("__weakref__",)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> Never:
        raise TypeError("a guarded tool cannot be pickled; guard the tool anew where it is needed")


@dataclass(frozen=True, slots=True)
class Runner:
    """The body of a tool: what happens to bound arguments once a call is permitted."""

    run: Callable[[Bound, dict[str, Any], tuple[Confine, ...], Context], object]
    arun: Callable[[Bound, dict[str, Any], tuple[Confine, ...], Context], Awaitable[object]]
    is_async: bool


@dataclass(frozen=True, slots=True)
class Context:
    """What LangChain gives to a run beside its arguments."""

    run_manager: RunManager
    config: RunnableConfig


@dataclass(frozen=True, slots=True)
class Governed:
    """All that is known of one guarded tool. `surface` is what LangChain asks of a tool's schema."""

    guard: Guard
    session: OpenSession | None
    definition: ToolDefinition
    arguments: Arguments
    runner: Runner
    surface: BaseTool
    has_artifact: bool = False


def _records() -> tuple[Callable[[Governed], Seal], Callable[[Seal], Governed]]:
    kept: weakref.WeakKeyDictionary[Seal, Governed] = weakref.WeakKeyDictionary()

    def seal(governed: Governed) -> Seal:
        made = Seal()
        kept[made] = governed
        return made

    return seal, kept.__getitem__


sealed, opened = _records()


@dataclass(slots=True, eq=False)
class ToolBody:
    """One call of a guarded tool (see `fumehood.binding.Body`).

    `invalid` is why the arguments were refused, for tools that handle their validation errors.
    """

    governed: Governed
    given: Given
    split: Split
    context: Context
    invalid: ValidationError | None = None

    @property
    def definition(self) -> ToolDefinition:
        return self.governed.definition

    @property
    def call_id(self) -> str | None:
        return self.given.call_id or None

    @property
    def conversation_id(self) -> str | None:
        """LangGraph's thread id, if the run has one."""
        found = ensure_config(self.context.config).get("configurable", {}).get("thread_id")
        return None if found is None else str(found)

    @property
    def is_async(self) -> bool:
        return self.governed.runner.is_async

    def bind(self) -> Bound:
        try:
            return self.governed.arguments.bind(self.split.arguments)
        except BindError as error:
            self.invalid = error.__cause__ if isinstance(error.__cause__, ValidationError) else None
            raise

    def run(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object:
        with _marking_commands():
            result = self.governed.runner.run(bound, self.split.injected, confinements, self.context)
        if isinstance(result, Coroutine):
            result.close()
        if isinstance(result, AsyncIterator) or inspect.isawaitable(result):  # nothing of it has run yet
            raise FumehoodError(f"{self.definition.name} has to be awaited; use `ainvoke`")
        with _marking_commands():  # a generator has not run yet
            return marked(list(result) if isinstance(result, Iterator) else result)

    async def arun(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object:
        with _marking_commands():
            result = await self.governed.runner.arun(bound, self.split.injected, confinements, self.context)
            if inspect.isawaitable(result):
                result = await result
            if isinstance(result, AsyncIterator):
                return marked([item async for item in result])
            return marked(list(result) if isinstance(result, Iterator) else result)

    def view(self, result: object, /) -> tuple[JSON, bool]:
        command = _command_for_parent(result)
        if command is not None:
            return viewed(command, has_artifact=False)[0], False
        return viewed(result, has_artifact=self.governed.has_artifact)

    def rebuild(self, result: object, view: JSON, /) -> object:
        return rebuilt(result, view, has_artifact=self.governed.has_artifact)

    def replay(self, view: JSON, /) -> object:
        return replayed(view, has_artifact=self.governed.has_artifact)

    def is_interrupt(self, error: BaseException, /) -> bool:
        """True for LangGraph's control flow, unless it carries a result to the graph around."""
        errors = sys.modules.get("langgraph.errors")  # if it was never imported, nothing can be one
        is_control_flow = errors is not None and isinstance(error, errors.GraphBubbleUp)
        return is_control_flow and _command_for_parent(error) is None


def _command_for_parent(error: object) -> object | None:
    """The command with which a graph inside the tool updates the graph around it: a result, thrown."""
    errors = sys.modules.get("langgraph.errors")
    if errors is None or not isinstance(error, errors.ParentCommand):
        return None
    return cast("object", error.args[0])


@contextmanager
def _marking_commands() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        command = _command_for_parent(error)
        if command is not None:
            error.args = (marked(command), *error.args[1:])
        raise


def runner_of(tool: BaseTool, arguments: Arguments) -> Runner:
    takes, atakes = _Extras.of(tool._run), _Extras.of(tool._arun)

    def run(bound: Bound, injected: dict[str, Any], _: tuple[Confine, ...], context: Context) -> object:
        args, kwargs = arguments.passed(bound, injected)
        return tool._run(*args, **{**kwargs, **takes.given(context, is_async=False)})

    async def arun(
        bound: Bound, injected: dict[str, Any], _: tuple[Confine, ...], context: Context
    ) -> object:
        args, kwargs = arguments.passed(bound, injected)
        result = tool._arun(*args, **{**kwargs, **atakes.given(context, is_async=True)})
        return result if isinstance(result, AsyncIterator) else await result

    return Runner(run, arun, has_coroutine(tool))


@dataclass(frozen=True, slots=True)
class _Extras:
    """What a body takes beside its arguments: the run manager, and the config under some name."""

    has_run_manager: bool
    config: str | None

    @staticmethod
    def of(function: Callable[..., object]) -> _Extras:
        parameters = inspect.signature(function).parameters
        return _Extras("run_manager" in parameters, config_parameter(function))

    def given(self, context: Context, *, is_async: bool) -> dict[str, Any]:
        manager = context.run_manager
        if not is_async and isinstance(manager, AsyncCallbackManagerForToolRun):
            manager = manager.get_sync()
        extras: dict[str, Any] = {"run_manager": manager} if self.has_run_manager else {}
        return extras | ({self.config: ensure_config(context.config)} if self.config else {})


def has_coroutine(tool: BaseTool) -> bool:
    if isinstance(tool, StructuredTool | Tool):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun
