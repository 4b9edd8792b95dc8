"""Every public way to call a tool, counted: none of them runs what policy denies."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from adapters.conftest import DENY, PERMIT, Open
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool, Tool, tool

from fumehood import Denied
from fumehood_adapters.langchain import guard_tools

Make = Callable[[list[str]], BaseTool]

pytestmark = pytest.mark.filterwarnings("ignore:This API is in beta")  # as_tool, astream_events


def from_decorator(ran: list[str]) -> BaseTool:
    @tool
    def act(text: str) -> str:
        """Act."""
        ran.append(text)
        return text

    return act


def from_coroutine(ran: list[str]) -> BaseTool:
    def act(text: str) -> str:
        ran.append(text)
        return text

    async def aact(text: str) -> str:
        return act(text)

    return StructuredTool.from_function(act, aact, name="act", description="Act.")


def from_subclass(ran: list[str]) -> BaseTool:
    class Act(BaseTool):
        name: str = "act"
        description: str = "Act."

        def _run(self, text: str) -> str:
            ran.append(text)
            return text

    return Act()


def from_legacy(ran: list[str]) -> BaseTool:
    def act(text: str) -> str:
        ran.append(text)
        return text

    return Tool(name="act", func=act, description="Act.")


def from_runnable(ran: list[str]) -> BaseTool:
    def act(given: dict[str, str]) -> str:
        ran.append(given["text"])
        return given["text"]

    return RunnableLambda(act).as_tool(arg_types={"text": str}, name="act", description="Act.")


def from_json_schema(ran: list[str]) -> BaseTool:
    def act(text: str) -> str:
        ran.append(text)
        return text

    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    return StructuredTool(name="act", description="Act.", args_schema=schema, func=act)


MAKERS = [from_decorator, from_coroutine, from_subclass, from_legacy, from_runnable, from_json_schema]
GIVEN = {"text": "x"}


async def _collected(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def _once() -> Any:
    yield GIVEN


def _first(results: Any) -> Any:
    return next(iter(results))


async def _thread(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


WAYS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda t: t.invoke(GIVEN),
    "run": lambda t: t.run(GIVEN),
    "batch": lambda t: _first(t.batch([GIVEN])),
    "batch_as_completed": lambda t: _first(t.batch_as_completed([GIVEN]))[1],
    "stream": lambda t: _first(t.stream(GIVEN)),
    "transform": lambda t: _first(t.transform(iter([GIVEN]))),
    "bind": lambda t: t.bind().invoke(GIVEN),
    "with_config": lambda t: t.with_config(tags=["a"]).invoke(GIVEN),
    "with_retry": lambda t: t.with_retry(stop_after_attempt=1).invoke(GIVEN),
    "with_fallbacks": lambda t: t.with_fallbacks([]).invoke(GIVEN),
    "pipe": lambda t: (t | RunnableLambda(lambda x: x)).invoke(GIVEN),
    "as_tool": lambda t: t.as_tool().invoke(GIVEN),
    "copy": lambda t: copy.copy(t).invoke(GIVEN),
    "deepcopy": lambda t: copy.deepcopy(t).invoke(GIVEN),
    "model_copy": lambda t: t.model_copy().invoke(GIVEN),
    "model_copy deep": lambda t: t.model_copy(deep=True).invoke(GIVEN),
    "renamed": lambda t: t.model_copy(update={"name": "nothing of this name"}).invoke(GIVEN),
    "_run": lambda t: t._run(**GIVEN),
    "_run text": lambda t: t._run("x" if isinstance(t.args_schema, type | None) else {"text": "x"}),
    "func": lambda t: t.func(**GIVEN),
}
ASYNC_WAYS: dict[str, Callable[[Any], Any]] = {
    "ainvoke": lambda t: t.ainvoke(GIVEN),
    "arun": lambda t: t.arun(GIVEN),
    "abatch": lambda t: t.abatch([GIVEN]),
    "abatch_as_completed": lambda t: _collected(t.abatch_as_completed([GIVEN])),
    "astream": lambda t: _collected(t.astream(GIVEN)),
    "atransform": lambda t: _collected(t.atransform(_once())),
    "astream_events": lambda t: _collected(t.astream_events(GIVEN, version="v2")),
    "bind": lambda t: t.bind().ainvoke(GIVEN),
    "with_retry": lambda t: t.with_retry(stop_after_attempt=1).ainvoke(GIVEN),
    "as_tool": lambda t: t.as_tool().ainvoke(GIVEN),
    "deepcopy": lambda t: copy.deepcopy(t).ainvoke(GIVEN),
    "model_copy": lambda t: t.model_copy(update={"name": "nothing of this name"}).ainvoke(GIVEN),
    "_arun": lambda t: t._arun(**GIVEN),
    "to_thread": lambda t: _thread(t.invoke, GIVEN),
}


@pytest.mark.parametrize("make", MAKERS)
def test_no_way_runs_what_policy_denies(open_guard: Open, make: Make) -> None:
    guard = open_guard(DENY)
    ran: list[str] = []
    [guarded] = guard_tools([make(ran)], guard)
    with guard.session(agent="a"):
        for name, way in WAYS.items():
            with pytest.raises(Denied):
                print(name, way(guarded))
            assert ran == [], name


@pytest.mark.parametrize("make", MAKERS)
def test_every_way_runs_what_policy_permits_once(open_guard: Open, make: Make) -> None:
    guard = open_guard(PERMIT)
    ran: list[str] = []
    [guarded] = guard_tools([make(ran)], guard)
    with guard.session(agent="a"):
        for name, way in WAYS.items():
            assert way(guarded) == "x", name
            assert ran.pop() == "x", name
            assert ran == [], name


@pytest.mark.parametrize("make", MAKERS)
async def test_no_awaited_way_runs_what_policy_denies(open_guard: Open, make: Make) -> None:
    guard = open_guard(DENY)
    ran: list[str] = []
    [guarded] = guard_tools([make(ran)], guard)
    async with guard.session(agent="a"):
        for name, way in ASYNC_WAYS.items():
            with pytest.raises(Denied):
                await way(guarded)
            assert ran == [], name


@pytest.mark.parametrize("make", MAKERS)
async def test_every_awaited_way_runs_what_policy_permits_once(open_guard: Open, make: Make) -> None:
    guard = open_guard(PERMIT)
    ran: list[str] = []
    [guarded] = guard_tools([make(ran)], guard)
    async with guard.session(agent="a"):
        for name, way in ASYNC_WAYS.items():
            await way(guarded)
            assert ran == ["x"], name
            ran.clear()


async def test_the_coroutine_of_a_tool_is_governed(open_guard: Open) -> None:
    guard = open_guard(DENY)
    ran: list[str] = []
    [guarded] = guard_tools([from_coroutine(ran)], guard)
    async with guard.session(agent="a"):
        with pytest.raises(Denied):
            await guarded.coroutine(text="x")  # type: ignore[attr-defined]
    assert ran == []


@pytest.mark.parametrize("make", MAKERS)
def test_a_tool_call_is_answered_with_an_error_that_says_why(open_guard: Open, make: Make) -> None:
    guard = open_guard(DENY)
    ran: list[str] = []
    [guarded] = guard_tools([make(ran)], guard)
    with guard.session(agent="a"):
        answer = guarded.invoke({"name": "act", "args": GIVEN, "id": "c1", "type": "tool_call"})
    assert (answer.status, answer.tool_call_id, answer.name) == ("error", "c1", "act")
    assert "Nothing was run" in answer.content and "Try again: no" in answer.content
    assert ran == []
