"""Agents and operators on one ledger, killed at random moments, then held to account.

Call ids are few and shared, so the same call comes again and again from different processes.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from fumehood.approval import IllegalTransition, Move, State
from fumehood.errors import LedgerError
from fumehood.ledger import ClaimState, Outcome, StopScope
from fumehood.ledger.sqlite import SqliteLedger
from ledger.samples import a_call, limited, request, verdict

MOST_PER_SECOND = 50


def agent(ledger: SqliteLedger, effects: Path) -> None:
    with open(effects, "a", buffering=1) as acted:
        while True:
            with contextlib.suppress(IllegalTransition):
                one_call(ledger, lambda line: acted.write(line + "\n"))


def one_call(ledger: SqliteLedger, act: Callable[[str], object]) -> None:
    call = a_call(call_id=str(random.randrange(400)))
    decision = ledger.record(call, limited(max=MOST_PER_SECOND, per_s=1), document=b"{}").decision
    if not decision.is_permit or ledger.find_claim(call) is not None:
        return
    expires_at = time.time() + random.choice([0.02, 1])
    approval = request(ledger, call, id=os.urandom(6).hex(), expires_at=expires_at, waiter=(1, 1))
    try:
        ledger.ask(approval)
        if waited(ledger, approval.id) is State.APPROVED and ledger.claim(call, approval.id).is_mine:
            act(f"{call.call_id} {approval.id}")
            ledger.finish(call, Outcome(ClaimState.DONE, b"1"), claimed=True)
    except LedgerError as error:
        assert error.code == "stopped"


def waited(ledger: SqliteLedger, id: str) -> State:
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        state = ledger.approval(id).state
        if state is not State.PENDING:
            return state
        time.sleep(0.001)
    return ledger.move(id, Move.EXPIRE).state


def operator(ledger: SqliteLedger) -> None:
    while True:
        for approval in ledger.approvals():
            move = random.choice([Move.APPROVE, Move.APPROVE, Move.DENY])
            with contextlib.suppress(IllegalTransition):
                ledger.decide(verdict(approval, move))
        time.sleep(0.002)
        if random.random() < 0.01:
            ledger.stop(StopScope.AGENT, "bot", by="olga")
            time.sleep(0.01)
            ledger.lift(StopScope.AGENT, "bot", by="olga")


def start(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        random.seed(os.getpid())
        work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(3)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "a process failed by itself"


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_nothing_runs_twice_or_unapproved_whoever_is_killed(
    ledger: SqliteLedger, path: Path, seconds: int
) -> None:
    effects = path.with_name("effects")
    effects.touch()
    work = [lambda: agent(ledger, effects)] * 4 + [lambda: operator(ledger)] * 2
    running = {start(job): job for job in work}
    until, kills = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < until:
            time.sleep(random.random() * 0.1)
            pid = random.choice(list(running))
            job = running.pop(pid)
            end(pid)
            running[start(job)] = job
            kills += 1
    finally:
        for pid in running:
            end(pid)
    ledger.reap()
    check(ledger, [line.split() for line in effects.read_text().splitlines()])
    print(f"{kills} kills")


def check(ledger: SqliteLedger, ran: list[list[str]]) -> None:
    assert ran
    assert len({call_id for call_id, _ in ran}) == len(ran)
    for _, approval_id in ran:
        approval = ledger.approval(approval_id)
        assert approval.state in (State.DONE, State.OUTCOME_UNKNOWN)
        assert approval.decided_by == "olga"
    states = {a.state for a in ledger.approvals(tuple(State), limit=-1)}
    assert not states & {State.PENDING, State.APPROVED, State.CLAIMED}
    with ledger._hands.store.read() as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT at FROM events WHERE kind = 'decision' AND effect = 'permit' ORDER BY at"
        times = [row[0] for row in db.execute(query)]
    first = 0
    for last, at in enumerate(times):
        while times[first] <= at - 1:
            first += 1
        assert last - first + 1 <= MOST_PER_SECOND
