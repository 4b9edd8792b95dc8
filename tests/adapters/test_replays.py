"""Retries, interrupts and resumed graphs: a side effect that is done is not done again."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from adapters.conftest import ASK, PERMIT, Open
from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from fumehood import Guard
from fumehood_adapters.langchain import GuardMiddleware, guard_tools
from fumehood_adapters.scripted import ScriptedChatModel, calls, say

CONFIG: Any = {"configurable": {"thread_id": "t"}}


class Counted:
    """Tools that count how often their body ran; `pay` fails as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.ran: list[str] = []
        self.failures = failures

    def pay(self) -> BaseTool:
        @tool
        def pay(to: str) -> str:
            """Pay."""
            self.ran.append(to)
            if len(self.ran) <= self.failures:
                raise ConnectionError("try later")
            return f"paid {to}"

        return pay

    def pay_by_command(self) -> BaseTool:
        @tool
        def pay(to: str, call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
            """Pay."""
            self.ran.append(to)
            return Command(update={"messages": [ToolMessage(f"paid {to}", tool_call_id=call_id)]})

        return pay

    def pay_with_artifact(self) -> BaseTool:
        @tool(response_format="content_and_artifact")
        def pay(to: str) -> tuple[str, dict[str, int]]:
            """Pay."""
            self.ran.append(to)
            return f"paid {to}", {"receipt": 7}

        return pay

    def pay_opaquely(self) -> BaseTool:
        @tool(response_format="content_and_artifact")
        def pay(to: str) -> tuple[str, object]:
            """Pay."""
            self.ran.append(to)
            return f"paid {to}", object()

        return pay


@tool
def confirm(question: str) -> str:
    """Ask a person."""
    return str(interrupt(question))


def _call(name: str, call_id: str | None, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": call_id, "type": "tool_call"}


def _graph(tools: list[BaseTool]) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "tools")
    return graph.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize(
    ("maker", "content"),
    [
        ("pay", "paid bob"),
        ("pay_by_command", "paid bob"),
        ("pay_with_artifact", "paid bob"),
        ("pay_opaquely", "already done"),
    ],
)
def test_a_finished_sibling_of_an_interrupt_is_not_run_again_on_resume(
    open_guard: Open, maker: str, content: str
) -> None:
    guard, counted = open_guard(PERMIT), Counted()
    graph = _graph(guard_tools([getattr(counted, maker)(), confirm], guard))
    message = AIMessage("", tool_calls=[_call("pay", "1", to="bob"), _call("confirm", "2", question="?")])  # type: ignore[list-item]
    graph.invoke({"messages": [message]}, CONFIG)
    state = graph.invoke(Command(resume="yes"), CONFIG)
    paid, confirmed = state["messages"][-2:]
    assert counted.ran == ["bob"]
    assert content in paid.content and confirmed.content == "yes"
    if maker == "pay_with_artifact":
        assert paid.artifact == {"receipt": 7}


async def test_the_same_awaited(open_guard: Open) -> None:
    guard, counted = open_guard(PERMIT), Counted()
    graph = _graph(guard_tools([counted.pay(), confirm], guard))
    message = AIMessage("", tool_calls=[_call("pay", "1", to="bob"), _call("confirm", "2", question="?")])  # type: ignore[list-item]
    await graph.ainvoke({"messages": [message]}, CONFIG)
    state = await graph.ainvoke(Command(resume="yes"), CONFIG)
    assert counted.ran == ["bob"] and state["messages"][-1].content == "yes"


def test_an_interrupt_in_a_tool_is_control_flow_and_the_tool_runs_again_from_its_top(
    open_guard: Open,
) -> None:
    guard = open_guard(PERMIT)
    tops: list[str] = []

    @tool
    def order(item: str) -> str:
        """Order."""
        tops.append(item)
        return f"{item} {interrupt('sure?')}"

    agent = create_agent(
        ScriptedChatModel([calls("order", item="tea"), say("done")]),
        guard_tools([order], guard),
        middleware=[GuardMiddleware(guard)],
        checkpointer=InMemorySaver(),
    )
    first = agent.invoke({"messages": [HumanMessage("tea please")]}, CONFIG)
    assert first["__interrupt__"][0].value == "sure?"
    second = agent.invoke(Command(resume="yes"), CONFIG)
    assert [m.content for m in second["messages"] if isinstance(m, ToolMessage)] == ["tea yes"]
    assert tops == ["tea", "tea"]
    assert _outcomes(guard) == ["interrupted", "done"]


def test_a_retried_call_stops_at_the_first_success(open_guard: Open) -> None:
    guard, counted = open_guard(PERMIT), Counted(failures=1)
    retry = ToolRetryMiddleware(max_retries=3, initial_delay=0.0, jitter=False)
    agent = create_agent(
        ScriptedChatModel([calls("pay", to="bob"), say("done")]),
        guard_tools([counted.pay()], guard),
        middleware=[GuardMiddleware(guard), retry],
    )
    with guard.session(agent="a"):
        state = agent.invoke({"messages": [HumanMessage("pay")]})
    assert [m.content for m in state["messages"] if isinstance(m, ToolMessage)] == ["paid bob"]
    assert counted.ran == ["bob", "bob"]  # one failed, one succeeded: each with its own decision
    assert _outcomes(guard) == ["failed", "done"]


def test_a_denial_is_not_retried(open_guard: Open) -> None:
    guard, counted = open_guard(ASK, operator="deny"), Counted()
    retry = ToolRetryMiddleware(max_retries=3, initial_delay=0.0, jitter=False)
    agent = create_agent(
        ScriptedChatModel([calls("pay", to="bob"), say("done")]),
        guard_tools([counted.pay()], guard),
        middleware=[GuardMiddleware(guard), retry],
    )
    with guard.session(agent="a"):
        agent.invoke({"messages": [HumanMessage("pay")]})
    assert counted.ran == [] and len(guard.ledger.approvals(tuple(_all_states()))) == 1


def test_the_same_call_made_twice_is_answered_from_the_record(open_guard: Open) -> None:
    guard, counted = open_guard(PERMIT), Counted()
    [pay] = guard_tools([counted.pay()], guard)
    with guard.session(agent="a"):
        first, second = pay.invoke(_call("pay", "1", to="bob")), pay.invoke(_call("pay", "1", to="bob"))
    assert first.content == second.content == "paid bob"
    assert counted.ran == ["bob"]


def test_a_repeated_call_id_with_other_arguments_is_another_call(open_guard: Open) -> None:
    guard, counted = open_guard(PERMIT), Counted()
    [pay] = guard_tools([counted.pay()], guard)
    with guard.session(agent="a"):
        pay.invoke(_call("pay", "1", to="bob"))
        pay.invoke(_call("pay", "1", to="ann"))
    assert counted.ran == ["bob", "ann"]


@pytest.mark.parametrize("call_id", [None, ""])
def test_without_a_call_id_there_is_no_replay_protection(open_guard: Open, call_id: str | None) -> None:
    guard, counted = open_guard(PERMIT), Counted()
    [pay] = guard_tools([counted.pay()], guard)
    with guard.session(agent="a"):
        pay.invoke(_call("pay", call_id, to="bob"))
        pay.invoke(_call("pay", call_id, to="bob"))
    assert counted.ran == ["bob", "bob"]


def test_a_read_may_run_again(open_guard: Open) -> None:
    guard, counted = open_guard(PERMIT), Counted()
    [read] = guard_tools([counted.pay()], guard, annotations={"pay": {"kind": "read"}})
    with guard.session(agent="a"):
        for _ in range(2):
            assert read.invoke(_call("pay", "1", to="bob")).content == "paid bob"
    assert counted.ran == ["bob", "bob"]


def _outcomes(guard: Guard) -> list[str]:
    guard.ledger.flush()
    events = [e for e in guard.ledger.events() if e.kind == "outcome"]
    states = ("interrupted", "done", "failed")
    return [next(s for s in states if s in f"{e.summary} {json.loads(e.attributes)}") for e in events]


def _all_states() -> Any:
    from fumehood.approval import State

    return State
