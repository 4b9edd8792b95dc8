"""Approvals in the ledger: every move is a compare-and-swap inside one write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from fumehood.approval import Approval, IllegalTransition, Move, State, Verdict, next_state
from fumehood.errors import LedgerError
from fumehood.ledger import names
from fumehood.ledger.rows import APPROVAL_COLUMNS, NewEvent, approval_from, approval_row, dumps
from fumehood.redaction import redacted_text

__all__ = ["Change", "check", "event_of", "find", "get", "in_states", "insert", "moved", "of_stop", "ruled"]

IsAlive = Callable[[str], bool]
_MIN_PREFIX = 4

Change = tuple[Approval, NewEvent]


def insert(db: sqlite3.Connection, approval: Approval, *, at: float) -> NewEvent:
    """Make a pending request.

    Raises:
        LedgerError: it needs signed verdicts, is not pending, or its id is taken.
    """
    check(approval)
    marks = ", ".join("?" * len(APPROVAL_COLUMNS.split(",")))
    db.execute(f"INSERT INTO approvals ({APPROVAL_COLUMNS}) VALUES ({marks})", approval_row(approval))  # noqa: S608
    return event_of(approval, at=at)


def check(approval: Approval) -> None:
    """Refuse a request that could never be satisfied."""
    if approval.state is not State.PENDING:
        raise LedgerError(f"a new request is pending, not {approval.state}", code="ledger_error")
    if any(r.approvers > 1 or r.separate or r.signed for r in approval.reasons):
        raise LedgerError(
            "a rule asks for several, separate or signed approvers; that needs signed verdicts, which this "
            "version does not have. Ask for one approver, or deny",
            code="signed_verdicts_unavailable",
        )


def get(db: sqlite3.Connection, id: str) -> Approval:
    """The request with exactly this id. Raises KeyError."""
    row = db.execute(f"SELECT {APPROVAL_COLUMNS} FROM approvals WHERE id = ?", (id,)).fetchone()  # noqa: S608
    if row is None:
        raise KeyError(f"there is no request {id!r}")
    return approval_from(row)


def find(db: sqlite3.Connection, prefix: str) -> Approval:
    """The request with this id or unique beginning of one. Raises KeyError."""
    rows = db.execute(
        f"SELECT {APPROVAL_COLUMNS} FROM approvals WHERE id >= ? AND id < ? ORDER BY id LIMIT 2",  # noqa: S608
        (prefix, prefix + "\U0010ffff"),
    ).fetchall()
    found = [approval_from(row) for row in rows]
    if found and found[0].id == prefix:
        return found[0]
    if not found or len(prefix) < _MIN_PREFIX:
        raise KeyError(f"there is no request {prefix!r}")
    if len(found) > 1:
        raise KeyError(f"several requests begin with {prefix!r}; give more of the id")
    return found[0]


def in_states(db: sqlite3.Connection, states: Iterable[State], *, limit: int) -> list[Approval]:
    """Requests in *states*, the oldest first."""
    wanted = [state.value for state in states]
    marks = ", ".join("?" * len(wanted))
    rows = db.execute(
        f"SELECT {APPROVAL_COLUMNS} FROM approvals WHERE state IN ({marks}) ORDER BY created_at LIMIT ?",  # noqa: S608
        (*wanted, limit),
    )
    return [approval_from(row) for row in rows]


def moved(
    db: sqlite3.Connection,
    approval: Approval,
    move: Move,
    *,
    at: float,
    by: str | None = None,
    note: str | None = None,
) -> Change:
    """*approval* after *move*, written back. The caller read it in this transaction.

    Raises:
        IllegalTransition: the table has no such move.
    """
    after = replace(approval, state=next_state(approval.state, move))
    if move in (Move.APPROVE, Move.DENY):
        after = replace(after, decided_by=by, decided_at=at)
    if note is not None:
        after = replace(after, note=redacted_text(note))
    swapped = db.execute(
        "UPDATE approvals SET state = ?, decided_by = ?, decided_at = ?, note = ? "
        "WHERE id = ? AND revision = ? AND digest = ? AND state = ?",
        (
            after.state,
            after.decided_by,
            after.decided_at,
            after.note,
            approval.id,
            approval.revision,
            approval.digest,
            approval.state,
        ),
    )
    if swapped.rowcount != 1:
        raise IllegalTransition(approval.state, move)
    return after, event_of(after, at=at, by=by)


def ruled(db: sqlite3.Connection, verdict: Verdict, *, at: float, is_alive: IsAlive) -> Change:
    """What becomes of a request on *verdict*: as asked, or expired or cancelled if it came too late.

    Raises:
        KeyError: unknown id.
        IllegalTransition: it is not pending any more.
        LedgerError: `digest_mismatch`: the verdict is about something else than what stands here.
    """
    approval = get(db, verdict.id)
    next_state(approval.state, verdict.move)
    if (approval.revision, approval.digest) != (verdict.revision, verdict.digest):
        raise LedgerError(
            f"request {verdict.id} is not what you saw (its revision or digest differs); look at it again",
            code="digest_mismatch",
        )
    if not is_alive(approval.lease):
        return moved(db, approval, Move.CANCEL, at=at, note="the caller is gone")
    if approval.expires_at is not None and at >= approval.expires_at:
        return moved(db, approval, Move.EXPIRE, at=at)
    return moved(db, approval, verdict.move, at=at, by=verdict.by, note=verdict.note)


def of_stop(db: sqlite3.Connection, concerns: Callable[[Approval], bool], *, at: float) -> Sequence[Change]:
    """Cancel what waits and what was approved and has not begun."""
    waiting = in_states(db, (State.PENDING, State.APPROVED), limit=-1)
    return [moved(db, a, Move.CANCEL, at=at, note="the run was stopped") for a in waiting if concerns(a)]


def event_of(approval: Approval, *, at: float, by: str | None = None) -> NewEvent:
    """The event that says where a request stands now."""
    said: dict[str, object] = {
        names.TOOL_NAME: approval.tool,
        names.AGENT_ID: approval.agent,
        names.APPROVAL_ID: approval.id,
        names.APPROVAL_STATE: approval.state.value,
        names.ARGS_DIGEST: approval.digest,
        names.POLICY_REVISION: approval.policy_revision,
        names.RULES: list(approval.rules),
        names.APPROVAL_REASONS: [redacted_text(r.reason) for r in approval.reasons],
    }
    optional = {
        names.CALL_ID: approval.call_id,
        names.USER: approval.user,
        names.APPROVAL_BY: by,
        names.APPROVAL_NOTE: approval.note,
        names.APPROVAL_EXPIRES: approval.expires_at,
    }
    said.update((name, value) for name, value in optional.items() if value is not None)
    return NewEvent(
        at,
        "approval",
        approval.session_id,
        approval.agent,
        approval.tool,
        approval.attempt_id,
        summary=_summary(approval, by),
        attributes=dumps(said),
    )


def _summary(approval: Approval, by: str | None) -> str:
    who = f" by {by}" if by else ""
    if approval.state is State.PENDING:
        return redacted_text(f"pending {approval.id}: " + "; ".join(r.reason for r in approval.reasons))
    return f"{approval.state.value} {approval.id}{who}" + (f": {approval.note}" if approval.note else "")
