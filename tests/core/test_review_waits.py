"""Cancelled again and again, ended twice, shared between threads: nothing waits on, nothing leaks over."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from core.playbook import ASK, Playbook
from core.test_guard import POLICY, Counted
from fumehood import Denied, Withheld, wishes
from fumehood.approval import IllegalTransition, Move, State
from fumehood.model import Origin
from fumehood.provenance import MAX_SOURCES, Sources, read_text
from fumehood.sessions import current_session
from fumehood.testing import guarded


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "shop.rego").write_text(POLICY)
    return folder


@pytest.mark.parametrize(
    ("state", "code"), [(State.EXPIRED, "approval_expired"), (State.CANCELLED, "approval_cancelled")]
)
def test_request_that_ended_before_the_claim_says_how(state: State, code: str) -> None:
    book = Playbook(replies={wishes.Evaluate: ASK, wishes.Claim: IllegalTransition(state, Move.CLAIM)})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == code and not book.ran


def test_approval_is_dropped_if_the_call_ends_while_it_is_decided_again() -> None:
    book = Playbook(replies={wishes.Evaluate: [ASK, asyncio.CancelledError()]})
    with pytest.raises(asyncio.CancelledError):
        book.play()
    assert book.names[-1] == "Drop"


def test_outcome_that_cannot_be_written_for_any_reason_withholds() -> None:
    book = Playbook(replies={wishes.Finish: ValueError("hunter2")})
    with pytest.raises(Withheld) as withheld:
        book.play()
    assert withheld.value.code == "outcome_unknown" and "hunter2" not in str(withheld.value)


def test_cancelled_body_stays_cancelled_if_its_outcome_cannot_be_written() -> None:
    book = Playbook(replies={wishes.Run: asyncio.CancelledError(), wishes.Finish: ValueError("full")})
    with pytest.raises(asyncio.CancelledError):
        book.play()


async def test_run_that_is_cancelled_again_and_again_leaves_no_request(tmp_path: Path) -> None:
    body = Counted()
    with guarded(folder_of(tmp_path), folder=tmp_path) as guard:
        async with guard.session(agent="bot"):
            for delay in (0.0, 0.001, 0.005, 0.02):
                task = asyncio.create_task(guard.acall("ask_me", {}, run=body))
                await asyncio.sleep(delay)
                while not task.done():
                    task.cancel()
                    await asyncio.sleep(0)
                assert task.cancelled()
        end = time.monotonic() + 30
        while guard.ledger.approvals() and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert guard.ledger.approvals() == [] and body.runs == []


def test_one_session_open_in_two_threads_stays_in_neither(tmp_path: Path) -> None:
    first, second, after = threading.Event(), threading.Event(), []
    with guarded(folder_of(tmp_path), folder=tmp_path) as guard:
        session = guard.session(agent="bot")

        def outer() -> None:
            with session:
                first.set()
                second.wait(30)
            after.append(current_session())

        thread = threading.Thread(target=outer)
        thread.start()
        first.wait(30)
        with session:
            second.set()
            thread.join(30)
            assert current_session() is session
        assert after == [None] and current_session() is None


def test_user_who_says_very_much_is_still_heard() -> None:
    sources = Sources()
    for index in range(MAX_SOURCES + 2):
        sources.add(read_text(Origin.USER, "user", f"word{index}"))
    assert len(sources.known) == MAX_SOURCES + 2
