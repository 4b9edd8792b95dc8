from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fumehood.approval import IllegalTransition, Move, State
from fumehood.errors import LedgerError
from fumehood.ledger import StopScope, open_ledger
from fumehood.ledger.sqlite import SqliteLedger
from fumehood.model import Approve, Risk
from ledger.samples import a_call, asked, request, verdict


def test_request_comes_back_as_it_was_asked(ledger: SqliteLedger) -> None:
    rules = (Approve("a", Risk.HIGH, 5.0, "wait", controls=("ASI02", "LLM06"), rule="r"), Approve("b"))
    approval = asked(ledger, reasons=rules, injected=("state",), expires_at=None)
    assert ledger.approval(approval.id) == approval
    assert ledger.approvals() == [approval]


def test_request_is_found_by_a_unique_beginning(ledger: SqliteLedger) -> None:
    first = asked(ledger, id="abcd11")
    asked(ledger, id="abcd22")
    assert ledger.approval("abcd1").id == first.id
    for prefix in ("abcd", "abc", "x", "", "%"):
        with pytest.raises(KeyError):
            ledger.approval(prefix)


def test_verdict_is_recorded_with_who_gave_it(ledger: SqliteLedger) -> None:
    approval = asked(ledger)
    after = ledger.decide(verdict(approval, Move.DENY, note="not yours"))
    assert (after.state, after.decided_by, after.note) == (State.DENIED, "olga", "not yours")
    assert ledger.approval(approval.id) == after
    said = json.loads(ledger.last_events(1)[0].attributes)
    assert said["fumehood.approval.by"] == "olga"
    assert said["fumehood.approval.state"] == "denied"


def test_second_verdict_loses(ledger: SqliteLedger) -> None:
    approval = asked(ledger)
    ledger.decide(verdict(approval))
    with pytest.raises(IllegalTransition) as caught:
        ledger.decide(verdict(approval, Move.DENY))
    assert caught.value.state is State.APPROVED


@pytest.mark.parametrize("changes", [{"revision": 2}, {"digest": "hmac-sha256:other"}])
def test_verdict_about_something_else_is_refused(ledger: SqliteLedger, changes: dict[str, object]) -> None:
    approval = asked(ledger)
    with pytest.raises(LedgerError) as caught:
        ledger.decide(verdict(approval, **changes))
    assert caught.value.code == "digest_mismatch"
    assert ledger.approval(approval.id).state is State.PENDING


def test_verdict_for_an_unknown_request_is_a_key_error(ledger: SqliteLedger) -> None:
    with pytest.raises(KeyError):
        ledger.decide(verdict(request(ledger)))


def test_late_verdict_makes_it_expired_never_denied(ledger: SqliteLedger) -> None:
    approval = asked(ledger, expires_at=time.time() - 1)
    with pytest.raises(IllegalTransition) as caught:
        ledger.decide(verdict(approval))
    assert caught.value.state is State.EXPIRED
    assert ledger.approval(approval.id).state is State.EXPIRED


@pytest.mark.parametrize("move", [Move.APPROVE, Move.DENY, Move.CLAIM])
def test_a_plain_move_cannot_stand_for_a_verdict_or_a_claim(ledger: SqliteLedger, move: Move) -> None:
    approval = asked(ledger)
    with pytest.raises(ValueError, match="not a plain move"):
        ledger.move(approval.id, move)


@pytest.mark.parametrize(
    "rule", [Approve("a", approvers=2), Approve("a", separate=True), Approve("a", signed=True)]
)
def test_what_needs_signed_verdicts_cannot_be_asked(ledger: SqliteLedger, rule: Approve) -> None:
    with pytest.raises(LedgerError) as caught:
        asked(ledger, reasons=(rule,))
    assert caught.value.code == "signed_verdicts_unavailable"
    assert ledger.approvals() == []


def test_stop_cancels_what_waits_and_refuses_to_ask(ledger: SqliteLedger) -> None:
    waiting, approved = asked(ledger), asked(ledger, a_call(call_id="c2"))
    ledger.decide(verdict(approved))
    ledger.stop(StopScope.SESSION, "s1", by="olga")
    assert ledger.approval(waiting.id).state is State.CANCELLED
    assert ledger.approval(approved.id).state is State.CANCELLED
    with pytest.raises(LedgerError) as caught:
        asked(ledger)
    assert caught.value.code == "stopped"


def test_stop_of_another_agent_cancels_nothing(ledger: SqliteLedger) -> None:
    waiting = asked(ledger)
    ledger.stop(StopScope.AGENT, "other", by="olga")
    assert ledger.approval(waiting.id).state is State.PENDING


def test_request_whose_caller_is_dead_is_cancelled_by_any_reader(ledger: SqliteLedger) -> None:
    approval = asked(ledger, lease="123-0123456789abcdef.lease")
    assert ledger.approvals() == []
    assert ledger.approval(approval.id).state is State.CANCELLED
    with pytest.raises(IllegalTransition):
        ledger.decide(verdict(approval))


def test_verdict_for_a_dead_caller_cancels(ledger: SqliteLedger) -> None:
    approval = asked(ledger, lease="../../etc/passwd")
    with pytest.raises(IllegalTransition) as caught:
        ledger.decide(verdict(approval))
    assert caught.value.state is State.CANCELLED


def test_reader_that_may_not_write_sees_a_dead_request_as_cancelled(ledger: SqliteLedger, path: Path) -> None:
    approval = asked(ledger, lease="gone")
    reader = open_ledger(path, readonly=True)
    assert reader.approval(approval.id).state is State.CANCELLED
    assert reader.approvals() == []
    with pytest.raises(LedgerError) as caught:
        reader.decide(verdict(approval))
    assert caught.value.code == "ledger_readonly"
    reader.close()


def test_argument_that_looks_like_a_secret_is_not_written(ledger: SqliteLedger, path: Path) -> None:
    key = "AKIA" + "ABCDEFGHIJKLMNOP"
    approval = asked(ledger, a_call({"key": key, "password": "hunter2", "x": 1}))
    assert json.loads(ledger.approval(approval.id).args) == {
        "key": "⟨redacted⟩",
        "password": "⟨redacted⟩",
        "x": 1,
    }
    ledger.close()
    written = path.read_bytes()
    assert key.encode() not in written
    assert b"hunter2" not in written


_DECIDE = """
import sys
from fumehood.approval import Verdict, Move
from fumehood.errors import LedgerError
from fumehood.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
approval = ledger.approval(sys.argv[2])
try:
    ledger.decide(Verdict(approval.id, approval.revision, approval.digest, Move.APPROVE, "mallory"))
except LedgerError as error:
    print(error.code)
else:
    print("approved")
"""


def test_process_cannot_decide_the_request_of_its_own_ancestor(ledger: SqliteLedger, path: Path) -> None:
    approval = asked(ledger)
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_DECIDE!r}, *sys.argv[1:]])"
    for source in (_DECIDE, nested):
        done = subprocess.run(
            [sys.executable, "-c", source, str(path), approval.id], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "own_request"
    assert ledger.approval(approval.id).state is State.PENDING


def test_process_may_decide_the_request_of_another(ledger: SqliteLedger, path: Path) -> None:
    approval = asked(ledger, waiter=(1, 1))
    done = subprocess.run(
        [sys.executable, "-c", _DECIDE, str(path), approval.id], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "approved"


_RACE = """
import sys, time
from fumehood.approval import IllegalTransition, Move, Verdict
from fumehood.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
move = Move(sys.argv[2])
waiting = ledger.approvals()
print("ready", flush=True); sys.stdin.readline()
won = 0
for a in waiting:
    try:
        ledger.decide(Verdict(a.id, a.revision, a.digest, move, "x"))
        won += 1
    except IllegalTransition:
        pass
print(won)
"""


def test_race_of_two_deciders_has_one_winner_each_time(ledger: SqliteLedger, path: Path) -> None:
    requests = [asked(ledger, a_call(call_id=f"c{n}"), waiter=(1, 1)) for n in range(150)]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE, str(path), move],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for move in ("approve", "deny")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    outputs = _together(racers)
    assert sum(outputs) == len(requests)
    states = [ledger.approval(r.id).state for r in requests]
    assert states.count(State.APPROVED) == outputs[0]
    assert states.count(State.DENIED) == outputs[1]


def _together(racers: list[subprocess.Popen[str]]) -> list[int]:
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    return [int(racer.communicate()[0]) for racer in racers]


def test_every_move_is_in_the_trace(ledger: SqliteLedger) -> None:
    approval = asked(ledger)
    ledger.decide(verdict(approval))
    ledger.move(approval.id, Move.CANCEL, note="the agent went away")
    states = [
        json.loads(e.attributes)["fumehood.approval.state"] for e in ledger.events() if e.kind == "approval"
    ]
    assert states == ["pending", "approved", "cancelled"]
