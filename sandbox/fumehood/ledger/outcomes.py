"""How an attempt ended, as an event; and what is kept of its result for a replay."""

from __future__ import annotations

from fumehood.canonical import JSON, parse
from fumehood.ledger import names
from fumehood.ledger.protocol import ClaimState, Outcome
from fumehood.ledger.rows import (
    NewEvent,
    call_attributes,
    dumps,
    judged_json,
    observed_json,
    observed_summary,
    reason_json,
)
from fumehood.model import Decision, Effect, ToolCall
from fumehood.observe_mode import would
from fumehood.redaction import redacted_json, redacted_text

__all__ = ["kept_result", "outcome_event"]

_RELEASED = Decision(Effect.PERMIT)
_SHOWN_BYTES = 64 * 1024  # a longer result is not repeated in the trace


def kept_result(call: ToolCall, outcome: Outcome) -> bytes | None:
    """The result for a replay. One that held a secret is not kept: a replay must not answer with stars."""
    if outcome.result is None or _redacted(call, outcome.result) != outcome.result:
        return None
    return outcome.result


def outcome_event(call: ToolCall, outcome: Outcome, *, at: float) -> NewEvent:
    """The event of *outcome*, redacted."""
    said: dict[str, JSON] = {
        names.CLAIM_STATE: outcome.state.value,
        names.LABELS: list(outcome.labels),
        names.DURATION_S: outcome.duration_s,
    }
    if outcome.error_type is not None:
        said[names.ERROR_TYPE] = outcome.error_type
    if outcome.withheld is not None:
        said[names.WITHHELD] = [reason_json(r) for r in outcome.withheld.reasons]
        if outcome.withheld.decision_id:
            said[names.POLICY_DECISION_ID] = outcome.withheld.decision_id
    observed = ""
    if outcome.observed is not None and outcome.withheld is None:
        observed = "," + observed_json(_RELEASED, outcome.observed, is_result=True)
    judged = ""
    if outcome.judged is not None:
        judged = "," + judged_json(outcome.judged, outcome.judged_at)
    if outcome.detail not in (b"", b"{}"):
        said[names.DETAIL] = parse(redacted_json(outcome.detail))
    if outcome.result is not None and len(outcome.result) <= _SHOWN_BYTES:
        said[names.RESULT] = parse(_redacted(call, outcome.result))
    return NewEvent(
        at,
        "outcome",
        call.session.id,
        call.session.subject.id,
        call.tool.name,
        call.attempt_id,
        "deny" if outcome.withheld is not None else "",
        _summary(outcome),
        f"{{{call_attributes(call)},{dumps(said)[1:-1]}{observed}{judged}}}",
        labels=dumps(list(outcome.labels)),
    )


def _redacted(call: ToolCall, result: bytes) -> bytes:
    return redacted_json(result, pointers=call.tool.annotations.secret_result)


def _summary(outcome: Outcome) -> str:
    took = f"{outcome.state.value.replace('_', ' ')} in {outcome.duration_s * 1000:.0f} ms"
    if outcome.withheld is not None:
        return redacted_text(f"{took}; withheld: {outcome.withheld.explain()}")
    if outcome.observed is not None and would(_RELEASED, outcome.observed, is_result=True) is not None:
        return f"{took}; {observed_summary(_RELEASED, outcome.observed, is_result=True)}"
    if outcome.state is ClaimState.FAILED and outcome.error_type:
        return f"{took}: {outcome.error_type}"
    return took
