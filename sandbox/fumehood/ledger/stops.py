"""Stops: while one stands, every call in its scope is refused."""

from __future__ import annotations

import sqlite3

from fumehood.errors import LedgerError
from fumehood.ledger import names
from fumehood.ledger.protocol import Stop, StopScope
from fumehood.ledger.rows import NewEvent, dumps, stop_from
from fumehood.model import Reason

__all__ = [
    "concerns",
    "current",
    "event_of",
    "insert",
    "lift",
    "raise_if_stopped",
    "reason",
    "scope_of",
    "standing",
]

_COLUMNS = "seq, scope, value, by, reason, at, lifted_at"


def standing(db: sqlite3.Connection, session_id: str, agent: str) -> Stop | None:
    """A stop that holds for this session or agent, if there is one."""
    return next((stop for stop in current(db) if concerns(stop, session_id, agent)), None)


def concerns(stop: Stop, session_id: str, agent: str) -> bool:
    """True if *stop* holds for this session or agent."""
    if stop.scope is StopScope.ALL:
        return True
    return stop.value == (session_id if stop.scope is StopScope.SESSION else agent)


def current(db: sqlite3.Connection) -> list[Stop]:
    """Those not lifted, the oldest first."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM stops WHERE lifted_at IS NULL ORDER BY seq")  # noqa: S608
    return [stop_from(row) for row in rows]


def insert(db: sqlite3.Connection, scope: StopScope, value: str, *, by: str, reason: str, at: float) -> Stop:
    """Put up a stop."""
    cursor = db.execute(
        "INSERT INTO stops (scope, value, by, reason, at) VALUES (?, ?, ?, ?, ?)",
        (scope, value, by, reason, at),
    )
    return Stop(cursor.lastrowid or 0, scope, value, by, reason, at)


def lift(db: sqlite3.Connection, scope: StopScope, value: str, *, at: float) -> int:
    """Lift the stops of exactly this scope and value; how many there were."""
    return db.execute(
        "UPDATE stops SET lifted_at = ? WHERE scope = ? AND value = ? AND lifted_at IS NULL",
        (at, scope, value),
    ).rowcount


def raise_if_stopped(db: sqlite3.Connection, session_id: str, agent: str) -> None:
    """Raises LedgerError(code="stopped") if a stop stands."""
    stop = standing(db, session_id, agent)
    if stop is not None:
        raise LedgerError(f"{reason(stop).text} ({stop.scope} {stop.value})".strip(), code="stopped")


def reason(stop: Stop) -> Reason:
    """Why a stopped call is denied."""
    said = f": {stop.reason}" if stop.reason else ""
    return Reason(
        "stopped", "this run was stopped by an operator", detail=f"stop {stop.seq} by {stop.by}{said}"
    )


def event_of(stop: Stop, *, at: float) -> NewEvent:
    """The event of a stop, or of its being lifted."""
    what = "lifted" if stop.lifted_at is not None else "stopped"
    whom = stop.value or "everything"
    session_id = stop.value if stop.scope is StopScope.SESSION else ""
    agent = stop.value if stop.scope is StopScope.AGENT else ""
    said = {
        names.STOP_SCOPE: stop.scope.value,
        names.STOP_VALUE: stop.value,
        names.STOP_BY: stop.by,
        names.STOP_REASON: stop.reason,
        names.STOP_IS_LIFTED: stop.lifted_at is not None,
    }
    summary = f"{what} {whom} by {stop.by}" + (f": {stop.reason}" if stop.reason else "")
    return NewEvent(at, "stop", session_id, agent, summary=summary, attributes=dumps(said))


def scope_of(db: sqlite3.Connection, value: str) -> StopScope:
    """Whether *value* is a session's id or an agent's name.

    Raises:
        KeyError: it is neither, or both.
    """
    session = db.execute("SELECT 1 FROM sessions WHERE id = ?", (value,)).fetchone()
    agent = db.execute("SELECT 1 FROM sessions WHERE agent = ?", (value,)).fetchone()
    if session and agent:
        raise KeyError(f"{value!r} is both a session and an agent")
    if not session and not agent:
        raise KeyError(f"no session and no agent is called {value!r}")
    return StopScope.SESSION if session else StopScope.AGENT
