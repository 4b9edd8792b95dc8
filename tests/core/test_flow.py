"""The ten steps, played: which wishes the flow makes, in which order, and what each failure becomes."""

from __future__ import annotations

import asyncio

import pytest

from core.playbook import ASK, CONFINE, PERMIT, REFUSE, Playbook, a_call, approval
from fumehood import wishes
from fumehood.approval import State
from fumehood.errors import BindError, ConfinementError, Denied, LedgerError, PdpError, Withheld
from fumehood.model import Decision, Effect, Kind, Label, Phase, PolicyInput, Reason, Redact, Runs, Unknown

STEPS = [
    "Bind",
    "Earlier",
    "Assemble",
    "Evaluate",
    "Record",
    "Claim",
    "Run",
    "View",
    "AssembleResult",
    "Finish",
]
RESULT = {wishes.AssembleResult: PolicyInput(Phase.RETURN_RESULT, "pay", b"{}")}


def test_permitted_call_takes_all_steps_in_order() -> None:
    book = Playbook()
    assert book.play() == "result"
    assert book.names == STEPS


def test_async_driver_makes_the_same_wishes() -> None:
    book = Playbook()
    assert asyncio.run(book.aplay()) == "result"
    assert book.names == STEPS


def test_read_is_not_claimed() -> None:
    book = Playbook(a_call(Kind.READ))
    book.play()
    assert "Claim" not in book.names
    assert book.last(wishes.Finish).is_claimed is False


def test_tool_without_a_kind_is_claimed() -> None:
    book = Playbook(a_call(None))
    book.play()
    assert "Claim" in book.names


def test_refused_call_never_runs_and_is_recorded() -> None:
    book = Playbook(replies={wishes.Evaluate: REFUSE})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == "denied_by_policy"
    assert book.names == ["Bind", "Earlier", "Assemble", "Evaluate", "Record"]


def test_nothing_runs_before_the_decision_is_recorded() -> None:
    book = Playbook()
    book.play()
    assert book.names.index("Record") < book.names.index("Claim") < book.names.index("Run")


def test_full_limit_found_while_recording_denies() -> None:
    full = Decision(Effect.DENY, (Reason("limit_exceeded", "too often", retryable=True, retry_after_s=3.0),))
    book = Playbook(replies={wishes.Record: full})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.retryable and not book.ran


def test_obligation_that_nobody_knows_denies() -> None:
    book = Playbook(replies={wishes.Evaluate: Decision(Effect.PERMIT, obligations=(Unknown("dance"),))})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == "unknown_obligation" and not book.ran


def test_confinement_of_a_tool_in_the_agents_process_denies() -> None:
    book = Playbook(replies={wishes.Evaluate: CONFINE})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == "cannot_confine" and not book.ran


def test_confined_tool_is_told_every_profile_named() -> None:
    book = Playbook(a_call(runs=Runs.CONFINED), {wishes.Evaluate: CONFINE})
    book.play()
    assert book.last(wishes.Run).confinements == CONFINE.confinements


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [
        (wishes.Bind, BindError("bad", pointer="/n"), "bad_arguments"),
        (wishes.Earlier, LedgerError("gone", code="ledger_error"), "ledger_error"),
        (wishes.Assemble, PdpError("big", code="pdp_input_too_large"), "pdp_input_too_large"),
        (wishes.Evaluate, PdpError("late", code="pdp_timeout"), "pdp_timeout"),
        (wishes.Evaluate, RuntimeError("bug"), "internal_error"),
        (wishes.Record, LedgerError("full", code="ledger_full"), "ledger_full"),
        (wishes.Claim, LedgerError("stopped", code="stopped"), "stopped"),
        (wishes.Claim, RuntimeError("bug"), "internal_error"),
    ],
)
def test_every_failure_before_the_run_is_denied_and_nothing_runs(
    step: type, error: Exception, code: str
) -> None:
    book = Playbook(replies={step: error})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == code
    assert not book.ran


def test_words_of_our_own_failures_hold_no_value_of_the_call() -> None:
    book = Playbook(replies={wishes.Evaluate: PdpError("secret-4711 leaked", code="pdp_error")})
    with pytest.raises(Denied) as denied:
        book.play()
    assert "4711" not in str(denied.value)
    assert denied.value.decision.reasons[0].detail == "secret-4711 leaked"


# --- asking ---


def test_call_that_needs_a_person_waits_then_is_decided_again_then_claimed() -> None:
    book = Playbook(replies={wishes.Evaluate: ASK})
    assert book.play() == "result"
    assert book.names[4:10] == ["Record", "Ask", "Assemble", "Evaluate", "Claim", "Run"]
    assert book.last(wishes.Claim).approval.id == "7f3a"


def test_approved_read_is_claimed_too_so_that_the_approval_serves_once() -> None:
    book = Playbook(a_call(Kind.READ), {wishes.Evaluate: ASK})
    book.play()
    assert book.last(wishes.Finish).is_claimed is True


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State.DENIED, "denied_by_person"),
        (State.EXPIRED, "approval_expired"),
        (State.CANCELLED, "approval_cancelled"),
        (State.SUPERSEDED, "approval_superseded"),
    ],
)
def test_each_way_to_end_without_approval_is_an_outcome_of_its_own(state: State, code: str) -> None:
    book = Playbook(replies={wishes.Evaluate: ASK, wishes.Ask: approval(state)})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == code
    assert not book.ran
    assert book.last(wishes.Record).decision == denied.value.decision


def test_persons_reason_reaches_the_agent() -> None:
    book = Playbook(replies={wishes.Evaluate: ASK, wishes.Ask: approval(State.DENIED, "use the form")})
    with pytest.raises(Denied, match="use the form"):
        book.play()


def test_decision_that_changed_while_waiting_denies_and_drops_the_approval() -> None:
    book = Playbook(replies={wishes.Evaluate: [ASK, REFUSE]})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == "decision_changed"
    assert denied.value.retryable
    assert "Drop" in book.names and not book.ran


def test_limits_are_counted_once_for_one_call() -> None:
    book = Playbook(replies={wishes.Evaluate: ASK, wishes.Ask: approval(State.DENIED)})
    with pytest.raises(Denied):
        book.play()
    assert [w.count_limits for w in book.seen if isinstance(w, wishes.Record)] == [True, False]


# --- exactly once ---


def test_finished_call_that_comes_again_gets_the_kept_result_and_does_not_run() -> None:
    done = wishes.Claimed(False, "done", "2026-01-01T00:00:00Z", "kept", is_kept=True)
    book = Playbook(replies={wishes.Earlier: done})
    assert book.play() == ("replayed", "kept")
    assert not book.ran and "Evaluate" not in book.names


@pytest.mark.parametrize(
    ("state", "code"),
    [("done", "already_done"), ("open", "already_running"), ("outcome_unknown", "outcome_unknown")],
)
@pytest.mark.parametrize("step", [wishes.Earlier, wishes.Claim])
def test_call_that_comes_again_never_runs_twice(state: str, code: str, step: type) -> None:
    book = Playbook(replies={step: wishes.Claimed(False, state, "2026-01-01T00:00:00Z")})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == code
    assert not book.ran


# --- after it ran ---


def test_withheld_result_is_not_released_and_says_do_not_repeat() -> None:
    book = Playbook(replies={wishes.Evaluate: [PERMIT, REFUSE], **RESULT})
    with pytest.raises(Withheld, match="do not call it again") as withheld:
        book.play()
    assert withheld.value.retryable is False
    assert book.last(wishes.Finish).withheld == REFUSE
    assert book.last(wishes.Finish).is_kept is False


def test_redacted_result_is_rebuilt_and_only_the_redacted_one_is_kept() -> None:
    hide = Decision(Effect.PERMIT, obligations=(Redact(pattern="res"),))
    book = Playbook(replies={wishes.Evaluate: [PERMIT, hide], **RESULT})
    assert book.play() == "[redacted]ult"
    assert book.last(wishes.Finish).view == "[redacted]ult"


def test_label_of_the_policy_is_recorded() -> None:
    label = Decision(Effect.PERMIT, obligations=(Label("internal"),))
    book = Playbook(replies={wishes.Evaluate: [PERMIT, label], **RESULT})
    book.play()
    assert book.last(wishes.Finish).labels == ("internal",)


def test_result_without_any_rule_is_released_untrusted() -> None:
    book = Playbook()
    book.play()
    assert book.last(wishes.Finish).labels == ("untrusted",)


@pytest.mark.parametrize("step", [wishes.View, wishes.AssembleResult, wishes.Rebuild])
def test_every_failure_after_the_run_withholds(step: type) -> None:
    hide = Decision(Effect.PERMIT, obligations=(Redact(pattern="res"),))
    replies = {wishes.Evaluate: [PERMIT, hide], **RESULT, step: RuntimeError("bug")}
    book = Playbook(replies=replies)
    with pytest.raises(Withheld):
        book.play()
    assert book.last(wishes.Finish).withheld is not None


def test_engine_that_fails_on_the_result_withholds_it() -> None:
    book = Playbook(replies={wishes.Evaluate: [PERMIT, PdpError("late", code="pdp_timeout")], **RESULT})
    with pytest.raises(Withheld) as withheld:
        book.play()
    assert withheld.value.code == "pdp_timeout"


def test_outcome_that_cannot_be_recorded_is_unknown_and_withheld() -> None:
    book = Playbook(replies={wishes.Finish: LedgerError("full")})
    with pytest.raises(Withheld) as withheld:
        book.play()
    assert withheld.value.code == "outcome_unknown"


def test_tools_own_error_passes_and_is_recorded_as_failed() -> None:
    book = Playbook(replies={wishes.Run: ValueError("boom")})
    with pytest.raises(ValueError, match="boom"):
        book.play()
    assert book.last(wishes.Finish).state == "failed"


def test_tools_own_error_is_judged_like_a_result() -> None:
    book = Playbook(replies={wishes.Run: ValueError("boom"), wishes.Evaluate: [PERMIT, REFUSE], **RESULT})
    with pytest.raises(Withheld) as withheld:
        book.play()
    assert "boom" not in str(withheld.value)


def test_error_with_redacted_words_is_withheld() -> None:
    hide = Decision(Effect.PERMIT, obligations=(Redact(pattern="boom"),))
    book = Playbook(replies={wishes.Run: ValueError("boom"), wishes.Evaluate: [PERMIT, hide], **RESULT})
    with pytest.raises(Withheld) as withheld:
        book.play()
    assert withheld.value.code == "error_redacted"


def test_interrupt_of_the_framework_is_no_failure() -> None:
    book = Playbook(replies={wishes.Run: ValueError("later"), wishes.IsInterrupt: True})
    with pytest.raises(ValueError, match="later"):
        book.play()
    assert book.last(wishes.Finish).state == "interrupted"


def test_cancelled_body_leaves_an_unknown_outcome() -> None:
    book = Playbook(replies={wishes.Run: asyncio.CancelledError()})
    with pytest.raises(asyncio.CancelledError):
        book.play()
    assert book.last(wishes.Finish).state == "outcome_unknown"


def test_confinement_that_fails_before_the_start_is_denied() -> None:
    error = ConfinementError("no", layer="userns", remedy="allow it")
    book = Playbook(a_call(runs=Runs.CONFINED), {wishes.Run: error})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == "cannot_confine"


def test_refused_call_inside_a_tool_does_not_say_that_nothing_ran() -> None:
    book = Playbook(replies={wishes.Run: Denied(REFUSE)})
    with pytest.raises(Withheld) as withheld:
        book.play()
    assert withheld.value.code == "inner_call_refused"
