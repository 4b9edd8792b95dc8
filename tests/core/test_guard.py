"""The guard whole: real policies, real ledger, the engine in a thread."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fumehood import ConfigError, Denied, Guard, Withheld
from fumehood.approval import Approval, Move, State, Verdict
from fumehood.ledger import StopScope
from fumehood.testing import guarded

POLICY = """
package policies.shop

import data.fumehood.call

permit if call.tool == "look"

permit if call.tool in {"ask_me", "ask_soon"}

permit if call.tool == "leak"

permit if call.tool == "limited"

permit if {
	call.tool == "pay"
	call.args.amount_usd > 0
	call.args.amount_usd <= 100
}

approve contains {"reason": "always ask", "risk": "low", "timeout_s": 60} if call.tool == "ask_me"

approve contains {"reason": "nobody is there", "risk": "low", "timeout_s": 0.1} if call.tool == "ask_soon"

limit contains {"key": "limited", "max": 3, "per_s": 3600} if call.tool == "limited"

withhold contains "the result names a password" if {
	call.tool == "leak"
	is_string(call.result)
	contains(call.result, "password")
}

redact contains {"pattern": "[0-9]{16}"} if call.tool == "leak"
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "shop.rego").write_text(POLICY)
    return folder


@pytest.fixture
def guard(policies: Path, tmp_path: Path) -> Iterator[Guard]:
    with guarded(policies, folder=tmp_path) as made:
        yield made


class Counted:
    """A tool body that counts its runs."""

    def __init__(self, result: Any = "done") -> None:
        self.runs: list[dict[str, Any]] = []
        self.result = result

    def __call__(self, **kwargs: Any) -> Any:
        self.runs.append(kwargs)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def named(name: str, body: Counted) -> Any:
    body.__name__ = name  # type: ignore[attr-defined]
    return body


def kinds(guard: Guard) -> list[str]:
    guard.ledger.flush()
    return [e.kind for e in guard.ledger.events()]


def test_permitted_call_runs_and_is_on_record(guard: Guard) -> None:
    body = Counted()
    with guard.session(agent="bot", prompt="pay $40"):
        assert guard.call("pay", {"amount_usd": 40}, run=body) == "done"
    assert body.runs == [{"amount_usd": 40}]
    assert {"session", "decision", "outcome"} <= set(kinds(guard))


@pytest.mark.parametrize(
    "arguments", [{}, {"amount_usd": None}, {"amount_usd": 101}, {"amount_usd": "x"}, {"amount_usd": -1}]
)
def test_silence_of_the_policy_is_no(guard: Guard, arguments: dict[str, Any]) -> None:
    body = Counted()
    with guard.session(agent="bot"), pytest.raises(Denied):
        guard.call("pay", arguments, run=body)
    assert body.runs == []


def test_arguments_that_do_not_bind_are_denied_and_on_record(guard: Guard) -> None:
    body = Counted()
    with guard.session(agent="bot"), pytest.raises(Denied) as denied:
        guard.call("pay", {"amount_usd": float("nan")}, run=body)
    assert denied.value.code == "bad_arguments" and body.runs == []
    assert "refused" in kinds(guard)


def test_decorated_function_keeps_its_face_and_is_governed(guard: Guard) -> None:
    ran = []

    @guard.tool(kind="money", target=["order_id"])
    def pay(amount_usd: float, order_id: str = "A-1") -> str:
        """Pay it."""
        ran.append(amount_usd)
        return "paid"

    with guard.session(agent="bot"):
        assert pay(40.0) == "paid"
        assert pay(amount_usd=41) == "paid"
        with pytest.raises(Denied):
            pay(4000)
    assert ran == [40.0, 41.0]
    assert (pay.__name__, pay.__doc__) == ("pay", "Pay it.")
    assert not hasattr(pay, "__wrapped__")


async def test_decorated_coroutine_function_is_awaited(guard: Guard) -> None:
    @guard.tool
    async def look(at: str) -> str:
        await asyncio.sleep(0)
        return f"saw {at}"

    async with guard.session(agent="bot"):
        assert await look("x") == "saw x"


def test_generator_body_runs_while_the_call_is_on_record(guard: Guard) -> None:
    ran = []

    @guard.tool(name="look")
    def look_all() -> Any:
        ran.append(1)
        yield "a"
        yield "b"

    with guard.session(agent="bot"):
        assert look_all() == ["a", "b"]
    assert ran == [1]


def test_coroutine_function_in_a_sync_call_is_an_error_and_does_not_run(guard: Guard) -> None:
    ran = []

    async def look() -> None:
        ran.append(1)

    with guard.session(agent="bot"), pytest.raises(Exception, match="await it"):
        guard.call("look", {}, run=look)
    assert ran == []


# --- asking ---


def decide(guard: Guard, move: Move, wait_s: float = 30.0) -> Approval:
    end = time.monotonic() + wait_s
    while not (pending := guard.ledger.approvals()):
        assert time.monotonic() < end, "nothing is pending"
        time.sleep(0.005)
    one = pending[0]
    return guard.ledger.decide(Verdict(one.id, one.revision, one.digest, move, by="op"))


def test_approved_call_runs_once_and_the_request_is_done(policies: Path, tmp_path: Path) -> None:
    body = Counted()
    with guarded(policies, operator="approve", folder=tmp_path) as guard, guard.session(agent="bot"):
        assert guard.call("ask_me", {}, run=body) == "done"
        assert len(body.runs) == 1
        assert [a.state for a in guard.ledger.approvals([State.DONE])] == [State.DONE]


def test_denied_by_a_person_never_runs(policies: Path, tmp_path: Path) -> None:
    body = Counted()
    with guarded(policies, operator={"ask_me": "deny"}, folder=tmp_path) as guard, guard.session(agent="bot"):
        with pytest.raises(Denied) as denied:
            guard.call("ask_me", {}, run=body)
    assert denied.value.code == "denied_by_person" and body.runs == []


def test_request_that_nobody_answers_expires(guard: Guard) -> None:
    body = Counted()
    with guard.session(agent="bot"), pytest.raises(Denied) as denied:
        guard.call("ask_soon", {}, run=body)
    assert denied.value.code == "approval_expired" and body.runs == []
    assert [a.state for a in guard.ledger.approvals([State.EXPIRED])] == [State.EXPIRED]


def test_unattended_guard_asks_nobody(policies: Path, tmp_path: Path) -> None:
    body = Counted()
    with Guard(policies, ledger=tmp_path / "l.db", isolation="thread", unattended="deny") as guard:
        with guard.session(agent="bot"), pytest.raises(Denied) as denied:
            guard.call("ask_me", {}, run=body)
        assert guard.ledger.approvals(list(State)) == []
    assert denied.value.code == "nobody_to_ask" and body.runs == []


def test_waiting_call_says_on_stderr_how_to_decide_it(
    guard: Guard, capfd: pytest.CaptureFixture[str]
) -> None:
    with guard.session(agent="b\x1b[31mot"), pytest.raises(Denied):
        guard.call("ask_soon", {}, run=Counted())
    line = capfd.readouterr().err
    assert "fumehood approvals show|approve|deny" in line and "--ledger" in line
    assert "\x1b" not in line


async def test_cancelled_run_cancels_its_request(guard: Guard) -> None:
    body = Counted()
    async with guard.session(agent="bot"):
        task = asyncio.create_task(guard.acall("ask_me", {}, run=body))
        while not guard.ledger.approvals():
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [a.state for a in guard.ledger.approvals([State.CANCELLED])] == [State.CANCELLED]
    assert body.runs == []


async def test_verdict_wakes_an_awaiting_call(guard: Guard) -> None:
    async with guard.session(agent="bot"):
        task = asyncio.create_task(guard.acall("ask_me", {}, run=Counted()))
        await asyncio.to_thread(decide, guard, Move.APPROVE)
        assert await task == "done"


def test_stop_cancels_what_waits_and_denies_what_comes(guard: Guard) -> None:
    body, ends = Counted(), []

    def waiting() -> None:
        with guard.session(agent="bot"), pytest.raises(Denied) as denied:
            guard.call("ask_me", {}, run=body)
        ends.append(denied.value.code)

    thread = threading.Thread(target=waiting)
    thread.start()
    while not guard.ledger.approvals():
        time.sleep(0.005)
    guard.ledger.stop(StopScope.AGENT, "bot", by="op")
    thread.join(30)
    with guard.session(agent="bot"), pytest.raises(Denied) as denied:
        guard.call("look", {}, run=body)
    assert ends == ["approval_cancelled"] and denied.value.code == "stopped" and body.runs == []
    guard.ledger.lift(StopScope.AGENT, "bot", by="op")
    with guard.session(agent="bot"):
        assert guard.call("look", {}, run=body) == "done"


def test_closing_the_guard_ends_what_waits(policies: Path, tmp_path: Path) -> None:
    body, ends = Counted(), []
    guard = Guard(policies, ledger=tmp_path / "l.db", isolation="thread")

    def waiting() -> None:
        with guard.session(agent="bot"), pytest.raises(Denied) as denied:
            guard.call("ask_me", {}, run=body)
        ends.append(denied.value.code)

    thread = threading.Thread(target=waiting)
    thread.start()
    while not guard.ledger.approvals():
        time.sleep(0.005)
    guard.close()
    thread.join(30)
    assert ends and body.runs == []


# --- exactly once, limits ---


def test_finished_call_is_not_done_again(guard: Guard) -> None:
    body = Counted("receipt 1")
    with guard.session(agent="bot", id="s1"):
        first = guard.call("pay", {"amount_usd": 1}, run=body, call_id="c1")
    with guard.session(agent="bot", id="s1"):
        again = guard.call("pay", {"amount_usd": 1}, run=body, call_id="c1")
    assert first == again == "receipt 1" and len(body.runs) == 1


def test_same_call_id_with_other_arguments_is_another_call(guard: Guard) -> None:
    body = Counted()
    with guard.session(agent="bot"):
        guard.call("pay", {"amount_usd": 1}, run=body, call_id="c1")
        guard.call("pay", {"amount_usd": 2}, run=body, call_id="c1")
    assert len(body.runs) == 2


def test_failed_call_may_be_tried_again(guard: Guard) -> None:
    body = Counted(ValueError("boom"))
    with guard.session(agent="bot"):
        for _ in range(2):
            with pytest.raises(ValueError, match="boom"):
                guard.call("pay", {"amount_usd": 1}, run=body, call_id="c1")
    assert len(body.runs) == 2


def test_limit_stops_at_exactly_its_number(guard: Guard) -> None:
    body = Counted()
    with guard.session(agent="bot"):
        for _ in range(3):
            guard.call("limited", {}, run=body)
        with pytest.raises(Denied) as denied:
            guard.call("limited", {}, run=body)
    assert denied.value.code == "limit_exceeded" and denied.value.retryable
    assert denied.value.decision.reasons[0].retry_after_s
    assert len(body.runs) == 3


# --- results ---


def test_withheld_result_does_not_reach_the_agent(guard: Guard) -> None:
    with guard.session(agent="bot"), pytest.raises(Withheld) as withheld:
        guard.call("leak", {}, run=Counted("the password is x"))
    assert "the password is x" not in str(withheld.value)


def test_redacted_result_reaches_the_agent_without_the_part(guard: Guard) -> None:
    with guard.session(agent="bot"):
        shown = guard.call("leak", {}, run=Counted({"card": "4111111111111111", "n": 1}))
    assert shown == {"card": "[redacted]", "n": 1}


def test_result_that_cannot_be_rebuilt_is_withheld(guard: Guard) -> None:
    class Card:
        def __str__(self) -> str:
            return "4111111111111111"

    with guard.session(agent="bot"), pytest.raises(Withheld):
        guard.call("leak", {}, run=Counted(Card()))


def test_tools_own_error_is_judged_too(guard: Guard) -> None:
    with guard.session(agent="bot"), pytest.raises(Withheld) as withheld:
        guard.call("leak", {}, run=Counted(ValueError("password hunter2")))
    assert "hunter2" not in str(withheld.value)
    assert withheld.value.__cause__ is None and withheld.value.__suppress_context__


# --- configuration ---


@pytest.mark.parametrize("options", [{"isolation": "process"}, {"tier": "fullest"}, {"unattended": "allow"}])
def test_unknown_option_is_refused_with_what_is_known(policies: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="write one of"):
        Guard(policies, **options)


def test_guard_without_policies_does_not_start() -> None:
    with pytest.raises(ConfigError, match="needs policies"):
        Guard()


def test_call_outside_any_session_is_governed_and_said_loudly_once(
    guard: Guard, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert guard.call("look", {}, run=Counted()) == "done"
    assert capfd.readouterr().err.count("outside any session") == 1


def test_a_guard_for_tests_that_is_refused_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "odd.rego").write_text("package policies.odd\n\npermit := true\n")
    gc.collect()  # what earlier tests have left may go at any time
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError), guarded(tmp_path, folder=tmp_path):
        pass
    assert set(os.listdir("/proc/self/fd")) <= before
