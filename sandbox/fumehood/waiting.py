"""Waits for verdicts without burning CPU: one watch on the ledger serves every waiting call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError

from fumehood.approval import Approval, State
from fumehood.errors import LedgerError
from fumehood.ledger.protocol import Ledger, Stop, StopScope
from fumehood.model import Session

__all__ = ["Jobs", "Waiters"]


class Waiters:
    """The calls of this process that wait for a person."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[Approval]] = {}

    def enter(self, id: str) -> Future[Approval]:
        """Begin to wait for the end of request *id*, before it is asked: no verdict can be missed."""
        future: Future[Approval] = Future()
        with self._lock:
            self._waiting[id] = future
        return future

    def leave(self, id: str) -> None:
        with self._lock:
            self._waiting.pop(id, None)

    def give_up(self) -> None:
        """The guard is being closed: nobody will bring a verdict any more."""
        with self._lock:
            waiting = list(self._waiting.values())
        for future in waiting:
            _settle(future, LedgerError("the guard was closed while the call waited", code="guard_closed"))

    def look(self, only: str | None = None) -> None:
        """Look which waits have ended (or one of them); called after each change of the ledger."""
        with self._lock:
            waiting = [(i, f) for i, f in self._waiting.items() if only in (None, i)]
        for id_, future in waiting:
            try:
                approval = self._ledger.approval(id_)
            except KeyError:
                continue  # it is about to be asked
            except LedgerError as error:
                _settle(future, error)
                continue
            if approval.state is not State.PENDING:
                _settle(future, approval)


class Jobs:
    """The confined processes of this guard, so that a stop can end them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Session, Callable[[], None]]] = {}

    def enter(self, attempt_id: str, session: Session, kill: Callable[[], None]) -> None:
        """Have *kill* called if the run is stopped; a stop that is already there counts."""
        with self._lock:
            self._running[attempt_id] = (session, kill)
        self.look()

    @property
    def count(self) -> int:
        """How many run now."""
        with self._lock:
            return len(self._running)

    def leave(self, attempt_id: str) -> None:
        with self._lock:
            self._running.pop(attempt_id, None)

    def look(self) -> None:
        with self._lock:
            running = list(self._running.values())
        if not running:
            return
        stops = self._ledger.stops()
        for session, kill in running:
            if any(applies(stop, session) for stop in stops):
                kill()


def applies(stop: Stop, session: Session) -> bool:
    """True if *stop* covers *session*."""
    covered = {StopScope.SESSION: session.id, StopScope.AGENT: session.subject.id}
    return stop.scope is StopScope.ALL or covered[stop.scope] == stop.value


def _settle(future: Future[Approval], outcome: Approval | LedgerError) -> None:
    if future.done():
        return
    try:
        if isinstance(outcome, LedgerError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:
        return  # its caller gave up in this very moment
