"""A function that a guard confines, as a LangChain tool: decided once, run elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any

import pytest
from adapters.conftest import DENY, PERMIT, Open
from host import require
from importables import written
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, StructuredTool, ToolException, tool
from pydantic import BaseModel

from fumehood import ConfigError, Denied, Guard, JobFailed
from fumehood_adapters.langchain import GuardMiddleware, guard_tools
from fumehood_adapters.scripted import ScriptedChatModel, calls, say

CONFINED = PERMIT + '\nconfine contains "strictest" if call.tool == "forks"\n'
TOOLS = '''
import os
def where(word: str, times: int = 2) -> list:
    """Say where."""
    return [os.getpid(), word * times]
async def awhere(word: str) -> list:
    """Say where."""
    return [os.getpid(), word]
def forks() -> int:
    """Fork."""
    return os.fork()
def fails() -> str:
    """Fail."""
    raise ValueError("words")
'''


@pytest.fixture(autouse=True)
def confinable() -> None:
    require("userns")


@pytest.fixture(scope="module")
def tools() -> Iterator[ModuleType]:
    with written(tools=TOOLS) as package:
        yield package.module("tools")


def decisions(guard: Guard) -> list[str]:
    guard.ledger.flush()
    return [e.tool for e in guard.ledger.events() if e.kind == "decision"]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": f"c-{name}", "type": "tool_call"}


async def test_it_is_decided_once_and_runs_elsewhere(open_guard: Open, tools: ModuleType) -> None:
    guard = open_guard()
    confined = guard.tool(confined=True, kind="read")(tools.where)
    for made in (confined, tool(confined), tool("where")(confined), StructuredTool.from_function(confined)):
        (guarded,) = guard_tools([made], guard)
        with guard.session(agent="bot"):
            before = len(decisions(guard))
            pid, word = guarded.invoke({"word": "x"})
            assert (pid != os.getpid(), word) == (True, "xx")
            assert (await guarded.ainvoke({"word": "x", "times": 1}))[1] == "x"
            message = guarded.invoke(call("where", word="x"))
            assert isinstance(message, ToolMessage) and message.status == "success"
            assert decisions(guard)[before:] == ["where"] * 3


async def test_coroutine_functions_run_elsewhere_too(open_guard: Open, tools: ModuleType) -> None:
    guard = open_guard()
    (guarded,) = guard_tools([guard.tool(confined=True)(tools.awhere)], guard)
    with guard.session(agent="bot"):
        assert (await guarded.ainvoke({"word": "x"}))[0] != os.getpid()
        assert (await guarded.coroutine(word="x"))[0] != os.getpid()  # type: ignore[attr-defined]


async def test_an_agent_may_be_given_the_function_itself(open_guard: Open, tools: ModuleType) -> None:
    guard = open_guard(CONFINED)
    for function in (tools.where, tools.awhere):
        confined = guard.tool(confined=True)(function)
        model = ScriptedChatModel([calls(function.__name__, word="x"), say("done")])
        agent = create_agent(model, [confined], middleware=[GuardMiddleware(guard)])
        with guard.session(agent="bot"):
            before = len(decisions(guard))
            state = await agent.ainvoke({"messages": [HumanMessage("go")]})
        answer = state["messages"][-2]
        assert answer.status == "success" and json.loads(answer.content)[0] != os.getpid()
        assert decisions(guard)[before:] == [function.__name__]


def test_a_policy_that_wants_it_confined_is_content(open_guard: Open, tools: ModuleType) -> None:
    guard = open_guard(CONFINED)
    confined = guard.tool(confined=True)(tools.forks)
    (guarded,) = guard_tools([tool(confined)], guard)
    with guard.session(agent="bot"), pytest.raises(JobFailed, match="PermissionError"):
        guarded.invoke({})
    (plain,) = guard_tools([tool(tools.forks)], guard)
    with guard.session(agent="bot"), pytest.raises(Denied) as denied:
        plain.invoke({})
    assert denied.value.code == "cannot_confine"


def test_what_is_refused_never_runs(open_guard: Open, tools: ModuleType) -> None:
    guard = open_guard(DENY)
    (guarded,) = guard_tools([guard.tool(confined=True)(tools.where)], guard)
    with guard.session(agent="bot"):
        assert guarded.invoke(call("where", word="x")).status == "error"
        with pytest.raises(Denied):
            guarded.func(word="x")  # type: ignore[attr-defined]


def test_without_guard_tools_the_function_still_decides(open_guard: Open, tools: ModuleType) -> None:
    guard = open_guard(DENY)
    with guard.session(agent="bot"), pytest.raises(Denied):
        tool(guard.tool(confined=True)(tools.where)).invoke({"word": "x"})


def test_its_failure_is_one_that_langchain_can_handle(open_guard: Open, tools: ModuleType) -> None:
    guard = open_guard()
    made = tool(guard.tool(confined=True)(tools.fails))
    with guard.session(agent="bot"):
        with pytest.raises(JobFailed, match="it says: ValueError: words") as failed:
            guard_tools([made], guard)[0].invoke({})
        assert isinstance(failed.value, ToolException) and failed.value.type_name == "ValueError"
        made.handle_tool_error = True
        assert "it says: ValueError: words" in guard_tools([made], guard)[0].invoke(call("fails")).content


def test_annotations_are_those_of_the_function_unless_it_has_none(
    open_guard: Open, tools: ModuleType
) -> None:
    guard = open_guard()
    noted = guard.tool(confined=True, kind="money", target=["word"])(tools.where)
    bare = guard.tool(confined=True)(tools.where)
    assert _kind(guard_tools([noted], guard)[0]) == "money"
    assert _kind(guard_tools([bare], guard, annotations={"where": {"kind": "read"}})[0]) == "read"
    with pytest.raises(ConfigError, match="annotated already"):
        guard_tools([noted], guard, annotations={"where": {"kind": "read"}})


def _kind(guarded: Any) -> str:
    return str(guarded._governed().definition.annotations.kind)


def test_what_cannot_be_handed_over_is_refused_when_it_is_wrapped(
    open_guard: Open, tools: ModuleType
) -> None:
    guard, other = open_guard(), open_guard()
    confined = guard.tool(confined=True)(tools.where)

    class Injected(BaseModel):
        word: str
        call_id: Annotated[str, InjectedToolCallId]

    for made, words in (
        (tool(args_schema=Injected)(confined), "nothing can be injected"),
        (tool(response_format="content_and_artifact")(confined), "never a pair"),
        (StructuredTool.from_function(confined, tools.awhere), "two bodies"),
    ):
        with pytest.raises(ConfigError, match=words):
            guard_tools([made], guard)
    with pytest.raises(ConfigError, match="by another guard"):
        guard_tools([confined], other)
    with pytest.raises(ConfigError, match="a StructuredTool is not a function"):
        guard.tool(confined=True)(tool(tools.where))


def test_values_that_are_not_json_do_not_go_in(open_guard: Open, tools: ModuleType) -> None:
    class Odd(BaseModel):
        word: set[int]

    guard = open_guard()
    made = StructuredTool.from_function(guard.tool(confined=True)(tools.where), args_schema=Odd)
    (guarded,) = guard_tools([made], guard)
    with guard.session(agent="bot"), pytest.raises(Denied) as denied:
        guarded.invoke({"word": [1]})
    assert denied.value.code == "cannot_confine"
