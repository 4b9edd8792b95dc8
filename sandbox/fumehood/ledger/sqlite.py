"""The embedded ledger: one SQLite file, shared by every process of one user on one host."""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from fumehood.approval import Approval, IllegalTransition, Move, State, Verdict, next_state
from fumehood.errors import LedgerError
from fumehood.ledger import approvals, claims, decisions, lease, sessions, stops
from fumehood.ledger.ancestry import is_ancestor
from fumehood.ledger.approvals import Change
from fumehood.ledger.hands import Hands
from fumehood.ledger.outcomes import kept_result, outcome_event
from fumehood.ledger.protocol import (
    Claimed,
    ClaimState,
    Event,
    Outcome,
    Past,
    Recorded,
    Stop,
    StopScope,
    Writer,
)
from fumehood.ledger.rows import EVENT_COLUMNS, NewEvent, event_from
from fumehood.model import Decision, Session, ToolCall
from fumehood.redaction import redacted_args, redacted_input, redacted_json, redacted_text

__all__ = ["SqliteLedger"]

_OPEN = (State.PENDING, State.APPROVED)


class SqliteLedger:
    """Implements `fumehood.ledger.Ledger`; see there. Thread-safe, and safe across a fork."""

    def __init__(
        self, path: Path, *, durability: str, is_readonly: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._clock = clock
        self._durability = durability
        self._is_readonly = is_readonly
        self._is_closed = False
        self._is_spoilt = False
        self._lock = threading.Lock()
        self._held: Hands | None = self._reach()
        try:
            self._origin = self._read_origin(self._held)
        except BaseException:
            self.close()
            raise
        me = weakref.ref(self)
        os.register_at_fork(
            before=lambda: _around_fork(me, SqliteLedger._before_fork),
            after_in_parent=lambda: _around_fork(me, SqliteLedger._after_fork),
            after_in_child=lambda: _around_fork(me, SqliteLedger._in_child),
        )
        atexit.register(_at_exit, me)

    # --- identity ---

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def origin(self) -> str:
        return self._origin

    @property
    def lease(self) -> str:
        return self._hands.lease_name

    # --- sessions and decisions ---

    def open_session(self, session: Session, /) -> Session:
        hands, now = self._hands, self._clock()
        writer = hands.writer
        with hands.store.write() as db:
            opened, event = sessions.opened(db, session, at=now)
            hands.add([event], db, writer)
        hands.committed()
        return opened

    def past(self, session: Session, /, *, with_history: bool) -> Past:
        hands = self._hands
        if with_history and hands.batch:
            hands.batch.flush()  # the labels of reads that have just ended
        with hands.store.read() as db:
            return decisions.past(db, session, now=self._clock(), with_history=with_history)

    def record(
        self, call: ToolCall, decision: Decision, /, *, document: bytes, count_limits: bool = True
    ) -> Recorded:
        args = redacted_args(call)
        body = redacted_input(call, document) if document else b""
        what = decisions.Written(call, args, body, is_first=count_limits)
        hands = self._hands
        writer = hands.writer
        with hands.store.write() as db:
            now = self._clock()
            decision = decisions.effective(db, call, decision, now=now, count_limits=count_limits)
            seq = decisions.write(db, what, decision, at=now, writer=writer)
        hands.committed()
        return Recorded(seq, now, decision)

    # --- approvals ---

    def ask(self, approval: Approval, /) -> None:
        approvals.check(approval)
        hands = self._hands
        writer = hands.writer
        with hands.store.write() as db:
            stops.raise_if_stopped(db, approval.session_id, approval.agent)
            hands.add([approvals.insert(db, approval, at=self._clock())], db, writer)
        hands.committed()

    def move(self, id: str, move: Move, /, *, by: str | None = None, note: str | None = None) -> Approval:
        if move in (Move.APPROVE, Move.DENY, Move.CLAIM):
            raise ValueError(f"{move} is not a plain move; use decide() or claim()")
        return self._change(
            lambda db, now: approvals.moved(db, approvals.get(db, id), move, at=now, by=by, note=note)
        )

    def decide(self, verdict: Verdict, /) -> Approval:
        if verdict.move not in (Move.APPROVE, Move.DENY):
            raise ValueError(f"a verdict approves or denies; it cannot {verdict.move}")
        if is_ancestor(self.approval(verdict.id).waiter):
            raise LedgerError(
                "this process was started by the one that waits for the answer; "
                "decide from a terminal of your own",
                code="own_request",
            )
        hands = self._hands
        after = self._change(lambda db, now: approvals.ruled(db, verdict, at=now, is_alive=hands.is_alive))
        if after.state is not next_state(State.PENDING, verdict.move):
            raise IllegalTransition(after.state, verdict.move)
        return after

    def approval(self, id: str, /) -> Approval:
        with self._hands.store.read() as db:
            found = approvals.find(db, id)
        return self._without_dead([found])[0]

    def approvals(self, states: Sequence[State] = (State.PENDING,), /, *, limit: int = 500) -> list[Approval]:
        with self._hands.store.read() as db:
            found = approvals.in_states(db, states, limit=limit)
        return [a for a in self._without_dead(found) if a.state in states]

    # --- claims and outcomes ---

    def find_claim(self, call: ToolCall, /) -> Claimed | None:
        hands = self._hands
        with hands.store.read() as db:
            row = claims.earlier(db, call)
        if row is None:
            return None
        if row.state == ClaimState.OPEN and not self._is_readonly and not hands.is_alive(row.lease):
            self.reap()
            with hands.store.read() as db:
                row = claims.earlier(db, call)
        return row.answer() if row is not None else None

    def claim(self, call: ToolCall, approval_id: str | None, /) -> Claimed:
        hands, now = self._hands, self._clock()
        writer = hands.writer
        used: Approval | None = None
        with hands.store.write() as db:
            stops.raise_if_stopped(db, call.session.id, call.session.subject.id)
            taken, events = claims.standing(db, call, hands.is_alive, at=now)
            if approval_id is not None:
                used, event = claims.use_approval(db, call, approval_id, is_needed=taken is None, at=now)
                events.append(event)
            if taken is None and (used is None or used.state is State.CLAIMED):
                taken, event = claims.begin(db, call, approval_id, lease=hands.lease_name, at=now)
                events.append(event)
            hands.add(events, db, writer)
        hands.committed()
        if taken is None:
            raise IllegalTransition(used.state if used else State.EXPIRED, Move.CLAIM)
        return taken

    def finish(self, call: ToolCall, outcome: Outcome, /, *, claimed: bool) -> None:
        hands, now = self._hands, self._clock()
        event = outcome_event(call, outcome, at=now)
        if not claimed:
            self._require_writable()
            hands.batch.put(event)
            return
        writer, result = hands.writer, kept_result(call, outcome)
        with hands.store.write() as db:
            events = claims.end(db, call.attempt_id, outcome.state, at=now, result=result)
            hands.add([*events, event], db, writer)
        hands.committed()

    def note(
        self,
        session: Session,
        kind: str,
        summary: str,
        /,
        *,
        tool: str = "",
        attempt_id: str = "",
        attributes: bytes = b"{}",
    ) -> None:
        self._require_writable()
        said = redacted_json(attributes).decode()
        event = NewEvent(
            self._clock(),
            kind,
            session.id,
            session.subject.id,
            tool,
            attempt_id,
            summary=redacted_text(summary),
            attributes=said,
        )
        self._hands.batch.put(event)

    def flush(self) -> None:
        self._hands.batch.flush()

    # --- reading ---

    def events(
        self, after: int = 0, /, *, limit: int = 1000, session: str | None = None, agent: str | None = None
    ) -> list[Event]:
        wanted, given = _wanted(after, session, agent)
        query = f"SELECT {EVENT_COLUMNS} FROM events WHERE {wanted} ORDER BY seq LIMIT ?"  # noqa: S608
        with self._hands.store.read() as db:
            return [event_from(row) for row in db.execute(query, (*given, limit)).fetchall()]

    def decisions(
        self, after: int = 0, /, *, limit: int = 1000, session: str | None = None, agent: str | None = None
    ) -> list[tuple[Event, bytes]]:
        wanted, given = _wanted(after, session, agent)
        query = (
            f"SELECT body, {EVENT_COLUMNS} FROM events JOIN documents USING (seq) "  # noqa: S608
            f"WHERE {wanted} AND kind = 'decision' ORDER BY seq LIMIT ?"
        )
        with self._hands.store.read() as db:
            rows = db.execute(query, (*given, limit)).fetchall()
        return [(event_from(row[1:]), bytes(row[0])) for row in rows]

    def outcomes(
        self, after: int = 0, /, *, limit: int = 1000, session: str | None = None, agent: str | None = None
    ) -> list[tuple[Event, bytes]]:
        wanted, given = _wanted(after, session, agent)
        query = (
            f"WITH page AS MATERIALIZED (SELECT {EVENT_COLUMNS} FROM events "  # noqa: S608
            f"WHERE {wanted} AND kind = 'outcome' ORDER BY seq LIMIT ?) "
            "SELECT (SELECT body FROM documents WHERE seq = (SELECT seq FROM events AS earlier WHERE "
            "earlier.seq < page.seq AND earlier.kind = 'decision' AND earlier.attempt_id = page.attempt_id "
            f"ORDER BY seq DESC LIMIT 1)), {EVENT_COLUMNS} FROM page ORDER BY seq"
        )
        with self._hands.store.read() as db:
            rows = db.execute(query, (*given, limit)).fetchall()
        return [(event_from(row[1:]), bytes(row[0] or b"")) for row in rows]

    def last_events(self, count: int, /) -> list[Event]:
        query = f"SELECT {EVENT_COLUMNS} FROM events ORDER BY seq DESC LIMIT ?"  # noqa: S608
        with self._hands.store.read() as db:
            return [event_from(row) for row in db.execute(query, (count,)).fetchall()][::-1]

    def event(self, seq: int, /) -> Event:
        query = f"SELECT {EVENT_COLUMNS} FROM events WHERE seq = ?"  # noqa: S608
        with self._hands.store.read() as db:
            row = db.execute(query, (seq,)).fetchone()
        if row is None:
            raise KeyError(f"there is no event {seq}")
        return event_from(row)

    def policy_input(self, seq: int, /) -> bytes:
        with self._hands.store.read() as db:
            row = db.execute("SELECT body FROM documents WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            raise KeyError(f"event {seq} has no policy input; only decisions have one")
        return bytes(row[0])

    def writer(self) -> Writer | None:
        with self._hands.store.read() as db:
            row = db.execute(
                "SELECT agent, pid, program, at FROM events JOIN writers ON writers.n = events.writer "
                "ORDER BY seq DESC LIMIT 1"
            ).fetchone()
        return Writer(*row) if row is not None else None

    # --- stops ---

    def stop(self, scope: StopScope, value: str, /, *, by: str, reason: str = "") -> Stop:
        hands, now = self._hands, self._clock()
        writer, said = hands.writer, redacted_text(reason)
        with hands.store.write() as db:
            stop = stops.insert(
                db, scope, "" if scope is StopScope.ALL else value, by=by, reason=said, at=now
            )
            cancelled = approvals.of_stop(db, lambda a: stops.concerns(stop, a.session_id, a.agent), at=now)
            hands.add([stops.event_of(stop, at=now), *(event for _, event in cancelled)], db, writer)
        hands.committed()
        return stop

    def lift(self, scope: StopScope, value: str, /, *, by: str) -> int:
        hands, now = self._hands, self._clock()
        writer = hands.writer
        wanted = "" if scope is StopScope.ALL else value
        with hands.store.write() as db:
            count = stops.lift(db, scope, wanted, at=now)
            if count:
                event = stops.event_of(Stop(0, scope, wanted, by, "", now, lifted_at=now), at=now)
                hands.add([event], db, writer)
        hands.committed()
        return count

    def stops(self) -> list[Stop]:
        with self._hands.store.read() as db:
            return stops.current(db)

    def scope_of(self, value: str, /) -> StopScope:
        with self._hands.store.read() as db:
            return stops.scope_of(db, value)

    # --- waking, reaping, ending ---

    def watch(self, callback: Callable[[], None], /) -> Callable[[], None]:
        return self._hands.listen().add(callback)

    def reap(self) -> int:
        hands, now = self._hands, self._clock()
        writer = hands.writer
        with hands.store.write() as db:
            events = claims.of_dead(db, hands.is_alive, at=now)
            waiting = approvals.in_states(db, _OPEN, limit=-1)
            gone = [a for a in waiting if not hands.is_alive(a.lease)]
            events += [approvals.moved(db, a, Move.CANCEL, at=now, note=_GONE)[1] for a in gone]
            hands.add(events, db, writer)
        lease.sweep(hands.folder)
        if events:
            hands.committed()
        return len(events)

    def close(self) -> None:
        with self._lock:
            hands, self._held, self._is_closed = self._held, None, True
        if hands is not None:
            hands.close()

    # --- private ---

    @property
    def _hands(self) -> Hands:
        hands = self._held
        if hands is not None and hands.pid == os.getpid():
            return hands
        with self._lock:
            if self._is_spoilt or (self._held is not None and self._held.pid != os.getpid()):
                raise LedgerError(
                    "a program forked this process behind Python's back while the ledger was open; "
                    "open it after the fork",
                    code="ledger_forked",
                )
            if self._is_closed:
                raise LedgerError(f"the ledger {self._path} is closed", code="ledger_closed")
            if self._held is None:
                self._held = self._reach()
            return self._held

    def _reach(self) -> Hands:
        return Hands(self._path, durability=self._durability, is_readonly=self._is_readonly)

    def _read_origin(self, hands: Hands) -> str:
        with hands.store.read() as db:
            return str(db.execute("SELECT value FROM meta WHERE name = 'origin'").fetchone()[0])

    def _require_writable(self) -> None:
        if self._is_readonly:
            raise LedgerError("this ledger was opened for reading only", code="ledger_readonly")

    def _change(self, change: Callable[[sqlite3.Connection, float], Change]) -> Approval:
        hands, now = self._hands, self._clock()
        writer = hands.writer
        with hands.store.write() as db:
            after, event = change(db, now)
            hands.add([event], db, writer)
        hands.committed()
        return after

    def _without_dead(self, found: list[Approval]) -> list[Approval]:
        """*found*, where a request whose caller is gone is cancelled."""
        hands = self._hands
        alive = {name: hands.is_alive(name) for name in {a.lease for a in found if a.state in _OPEN}}
        return [a if alive.get(a.lease, True) or a.state not in _OPEN else self._buried(a) for a in found]

    def _buried(self, approval: Approval) -> Approval:
        if self._is_readonly:
            return replace(approval, state=State.CANCELLED, note=_GONE)
        with contextlib.suppress(IllegalTransition):  # somebody else was faster
            return self.move(approval.id, Move.CANCEL, note=_GONE)
        with self._hands.store.read() as db:
            return approvals.get(db, approval.id)

    def _before_fork(self) -> None:
        self._lock.acquire()
        if self._held is not None:
            self._held.store.pause()

    def _after_fork(self) -> None:
        if self._held is not None:
            self._held.store.resume()
        self._lock.release()

    def _in_child(self) -> None:
        held, self._held, self._lock = self._held, None, threading.Lock()
        if held is not None:
            self._is_spoilt = not held.abandon()


_GONE = "the caller is gone"


def _wanted(after: int, session: str | None, agent: str | None) -> tuple[str, list[object]]:
    """The condition on events, and its parameters."""
    terms, given = ["seq > ?"], [cast("object", after)]
    for column, value in (("session_id", session), ("agent", agent)):
        if value is not None:
            terms.append(f"{column} = ?")
            given.append(value)
    return " AND ".join(terms), given


def _around_fork(me: weakref.ref[SqliteLedger], step: Callable[[SqliteLedger], None]) -> None:
    ledger = me()
    if ledger is not None:
        step(ledger)


def _at_exit(me: weakref.ref[SqliteLedger]) -> None:
    ledger = me()
    if ledger is not None:
        ledger.close()
