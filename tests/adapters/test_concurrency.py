"""Twenty agents in one asyncio process wait for a person at once, and the loop is free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from adapters.conftest import ASK, Open
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool

from fumehood import Guard
from fumehood.approval import Approval, Move, State, Verdict
from fumehood_adapters.langchain import GuardMiddleware, guard_tools
from fumehood_adapters.scripted import ScriptedChatModel, calls, say

AGENTS = 20
LONGEST_S = 0.05
ROUNDS = 12


class Stalls:
    """The longest time in seconds that the loop took to come back to a task that wanted 1 ms.

    The time does not count for which it could run and others had the processor, as the kernel says.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        while True:
            began, waited_s = time.perf_counter(), _waited_s()
            await asyncio.sleep(0.001)
            took_s = time.perf_counter() - began - (_waited_s() - waited_s)
            self.longest_s = max(self.longest_s, took_s - 0.001)


def _waited_s() -> float:
    """How long this thread has waited for a processor; nothing where the kernel does not count that."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


@asynccontextmanager
async def watched() -> AsyncIterator[Stalls]:
    stalls = Stalls()
    task = asyncio.create_task(stalls.watch())
    await asyncio.sleep(0)
    try:
        yield stalls
    finally:
        task.cancel()


def payer(ran: list[str], *, is_async: bool) -> BaseTool:
    def pay(to: str) -> str:
        ran.append(f"paid {to}")
        return f"paid {to}"

    async def apay(to: str) -> str:
        return pay(to)

    from langchain_core.tools import StructuredTool

    coroutine = apay if is_async else None
    return StructuredTool.from_function(pay, coroutine, name="pay", description="Pay.")


def agent_of(tools: list[BaseTool], number: int, guard: Guard | None = None) -> Any:
    model = ScriptedChatModel([calls("pay", call_id=f"c{number}", to=f"n{number}"), say("done")])
    return create_agent(model, tools, middleware=[GuardMiddleware(guard)] if guard is not None else [])


async def run_agent(guard: Guard, tools: list[BaseTool], number: int, agent: Any = None) -> str:
    agent = agent or agent_of(tools, number, guard)
    async with guard.session(agent=f"agent-{number}", prompt="pay"):
        state = await agent.ainvoke({"messages": [HumanMessage("pay")]})
    return next(str(m.content) for m in state["messages"] if isinstance(m, ToolMessage))


async def inbox(guard: Guard, count: int, states: tuple[State, ...] = (State.PENDING,)) -> list[Approval]:
    """The requests in *states*, once there are *count* of them."""
    async with asyncio.timeout(30):
        while len(found := await asyncio.to_thread(guard.ledger.approvals, states)) < count:
            await asyncio.sleep(0.02)
    return found


def approve(guard: Guard, waiting: list[Approval]) -> None:
    for a in waiting:
        guard.ledger.decide(Verdict(a.id, a.revision, a.digest, Move.APPROVE, by="test"))


async def baseline_s(tools: list[BaseTool]) -> float:
    """The longest stall of the same twenty loops without a guard, in this very run."""
    agents = [agent_of(tools, n) for n in range(AGENTS)]
    async with watched() as stalls:
        await asyncio.gather(*(a.ainvoke({"messages": [HumanMessage("pay")]}) for a in agents))
    return stalls.longest_s


async def one_round_s(guard: Guard, original: BaseTool, ran: list[str]) -> float:
    """Twenty agents from the first message to the last answer; the longest stall of the loop.

    Building an agent's graph is LangChain's, before that.
    """
    ran.clear()
    tools = guard_tools([original], guard)
    built = [agent_of(tools, n, guard) for n in range(AGENTS)]
    async with watched() as stalls:
        agents = [asyncio.create_task(run_agent(guard, tools, n, built[n])) for n in range(AGENTS)]
        waiting = await inbox(guard, AGENTS)
        assert len(waiting) == AGENTS and ran == []
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        await asyncio.to_thread(approve, guard, waiting)
        answers = await asyncio.gather(*agents)
    assert sorted(answers) == sorted(ran) == sorted(f"paid n{n}" for n in range(AGENTS))
    return stalls.longest_s


@pytest.mark.parametrize("is_async", [True, False])
async def test_twenty_agents_wait_at_once_and_the_loop_is_free(open_guard: Open, is_async: bool) -> None:
    """Noise of the machine can only add to a stall, so the best of a few rounds is the guard's own."""
    guard = open_guard(ASK)
    ran: list[str] = []
    original = payer(ran, is_async=is_async)
    stalls = [await one_round_s(guard, original, ran)]
    while min(stalls) >= LONGEST_S and len(stalls) < ROUNDS:
        stalls.append(await one_round_s(guard, original, ran))
    plain_s = await baseline_s([original])
    assert min(stalls) < LONGEST_S, f"stalls of {stalls} s; {plain_s:.3f} s without a guard"


async def test_cancelling_an_agent_cancels_its_request(open_guard: Open) -> None:
    guard = open_guard(ASK)
    ran: list[str] = []
    tools = guard_tools([payer(ran, is_async=False)], guard)
    agents = [asyncio.create_task(run_agent(guard, tools, n)) for n in range(3)]
    await inbox(guard, 3)
    agents[0].cancel()
    await asyncio.gather(agents[0], return_exceptions=True)
    cancelled = await inbox(guard, 1, (State.CANCELLED,))
    assert [a.agent for a in cancelled] == ["agent-0"]
    rest = await inbox(guard, 2)
    await asyncio.to_thread(approve, guard, rest)
    assert sorted(await asyncio.gather(*agents[1:])) == ["paid n1", "paid n2"]
    assert sorted(ran) == ["paid n1", "paid n2"]


async def test_giving_up_on_a_waiting_call_leaves_nothing_that_runs_later(open_guard: Open) -> None:
    guard = open_guard(ASK)
    ran: list[str] = []
    [pay] = guard_tools([payer(ran, is_async=False)], guard)
    async with guard.session(agent="a"):
        call: Any = {"name": "pay", "args": {"to": "bob"}, "id": "1", "type": "tool_call"}
        waiting = asyncio.create_task(pay.ainvoke(call))
        [approval] = await inbox(guard, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await inbox(guard, 1, (State.CANCELLED,))
    assert (await asyncio.to_thread(guard.ledger.approval, approval.id)).state is State.CANCELLED
    assert ran == []


async def test_more_sync_bodies_wait_than_the_default_executor_has_threads(open_guard: Open) -> None:
    """50 waiting calls, all in the inbox: what waits takes no thread."""
    guard = open_guard(ASK)
    ran: list[str] = []

    @tool
    def pay(to: str) -> str:
        """Pay."""
        ran.append(to)
        return to

    [guarded] = guard_tools([pay], guard)
    async with guard.session(agent="a"):
        batch = asyncio.create_task(guarded.abatch([{"to": f"n{n}"} for n in range(50)]))
        waiting = await inbox(guard, 50)
        await asyncio.to_thread(approve, guard, waiting)
        assert sorted(await batch) == sorted(f"n{n}" for n in range(50))
    assert len(ran) == 50
