from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from fumehood.errors import LedgerError
from fumehood.ledger import ClaimState, Outcome, StopScope
from fumehood.ledger.sqlite import SqliteLedger
from fumehood.model import Decision, Effect, Limit, Session, Subject
from ledger.samples import DOCUMENT, PERMIT, SESSION, a_call, limited, permit


def test_recorded_decision_is_in_the_trace_with_its_policy_input(ledger: SqliteLedger) -> None:
    recorded = ledger.record(a_call(), PERMIT, document=DOCUMENT)
    event = ledger.event(recorded.seq)
    said = json.loads(event.attributes)
    assert (event.kind, event.tool, event.agent, event.effect) == (
        "decision",
        "issue_refund",
        "bot",
        "permit",
    )
    assert said["gen_ai.tool.name"] == "issue_refund"
    assert said["gen_ai.tool.call.id"] == "c1"
    assert said["gen_ai.tool.call.arguments"] == {"amount_usd": 500}
    assert said["gen_ai.agent.id"] == "bot"
    assert said["fumehood.rules"] == ["policies.refunds.permit"]
    assert ledger.policy_input(recorded.seq) == DOCUMENT


def test_refusal_keeps_its_detail_for_the_record(ledger: SqliteLedger) -> None:
    denied = Decision.deny("denied_by_policy", "no", detail="it was mallory", controls=("ASI02",))
    seq = ledger.record(a_call(), denied, document=b"").seq
    said = json.loads(ledger.event(seq).attributes)
    assert said["fumehood.reasons"] == [
        {"code": "denied_by_policy", "text": "no", "detail": "it was mallory", "controls": ["ASI02"]}
    ]
    with pytest.raises(KeyError):
        ledger.policy_input(seq)


def test_limit_stops_exactly_at_its_number(ledger: SqliteLedger) -> None:
    effects = [ledger.record(a_call(), limited(max=3), document=b"").decision for _ in range(5)]
    assert [d.is_permit for d in effects] == [True, True, True, False, False]
    reason = effects[3].reasons[0]
    assert reason.code == "limit_exceeded"
    assert reason.retryable
    assert reason.retry_after_s is not None
    assert 55 < reason.retry_after_s <= 60


def test_denial_counts_nothing(ledger: SqliteLedger) -> None:
    both = permit(Limit("a", 10, 60), Limit("b", 1, 60))
    assert ledger.record(a_call(), both, document=b"").decision.is_permit
    for _ in range(4):
        assert not ledger.record(a_call(), both, document=b"").decision.is_permit
    left = [ledger.record(a_call(), limited("a", 10), document=b"").decision.is_permit for _ in range(10)]
    assert left.count(True) == 9


def test_limits_of_a_denied_decision_are_not_counted(ledger: SqliteLedger) -> None:
    denied = replace(limited(max=1), effect=Effect.DENY)
    ledger.record(a_call(), denied, document=b"")
    ledger.record(a_call(), limited(max=1), document=b"", count_limits=False)
    assert ledger.record(a_call(), limited(max=1), document=b"").decision.is_permit


def test_window_slides(ledger: SqliteLedger) -> None:
    now = 1000.0
    ledger._clock = lambda: now
    permitted = []
    for now in (1000.0, 1004.0, 1009.0, 1010.0, 1013.0, 1014.5, 1019.5):
        permitted.append(ledger.record(a_call(), limited(max=2, per_s=10), document=b"").decision.is_permit)
    assert permitted == [True, True, False, True, False, True, False]


def test_retry_after_is_when_enough_falls_out_of_the_window(ledger: SqliteLedger) -> None:
    now = 1000.0
    ledger._clock = lambda: now
    for now, cost in ((1000.0, 1), (1002.0, 3), (1004.0, 1)):
        assert ledger.record(a_call(), limited(max=5, per_s=10, cost=cost), document=b"").decision.is_permit
    now = 1005.0
    refused = ledger.record(a_call(), limited(max=5, per_s=10, cost=2), document=b"").decision
    assert refused.reasons[0].retry_after_s == 7.0  # at 1012, when the second spend is out
    now = 1012.0
    assert ledger.record(a_call(), limited(max=5, per_s=10, cost=2), document=b"").decision.is_permit


def test_cost_above_the_limit_is_never_retryable(ledger: SqliteLedger) -> None:
    refused = ledger.record(a_call(), limited(max=5, cost=6), document=b"").decision
    assert not refused.reasons[0].retryable
    assert refused.reasons[0].retry_after_s is None


def test_fractions_add_up_exactly(ledger: SqliteLedger) -> None:
    every = [
        ledger.record(a_call(), limited(max=1, cost=0.1), document=b"").decision.is_permit for _ in range(12)
    ]
    assert every.count(True) == 10


def test_clock_that_runs_backwards_frees_nothing(ledger: SqliteLedger) -> None:
    now = 5000.0
    ledger._clock = lambda: now
    assert ledger.record(a_call(), limited(max=1, per_s=10), document=b"").decision.is_permit
    now = 1000.0
    assert not ledger.record(a_call(), limited(max=1, per_s=10), document=b"").decision.is_permit


@pytest.mark.parametrize(
    "limit",
    [
        Limit("k", math.nan, 60),
        Limit("k", -1, 60),
        Limit("k", 5, 0),
        Limit("k", 5, math.inf),
        Limit("k", 5, 60, -1),
        Limit("k", 5, 60, math.inf),
    ],
)
def test_limit_that_cannot_be_counted_is_a_denial(ledger: SqliteLedger, limit: Limit) -> None:
    decision = ledger.record(a_call(), permit(limit), document=b"").decision
    assert decision.reasons[0].code == "bad_limit"


def test_two_rules_with_one_key_share_a_count(ledger: SqliteLedger) -> None:
    both = permit(Limit("k", 2, 10), Limit("k", 100, 60, rule="other"))
    assert [ledger.record(a_call(), both, document=b"").decision.is_permit for _ in range(3)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("scope", "value"), [(StopScope.SESSION, "s1"), (StopScope.AGENT, "bot"), (StopScope.ALL, "")]
)
def test_stopped_call_is_denied_until_lifted(ledger: SqliteLedger, scope: StopScope, value: str) -> None:
    ledger.stop(scope, value, by="olga", reason="drill")
    decision = ledger.record(a_call(), PERMIT, document=b"").decision
    assert decision.reasons[0].code == "stopped"
    other = replace(SESSION, id="s2", subject=Subject("other"))
    is_permitted = ledger.record(a_call(session=other), PERMIT, document=b"").decision.is_permit
    assert is_permitted == (scope is not StopScope.ALL)
    assert ledger.lift(scope, value, by="olga") == 1
    assert ledger.lift(scope, value, by="olga") == 0
    assert ledger.record(a_call(), PERMIT, document=b"").decision.is_permit


def test_stop_outlives_the_process_that_made_it(ledger: SqliteLedger) -> None:
    ledger.stop(StopScope.AGENT, "bot", by="olga", reason="drill")
    assert [(s.scope, s.value, s.by, s.reason) for s in ledger.stops()] == [
        (StopScope.AGENT, "bot", "olga", "drill")
    ]


def test_counters_tell_calls_and_denials(ledger: SqliteLedger) -> None:
    ledger.record(a_call(), PERMIT, document=b"")
    ledger.record(a_call(), Decision.deny("no", "no"), document=b"")
    ledger.record(a_call(tool="read_ticket"), PERMIT, document=b"")
    counters = json.loads(ledger.past(SESSION, with_history=False).counters)
    assert counters["session"] == {
        "issue_refund": {"calls": 2, "denied": 1},
        "read_ticket": {"calls": 1, "denied": 0},
    }
    assert counters["windows"] == {"60": {"calls": 3}, "3600": {"calls": 3}}


def test_second_decision_about_an_attempt_is_not_a_second_call(ledger: SqliteLedger) -> None:
    call = a_call()
    ledger.record(call, PERMIT, document=b"")
    ledger.record(call, Decision.deny("decision_changed", "no"), document=b"", count_limits=False)
    past = ledger.past(SESSION, with_history=True)
    assert json.loads(past.counters)["session"] == {"issue_refund": {"calls": 1, "denied": 1}}
    assert [(h["tool"], h["effect"]) for h in json.loads(past.history)] == [("issue_refund", "deny")]


def test_windows_count_all_sessions_of_the_agent_and_slide(ledger: SqliteLedger) -> None:
    now = 10_000.0
    ledger._clock = lambda: now
    second = replace(SESSION, id="s2")
    for now in (10_000.0, 13_000.0, 13_590.0, 13_600.0):
        ledger.record(a_call(session=second), PERMIT, document=b"")
    now = 13_601.0
    counters = json.loads(ledger.past(SESSION, with_history=False).counters)
    assert counters == {"session": {}, "windows": {"60": {"calls": 2}, "3600": {"calls": 3}}}


def test_history_holds_the_last_fifty_with_the_labels_of_reads_that_just_ended(ledger: SqliteLedger) -> None:
    for number in range(60):
        call = a_call(call_id=f"c{number}", tool=f"t{number}")
        ledger.record(call, PERMIT, document=b"")
        ledger.finish(call, Outcome(ClaimState.DONE, labels=("untrusted",)), claimed=False)
    history = json.loads(ledger.past(SESSION, with_history=True).history)
    assert [h["tool"] for h in history] == [f"t{n}" for n in range(10, 60)]
    assert all(h["labels"] == ["untrusted"] for h in history)
    assert ledger.past(SESSION, with_history=False).history == b"[]"


def test_session_is_resumed_with_its_prompt(ledger: SqliteLedger) -> None:
    again = ledger.open_session(Session("s1", SESSION.subject))
    assert again.prompt == "look at ticket 881"


@pytest.mark.parametrize("subject", [Subject("eve", "alice"), Subject("bot", "eve"), Subject("bot")])
def test_session_of_another_agent_or_user_is_refused(ledger: SqliteLedger, subject: Subject) -> None:
    with pytest.raises(LedgerError) as caught:
        ledger.open_session(Session("s1", subject))
    assert caught.value.code == "ledger_session_mismatch"


def test_name_that_is_not_unicode_is_a_ledger_error_and_nothing_is_written(ledger: SqliteLedger) -> None:
    before = len(ledger.events())
    strange = replace(SESSION, id="s\ud800")
    with pytest.raises(LedgerError):
        ledger.record(a_call(session=strange), PERMIT, document=b"")
    assert len(ledger.events()) == before
    assert ledger.record(a_call(), PERMIT, document=b"").decision.is_permit
