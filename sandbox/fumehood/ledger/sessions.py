"""Sessions in the ledger: opened once, resumed by their id."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from fumehood.errors import LedgerError
from fumehood.ledger.rows import NewEvent, dumps, session_attributes
from fumehood.model import Session
from fumehood.redaction import redacted_text

__all__ = ["opened"]


def opened(db: sqlite3.Connection, session: Session, *, at: float) -> tuple[Session, NewEvent]:
    """*session*, recorded, with what an earlier run of it said and this one does not.

    Raises:
        LedgerError: `ledger_session_mismatch`: the id is another agent's or user's.
    """
    prompt = redacted_text(session.prompt) if session.prompt is not None else None
    row = db.execute(
        "SELECT agent, user, prompt, conversation_id FROM sessions WHERE id = ?", (session.id,)
    ).fetchone()
    if row is None:
        _insert(db, session, prompt, at)
        return session, _event(session, prompt, "opened", at)
    agent, user, said, conversation = row
    if (agent, user) != (session.subject.id, session.subject.user):
        raise LedgerError(
            f"session {session.id!r} belongs to another agent or user; use another id",
            code="ledger_session_mismatch",
        )
    db.execute(
        "UPDATE sessions SET prompt = ifnull(prompt, ?), conversation_id = ifnull(conversation_id, ?) "
        "WHERE id = ?",
        (prompt, session.conversation_id, session.id),
    )
    resumed = replace(
        session,
        prompt=said if session.prompt is None else session.prompt,
        conversation_id=session.conversation_id or conversation,
    )
    return resumed, _event(resumed, prompt, "resumed", at)


def _insert(db: sqlite3.Connection, session: Session, prompt: str | None, at: float) -> None:
    who = session.subject
    db.execute(
        "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session.id,
            who.id,
            who.user,
            dumps(list(who.roles)),
            prompt,
            session.conversation_id,
            session.is_implicit,
            at,
        ),
    )


def _event(session: Session, prompt: str | None, what: str, at: float) -> NewEvent:
    return NewEvent(
        at,
        "session",
        session.id,
        session.subject.id,
        summary=f"{what}{' (implicit)' if session.is_implicit else ''}",
        attributes=session_attributes(session, prompt),
    )
