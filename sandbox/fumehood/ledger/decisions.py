"""Writing a decision, counting limits with it, and what is known of earlier calls."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fumehood import limits
from fumehood.ledger import stops
from fumehood.ledger.protocol import Past
from fumehood.ledger.rows import (
    NewEvent,
    call_attributes,
    decision_json,
    dumps,
    observed_json,
    observed_summary,
    stored,
)
from fumehood.model import Decision, Limit, Reason, Session, ToolCall
from fumehood.redaction import redacted_text

__all__ = ["Written", "effective", "past", "write"]

_HISTORY = 50
_WINDOWS_S = (60, 3600)
_OBSERVED = "observed\0"  # before keys that are only watched: they never take room from those that hold
_KEPT_S = 600.0  # spends are kept so long at least, for a rule with a longer window that comes later


@dataclass(frozen=True, slots=True)
class Written:
    """A decision on its way into the ledger: redacted arguments and policy input."""

    call: ToolCall
    args: bytes
    document: bytes
    is_first: bool  # not a second decision about the same attempt


def effective(
    db: sqlite3.Connection, call: ToolCall, decision: Decision, *, now: float, count_limits: bool
) -> Decision:
    """*decision* after stops and limits. Limits are only counted if all of them have room."""
    stop = stops.standing(db, call.session.id, call.session.subject.id)
    if stop is not None:
        return decision.refused(stops.reason(stop))
    if not (count_limits and decision.is_permit):
        return decision
    counted = _within(db, decision, decision.limits, now)
    if counted.observed is None or not counted.is_permit or not counted.observed.is_permit:
        return counted
    apart = [replace(limit, key=_OBSERVED + limit.key) for limit in counted.observed.limits]
    return replace(counted, observed=_within(db, counted.observed, apart, now))


def _within(db: sqlite3.Connection, decision: Decision, asked: Sequence[Limit], now: float) -> Decision:
    """*decision* if all limits have room, which is then taken; else what they refuse."""
    refused = [r for limit in asked if (r := _refusal(db, limit, now)) is not None]
    if refused:
        return decision.refused(*refused)
    for limit in _once_per_key(asked):
        _spend(db, limit, now)
    return decision


def write(db: sqlite3.Connection, what: Written, decision: Decision, *, at: float, writer: int) -> int:
    """Insert the event of *decision* with its policy input, and count the call; its number."""
    call, session = what.call, what.call.session
    agent_n = _counted(db, call, decision, is_first=what.is_first)
    attributes = f"{call_attributes(call, args=what.args)},{decision_json(decision)}"
    if decision.observed is not None:
        attributes += "," + observed_json(decision, decision.observed)
    event = NewEvent(
        at,
        "decision",
        session.id,
        session.subject.id,
        call.tool.name,
        call.attempt_id,
        decision.effect.value,
        _summary(decision),
        f"{{{attributes}}}",
        agent_n=agent_n,
    )
    seq = stored(event, db, writer)
    if what.document:
        db.execute("INSERT INTO documents VALUES (?, ?)", (seq, what.document))
    return seq


def past(db: sqlite3.Connection, session: Session, *, now: float, with_history: bool) -> Past:
    """The counters, and the last 50 calls of the session if they are asked for."""
    rows = db.execute("SELECT name, calls, denied FROM counters WHERE scope = ?", (session.id,)).fetchall()
    counters = {
        "session": {name: {"calls": calls, "denied": denied} for name, calls, denied in rows},
        "windows": _windows(db, session.subject.id, now),
    }
    history = dumps(_history(db, session.id)).encode() if with_history else b"[]"
    return Past(history, dumps(counters).encode())


def _refusal(db: sqlite3.Connection, limit: Limit, now: float) -> Reason | None:
    wrong = limits.fault(limit)
    if wrong is not None:
        return Reason(
            "bad_limit", "the policy names a limit that cannot be counted", detail=wrong, rule=limit.rule
        )
    row = db.execute("SELECT last_at, total FROM limits WHERE key = ?", (limit.key,)).fetchone()
    last_at, total = row or (now, 0)
    start = max(now, last_at) - limit.per_s
    first = db.execute(
        "SELECT at, cost, total FROM spends WHERE key = ? AND at > ? ORDER BY at, n LIMIT 1",
        (limit.key, start),
    ).fetchone()
    oldest = limits.Spent(*first) if first else None
    if limits.is_within(limit, total, oldest):
        return None
    frees = db.execute(
        "SELECT at FROM spends WHERE key = ? AND at > ? AND total >= ? ORDER BY at, n LIMIT 1",
        (limit.key, start, limits.threshold(limit, total)),
    ).fetchone()
    fits_alone = limits.as_units(limit.cost) <= limits.as_units(limit.max)
    frees_at = frees[0] if frees and fits_alone else None
    return limits.refusal(limit, limits.used(total, oldest), frees_at, now=now)


def _once_per_key(asked: Iterable[Limit]) -> list[Limit]:
    """Rules that name the same key share one count: the dearest cost, the longest window."""
    joined: dict[str, Limit] = {}
    for limit in asked:
        other = joined.get(limit.key, limit)
        joined[limit.key] = Limit(
            limit.key, limit.max, max(limit.per_s, other.per_s), max(limit.cost, other.cost), limit.rule
        )
    return list(joined.values())


def _spend(db: sqlite3.Connection, limit: Limit, now: float) -> None:
    """Count it. Times under a key never run backwards, even if the clock does."""
    row = db.execute("SELECT last_at, total, horizon_s FROM limits WHERE key = ?", (limit.key,)).fetchone()
    last_at, total, horizon_s = row or (now, 0, 0.0)
    at, cost, horizon_s = max(now, last_at), limits.as_units(limit.cost), max(horizon_s, limit.per_s, _KEPT_S)
    db.execute("INSERT OR REPLACE INTO limits VALUES (?, ?, ?, ?)", (limit.key, at, total + cost, horizon_s))
    if int(at) != int(last_at):  # once a second is often enough to throw away what has left every window
        db.execute("DELETE FROM spends WHERE key = ? AND at <= ?", (limit.key, at - horizon_s))
    db.execute(
        "INSERT INTO spends SELECT ?, ?, ifnull(max(n), 0) + 1, ?, ? FROM spends WHERE key = ? AND at = ?",
        (limit.key, at, cost, total + cost, limit.key, at),
    )


def _counted(db: sqlite3.Connection, call: ToolCall, decision: Decision, *, is_first: bool) -> int | None:
    """Count the call for its session and agent; the agent's running number if it is a new call."""
    calls, denied = int(is_first), int(not decision.is_permit)
    if calls or denied:
        db.execute(_COUNT, (call.session.id, call.tool.name, calls, denied))
    if not is_first:
        return None
    return int(
        db.execute(_COUNT + " RETURNING calls", ("", call.session.subject.id, calls, denied)).fetchone()[0]
    )


_COUNT = (
    "INSERT INTO counters VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
    "SET calls = calls + excluded.calls, denied = denied + excluded.denied"
)


def _windows(db: sqlite3.Connection, agent: str, now: float) -> dict[str, dict[str, int]]:
    row = db.execute("SELECT calls FROM counters WHERE scope = '' AND name = ?", (agent,)).fetchone()
    total = row[0] if row else 0
    return {str(s): {"calls": _since(db, agent, total, now - s)} for s in _WINDOWS_S}


def _since(db: sqlite3.Connection, agent: str, total: int, start: float) -> int:
    row = db.execute(
        "SELECT agent_n FROM events WHERE agent = ? AND at > ? AND agent_n IS NOT NULL ORDER BY at LIMIT 1",
        (agent, start),
    ).fetchone()
    return total - row[0] + 1 if row else 0


def _history(db: sqlite3.Connection, session_id: str) -> list[dict[str, object]]:
    """One entry per attempt, oldest first: the last decision about it and the labels of its result."""
    rows = db.execute(
        "SELECT seq, kind, tool, effect, attempt_id, labels FROM events WHERE session_id = ? "
        "AND kind IN ('decision', 'outcome') ORDER BY seq DESC",
        (session_id,),
    )
    labels: dict[str, object] = {}
    entries: dict[str, dict[str, object]] = {}
    for seq, kind, tool, effect, attempt_id, said in rows:
        if kind == "outcome":
            labels[attempt_id] = json.loads(said or "[]")
        elif attempt_id not in entries:
            if len(entries) == _HISTORY:
                break
            told = labels.get(attempt_id, [])
            entries[attempt_id] = {"tool": tool, "effect": effect, "labels": told, "seq": seq}
    return list(entries.values())[::-1]


def _summary(decision: Decision) -> str:
    full = decision.observed
    if full is not None and decision.is_permit:
        return observed_summary(decision, full)
    if decision.is_permit:
        asks = "; ".join(a.reason for a in decision.approvals)
        return redacted_text(f"ask: {asks}") if asks else "permit"
    return redacted_text("; ".join(r.text for r in decision.reasons) or decision.effect.value)
