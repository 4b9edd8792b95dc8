from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fumehood.approval import IllegalTransition, Move, State
from fumehood.errors import LedgerError
from fumehood.ledger import ClaimState, Outcome, StopScope, open_ledger
from fumehood.ledger.sqlite import SqliteLedger
from fumehood.model import Subject
from ledger.samples import SESSION, a_call, asked, verdict

DONE = Outcome(ClaimState.DONE, b'{"ok":true}', labels=("untrusted",), duration_s=0.25)


def test_finished_call_is_not_claimed_again_and_its_result_is_kept(ledger: SqliteLedger) -> None:
    first = a_call()
    assert ledger.claim(first, None).is_mine
    ledger.finish(first, DONE, claimed=True)
    again = a_call()
    assert again.digest != first.digest
    for answer in (ledger.find_claim(again), ledger.claim(again, None)):
        assert answer is not None
        assert (answer.is_mine, answer.state) == (False, ClaimState.DONE)
        assert (answer.attempt_id, answer.result) == (first.attempt_id, b'{"ok":true}')


@pytest.mark.parametrize(
    "other",
    [
        a_call({"amount_usd": 501}),
        a_call(call_id="c2"),
        a_call(tool="other"),
        a_call(session=replace(SESSION, id="s2")),
        a_call(session=replace(SESSION, subject=Subject("bot", "alice", ("admin",)))),
        a_call(target=["amount_usd"]),
    ],
)
def test_another_call_is_another_claim(ledger: SqliteLedger, other: object) -> None:
    first = a_call()
    ledger.claim(first, None)
    ledger.finish(first, DONE, claimed=True)
    assert ledger.find_claim(other) is None  # type: ignore[arg-type]
    assert ledger.claim(other, None).is_mine  # type: ignore[arg-type]


def test_running_call_is_not_claimed_again(ledger: SqliteLedger) -> None:
    ledger.claim(a_call(), None)
    assert ledger.claim(a_call(), None).state is ClaimState.OPEN
    assert not ledger.claim(a_call(), None).is_mine


def test_without_a_call_id_every_claim_is_new_and_the_record_says_so(ledger: SqliteLedger) -> None:
    assert ledger.claim(a_call(call_id=None), None).is_mine
    assert ledger.claim(a_call(call_id=None), None).is_mine
    assert ledger.find_claim(a_call(call_id=None)) is None
    assert "no call id" in ledger.last_events(1)[0].summary


@pytest.mark.parametrize("state", [ClaimState.FAILED, ClaimState.INTERRUPTED])
def test_failed_or_interrupted_call_may_be_tried_again(ledger: SqliteLedger, state: ClaimState) -> None:
    first = a_call()
    ledger.claim(first, None)
    ledger.finish(first, Outcome(state, error_type="ValueError"), claimed=True)
    again = a_call()
    assert ledger.find_claim(again) is None
    assert ledger.claim(again, None).is_mine
    ledger.finish(again, DONE, claimed=True)
    assert ledger.claim(a_call(), None).state is ClaimState.DONE


def test_unknown_outcome_is_never_rerun(ledger: SqliteLedger) -> None:
    first = a_call()
    ledger.claim(first, None)
    ledger.finish(first, Outcome(ClaimState.OUTCOME_UNKNOWN), claimed=True)
    assert ledger.claim(a_call(), None).state is ClaimState.OUTCOME_UNKNOWN


def test_outcome_is_in_the_trace(ledger: SqliteLedger) -> None:
    call = a_call()
    ledger.claim(call, None)
    ledger.finish(
        call, Outcome(ClaimState.FAILED, error_type="ValueError", detail=b'{"exit":9}'), claimed=True
    )
    event = ledger.last_events(1)[0]
    said = json.loads(event.attributes)
    assert (event.kind, event.summary) == ("outcome", "failed in 0 ms: ValueError")
    assert (said["error.type"], said["fumehood.detail"]) == ("ValueError", {"exit": 9})


def test_result_that_held_a_secret_is_redacted_and_not_kept_for_replay(
    ledger: SqliteLedger, path: Path
) -> None:
    call = a_call(secret_result=["/pin"])
    ledger.claim(call, None)
    ledger.finish(call, Outcome(ClaimState.DONE, b'{"pin":"geheim","x":1}'), claimed=True)
    answer = ledger.claim(a_call(secret_result=["/pin"]), None)
    assert (answer.state, answer.result) == (ClaimState.DONE, None)
    ledger.close()
    assert b"geheim" not in path.read_bytes()


def test_finishing_what_is_not_open_is_an_error(ledger: SqliteLedger) -> None:
    call = a_call()
    with pytest.raises(LedgerError) as caught:
        ledger.finish(call, DONE, claimed=True)
    assert caught.value.code == "ledger_claim_lost"
    ledger.claim(call, None)
    ledger.finish(call, DONE, claimed=True)
    with pytest.raises(LedgerError):
        ledger.finish(call, DONE, claimed=True)


def test_approval_goes_with_its_claim(ledger: SqliteLedger) -> None:
    call = a_call()
    approval = asked(ledger, call)
    with pytest.raises(IllegalTransition):
        ledger.claim(call, approval.id)
    ledger.decide(verdict(approval))
    assert ledger.claim(call, approval.id).is_mine
    assert ledger.approval(approval.id).state is State.CLAIMED
    ledger.finish(call, DONE, claimed=True)
    assert ledger.approval(approval.id).state is State.DONE


def test_approval_is_used_once(ledger: SqliteLedger) -> None:
    call = a_call(call_id=None)
    approval = asked(ledger, call)
    ledger.decide(verdict(approval))
    assert ledger.claim(call, approval.id).is_mine
    with pytest.raises(IllegalTransition) as caught:
        ledger.claim(call, approval.id)
    assert caught.value.state is State.CLAIMED


def test_approval_for_another_call_is_refused_and_nothing_is_claimed(ledger: SqliteLedger) -> None:
    approval = asked(ledger, a_call())
    ledger.decide(verdict(approval))
    other = a_call({"amount_usd": 9999})
    with pytest.raises(LedgerError) as caught:
        ledger.claim(other, approval.id)
    assert caught.value.code == "digest_mismatch"
    assert ledger.find_claim(other) is None
    assert ledger.approval(approval.id).state is State.APPROVED


def test_cancelled_caller_cannot_claim(ledger: SqliteLedger) -> None:
    call = a_call()
    approval = asked(ledger, call)
    ledger.decide(verdict(approval))
    ledger.move(approval.id, Move.CANCEL)
    with pytest.raises(IllegalTransition) as caught:
        ledger.claim(call, approval.id)
    assert caught.value.state is State.CANCELLED
    assert ledger.find_claim(call) is None


def test_approval_does_not_outlive_its_expiry(ledger: SqliteLedger) -> None:
    call = a_call()
    approval = asked(ledger, call, expires_at=time.time() + 1)
    ledger.decide(verdict(approval))
    ledger._clock = lambda: time.time() + 2
    with pytest.raises(IllegalTransition) as caught:
        ledger.claim(call, approval.id)
    assert caught.value.state is State.EXPIRED
    assert ledger.approval(approval.id).state is State.EXPIRED
    assert ledger.find_claim(call) is None


def test_approval_for_work_that_is_done_already_is_cancelled(ledger: SqliteLedger) -> None:
    first, again = a_call(), a_call()
    ledger.claim(first, None)
    approval = asked(ledger, again)
    ledger.decide(verdict(approval))
    ledger.finish(first, DONE, claimed=True)
    assert not ledger.claim(again, approval.id).is_mine
    assert ledger.approval(approval.id).state is State.CANCELLED


def test_stopped_run_claims_nothing(ledger: SqliteLedger) -> None:
    ledger.stop(StopScope.ALL, "", by="olga")
    with pytest.raises(LedgerError) as caught:
        ledger.claim(a_call(), None)
    assert caught.value.code == "stopped"


def test_one_of_many_threads_claims(ledger: SqliteLedger) -> None:
    won: list[bool] = []
    start = threading.Barrier(8)

    def take() -> None:
        start.wait()
        won.append(ledger.claim(a_call(), None).is_mine)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won.count(True) == 1


_CLAIM_AND_HANG = """
import sys
sys.path.insert(0, sys.argv[2])
from fumehood.ledger import open_ledger
from ledger.samples import a_call, asked, verdict, SESSION
ledger = open_ledger(sys.argv[1])
ledger.open_session(SESSION)
call = a_call()
approval = asked(ledger, call)
ledger.decide(verdict(approval))
ledger.claim(call, approval.id)
pending = asked(ledger, a_call(call_id="c2"))
print(approval.id, pending.id, flush=True)
sys.stdin.read()
"""


def test_claim_of_a_killed_process_becomes_outcome_unknown(ledger: SqliteLedger, path: Path) -> None:
    tests = str(Path(__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", _CLAIM_AND_HANG, str(path), tests],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as agent:
        assert agent.stdout is not None
        claimed, pending = agent.stdout.readline().split()
        assert ledger.claim(a_call(), None).state is ClaimState.OPEN
        assert ledger.approval(pending).state is State.PENDING
        os.kill(agent.pid, signal.SIGKILL)
        agent.wait()
        assert ledger.approval(pending).state is State.CANCELLED
        found = ledger.find_claim(a_call())
        assert found is not None
        assert found.state is ClaimState.OUTCOME_UNKNOWN
        assert ledger.approval(claimed).state is State.OUTCOME_UNKNOWN
        assert ledger.claim(a_call(), None).state is ClaimState.OUTCOME_UNKNOWN


def test_claim_itself_finds_the_dead(ledger: SqliteLedger) -> None:
    call = a_call()
    ledger.claim(call, None)
    with ledger._hands.store.write() as db:
        db.execute("UPDATE claims SET lease = 'gone'")
    assert ledger.claim(a_call(), None).state is ClaimState.OUTCOME_UNKNOWN
    with pytest.raises(LedgerError):
        ledger.finish(call, DONE, claimed=True)


def test_reap_counts_what_it_found(ledger: SqliteLedger) -> None:
    ledger.claim(a_call(), None)
    asked(ledger, lease="gone")
    with ledger._hands.store.write() as db:
        db.execute("UPDATE claims SET lease = 'gone'")
    assert ledger.reap() == 2
    assert ledger.reap() == 0


def test_claims_are_shared_with_another_ledger_object(ledger: SqliteLedger, path: Path) -> None:
    second = open_ledger(path)
    first = a_call()
    ledger.claim(first, None)
    ledger.finish(first, DONE, claimed=True)
    assert second.claim(a_call(), None).state is ClaimState.DONE
    second.close()
