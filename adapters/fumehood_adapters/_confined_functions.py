"""Tools whose function a guard made with `confined=True`: decided once, under LangChain's name and schema,
and run where the function runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool, ToolException

from fumehood.binding import Bound, annotations_from
from fumehood.canonical import require_plain
from fumehood.errors import BindError, ConfigError, ConfinementError, JobFailed
from fumehood.guard import Guard
from fumehood.model import Annotations, Confine
from fumehood_adapters._arguments import Arguments, body_of
from fumehood_adapters._body import Context, Runner

if TYPE_CHECKING:
    from fumehood.confined_function import Place

__all__ = ["ConfinedFunction", "ToolFailed", "confined_function_of"]


class ToolFailed(JobFailed, ToolException):
    """A `JobFailed` that LangChain's `handle_tool_error` takes for what it is: the tool's own failure."""


@dataclass(frozen=True, slots=True)
class ConfinedFunction:
    """The confined function that a LangChain tool was made of."""

    place: Place
    arguments: Arguments
    own: Annotations

    @property
    def runner(self) -> Runner:
        return Runner(self._run, self._arun, True)

    def annotations(self, tool: BaseTool, notes: Annotations | Mapping[str, object] | None) -> Annotations:
        """What was said of it: here, or where it was decorated.

        Raises:
            ConfigError: both, and not the same.
        """
        if notes is None:
            return self.own
        here = notes if isinstance(notes, Annotations) else annotations_from(tool.name, notes)
        if self.own not in (Annotations(), here):
            raise ConfigError(f"the tool {tool.name!r} is annotated already; do it where its function is")
        return here

    def _run(
        self, bound: Bound, injected: dict[str, Any], confinements: tuple[Confine, ...], _: Context
    ) -> object:
        with _told_to_langchain():
            return self.place.run(*self._passed(bound, injected), confinements)

    async def _arun(
        self, bound: Bound, injected: dict[str, Any], confinements: tuple[Confine, ...], _: Context
    ) -> object:
        with _told_to_langchain():
            return await self.place.arun(*self._passed(bound, injected), confinements)

    def _passed(self, bound: Bound, injected: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = self.arguments.passed(bound, injected)
        try:
            require_plain([*args, kwargs])
        except BindError as error:
            raise ConfinementError(
                f"an argument does not go into another process: {error}",
                layer="profile",
                remedy="Declare JSON types in the tool's args_schema.",
            ) from None
        return args, kwargs


def confined_function_of(tool: BaseTool, guard: Guard, arguments: Arguments) -> ConfinedFunction | None:
    """The confined function that *tool* was made of, if it was made of one.

    Raises:
        ConfigError: it is another guard's, or LangChain would hand it what is not JSON.
    """
    loaded = sys.modules.get("fumehood.confined_function")  # if it was never loaded, nothing is confined
    found = loaded.known(body_of(tool)) if loaded else None
    if found is None:
        return None
    function, place = found
    if place.guard is not guard:
        raise ConfigError(f"the tool {tool.name!r} is confined by another guard; guard it with that one")
    if len({getattr(tool, "func", None), getattr(tool, "coroutine", None)} - {None}) > 1:
        raise ConfigError(f"the tool {tool.name!r} has two bodies; give it the confined function alone")
    if arguments.injected:
        names = ", ".join(sorted(arguments.injected))
        raise ConfigError(f"the tool {tool.name!r} runs confined: nothing can be injected ({names})")
    if tool.response_format == "content_and_artifact":
        raise ConfigError(
            f"the tool {tool.name!r} runs confined: it returns JSON, never a pair; leave out response_format"
        )
    return ConfinedFunction(place, arguments, function.definition.annotations)


@contextmanager
def _told_to_langchain() -> Iterator[None]:
    try:
        yield
    except JobFailed as error:
        raise ToolFailed(
            str(error), kind=error.kind, type_name=error.type_name, text=error.text, printed=error.printed
        ) from None
