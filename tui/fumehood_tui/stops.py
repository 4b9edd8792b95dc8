"""What the stop dialogue offers: what the cursor is on first, then all, then the rest, then what to lift."""

from __future__ import annotations

from collections.abc import Iterable

from fumehood.ledger.protocol import StopScope
from fumehood_tui.dialogues import StopChoice
from fumehood_tui.view import Request, Row, Snapshot, name

__all__ = ["stop_choices"]

_OTHERS = 20
_EFFECT = "What waits in it is cancelled, confined processes are killed, later calls are denied until lifted."


def stop_choices(near: Request | Row | None, snapshot: Snapshot) -> list[StopChoice]:
    """The choices, each once, the nearest first."""
    runs = [near, *snapshot.requests] if near is not None else list(snapshot.requests)
    first = list(_of(runs[:1]))
    others = [choice for choice in _of(runs[1:]) if choice not in first][:_OTHERS]
    everything = StopChoice(StopScope.ALL, "", "Stop everything in this ledger", _EFFECT)
    lifts = [
        StopChoice(h.scope, h.raw_value, f"Lift: {h.label}", "Its calls are decided again.", is_lift=True)
        for h in snapshot.halts
    ]
    return list(dict.fromkeys([*first, everything, *others, *lifts]))


def _of(runs: Iterable[Request | Row]) -> Iterable[StopChoice]:
    for run in runs:
        if run.raw_session:
            whose = f" of {run.agent}" if run.agent else ""
            label = f"Stop session {run.session}{whose}"
            yield StopChoice(StopScope.SESSION, run.raw_session, label, _EFFECT)
        if run.raw_agent:
            yield StopChoice(StopScope.AGENT, run.raw_agent, f"Stop agent {name(run.raw_agent)}", _EFFECT)
