"""Claims: whatever is not a read runs once per (session, call id, digest).

Digests are keyed with a key of each call's own, so a repeated call has another digest: the key that
the claim kept says whether it is the same call. A claim whose process died is `outcome_unknown`,
for good: nobody here can know what the tool did.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace

from fumehood.approval import Approval, IllegalTransition, Move, State, next_state
from fumehood.errors import LedgerError
from fumehood.ledger import approvals, names
from fumehood.ledger.protocol import Claimed, ClaimState
from fumehood.ledger.rows import NewEvent, call_attributes, dumps
from fumehood.model import ToolCall

__all__ = ["begin", "earlier", "end", "of_dead", "standing", "use_approval"]

IsAlive = Callable[[str], bool]
_RERUN = frozenset({ClaimState.FAILED, ClaimState.INTERRUPTED})


@dataclass(frozen=True, slots=True)
class _Row:
    n: int
    digest: str
    key: bytes
    attempt_id: str
    session_id: str
    agent: str
    tool: str
    state: str
    lease: str
    approval_id: str | None
    at: float
    ended_at: float | None
    result: bytes | None

    def answer(self) -> Claimed:
        return Claimed(False, ClaimState(self.state), self.attempt_id, self.ended_at or self.at, self.result)


_COLUMNS = (
    "n, digest, key, attempt_id, session_id, agent, tool, state, lease, approval_id, at, ended_at, result"
)


def earlier(db: sqlite3.Connection, call: ToolCall) -> _Row | None:
    """The attempt at this very call that stands in the way of another, if there is one."""
    if call.call_id is None:
        return None
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM claims WHERE session_id = ? AND call_id = ? ORDER BY n DESC",  # noqa: S608
        (call.session.id, call.call_id),
    ).fetchall()
    for row in (_Row(*r) for r in rows):
        if ClaimState(row.state) not in _RERUN and _is_same(row, call):
            return row
    return None


def begin(
    db: sqlite3.Connection, call: ToolCall, approval_id: str | None, *, lease: str, at: float
) -> tuple[Claimed, NewEvent]:
    """A new open claim."""
    db.execute(
        "INSERT INTO claims (session_id, call_id, digest, key, attempt_id, agent, tool, state, lease, "
        "approval_id, at) VALUES (?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?)",
        (
            call.session.id,
            call.call_id,
            call.digest,
            call.key,
            call.attempt_id,
            call.session.subject.id,
            call.tool.name,
            lease,
            approval_id,
            at,
        ),
    )
    said = "claimed" if call.call_id is not None else "claimed; no call id, so a replay cannot be recognised"
    attributes = f'{{{call_attributes(call)},"{names.CLAIM_STATE}":"open"}}'
    event = NewEvent(
        at,
        "claim",
        call.session.id,
        call.session.subject.id,
        call.tool.name,
        call.attempt_id,
        summary=said,
        attributes=attributes,
    )
    return Claimed(True, ClaimState.OPEN, call.attempt_id, at), event


def standing(
    db: sqlite3.Connection, call: ToolCall, is_alive: IsAlive, *, at: float
) -> tuple[Claimed | None, list[NewEvent]]:
    """The earlier attempt that stands in the way; one whose process died becomes `outcome_unknown` here."""
    row = earlier(db, call)
    if row is None:
        return None, []
    if row.state != ClaimState.OPEN or is_alive(row.lease):
        return row.answer(), []
    events = lost(db, row, at=at)
    return replace(row, state=ClaimState.OUTCOME_UNKNOWN, ended_at=at).answer(), events


def use_approval(
    db: sqlite3.Connection, call: ToolCall, approval_id: str, *, is_needed: bool, at: float
) -> approvals.Change:
    """Move the approval from approved to claimed.

    It becomes expired if it came to that meanwhile, and cancelled if it is not needed any more
    because an earlier attempt has done the work.

    Raises:
        KeyError: unknown id.
        IllegalTransition: it is not approved (cancelled: the caller does not wait any more).
        LedgerError: `digest_mismatch`: it is for another call.
    """
    approval = approvals.get(db, approval_id)
    next_state(approval.state, Move.CLAIM)
    if (approval.digest, approval.attempt_id) != (call.digest, call.attempt_id):
        raise LedgerError(f"request {approval_id} is for another call", code="digest_mismatch")
    if not is_needed:
        return approvals.moved(db, approval, Move.CANCEL, at=at, note="an earlier attempt did this")
    is_late = approval.expires_at is not None and at >= approval.expires_at
    return approvals.moved(db, approval, Move.EXPIRE if is_late else Move.CLAIM, at=at)


def end(
    db: sqlite3.Connection, attempt_id: str, state: ClaimState, *, at: float, result: bytes | None
) -> list[NewEvent]:
    """Close the open claim of *attempt_id*, and its approval.

    Raises:
        LedgerError: there is no such open claim.
    """
    row = db.execute(
        "UPDATE claims SET state = ?, ended_at = ?, result = ? WHERE attempt_id = ? AND state = 'open' "
        "RETURNING approval_id",
        (state, at, result, attempt_id),
    ).fetchone()
    if row is None:
        raise LedgerError(f"attempt {attempt_id} has no open claim to finish", code="ledger_claim_lost")
    return [] if row[0] is None else _end_approval(db, row[0], state, at=at)


def of_dead(db: sqlite3.Connection, is_alive: IsAlive, *, at: float) -> list[NewEvent]:
    """Every open claim whose process is gone becomes `outcome_unknown`."""
    events: list[NewEvent] = []
    rows = db.execute(f"SELECT {_COLUMNS} FROM claims WHERE state = 'open'").fetchall()  # noqa: S608
    for row in (_Row(*r) for r in rows):
        if not is_alive(row.lease):
            events += lost(db, row, at=at)
    return events


def lost(db: sqlite3.Connection, row: _Row, *, at: float) -> list[NewEvent]:
    """The process of an open claim died."""
    events = end(db, row.attempt_id, ClaimState.OUTCOME_UNKNOWN, at=at, result=None)
    said = {names.TOOL_NAME: row.tool, names.AGENT_ID: row.agent, names.CLAIM_STATE: "outcome_unknown"}
    text = "its process died while it ran; the outcome is unknown"
    return [
        *events,
        NewEvent(
            at,
            "claim",
            row.session_id,
            row.agent,
            row.tool,
            row.attempt_id,
            summary=text,
            attributes=dumps(said),
        ),
    ]


def _end_approval(db: sqlite3.Connection, id: str, state: ClaimState, *, at: float) -> list[NewEvent]:
    approval: Approval = approvals.get(db, id)
    if approval.state is not State.CLAIMED:
        raise IllegalTransition(approval.state, Move.FINISH)
    move = Move.LOSE if state is ClaimState.OUTCOME_UNKNOWN else Move.FINISH
    return [approvals.moved(db, approval, move, at=at)[1]]


def _is_same(row: _Row, call: ToolCall) -> bool:
    from fumehood.binding import call_digest  # loads pydantic: only where calls are made, never in the shell

    return row.digest == call_digest(row.key, call.tool, call.session, call.args)
