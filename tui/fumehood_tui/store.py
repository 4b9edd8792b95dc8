"""The only door to the ledger: takes readings as view values, carries verdicts and stops.

Every method blocks, so the app calls them from worker threads; `poll` from one thread at a time. The
ledger may not exist yet: it is waited for, never made here. If its file is replaced, it is opened anew.
"""

from __future__ import annotations

import os
import pwd
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from fumehood.approval import Approval, IllegalTransition, Move, Verdict
from fumehood.display import inert
from fumehood.errors import LedgerError
from fumehood.ledger.protocol import Ledger, StopScope
from fumehood_tui.document import Document, event_document, request_document
from fumehood_tui.view import (
    Answer,
    Gone,
    Key,
    Request,
    Row,
    Snapshot,
    Source,
    halt_from,
    is_observed,
    name,
    request_from,
    row_from,
    short_ids,
    what_became,
)

__all__ = ["MAX_REQUESTS", "MAX_ROWS", "Store", "local_user"]

MAX_REQUESTS = 500  # how many the list holds; the header says when there are more
MAX_ROWS = 2000  # of the trace in one reading
_RATE_OVER_S = 5.0
_TOLD_ABOUT = 50  # requests whose end is looked up in one reading


def local_user() -> str:
    """The name of this process's user: a local name, not proof."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


class Store:
    """One ledger at *path*, opened by *opener* once its file exists. *clock* is Unix time in seconds."""

    def __init__(
        self,
        path: str | Path,
        opener: Callable[[str], Ledger],
        /,
        *,
        by: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = str(path)
        self._opener = opener
        self._by = by or local_user()
        self._clock = clock
        self._lock = threading.Lock()
        self._on_change: Callable[[], None] = lambda: None
        self._ledger: Ledger | None = None
        self._file = (0, 0)  # device and inode of what was opened
        self._unwatch: Callable[[], None] = lambda: None
        self._forget()

    @property
    def path(self) -> str:
        """The ledger's file, safe to show."""
        return inert(self._path)

    def on_change(self, callback: Callable[[], None], /) -> None:
        """Call *callback* (from the ledger's thread; it must not block) when there is something to read."""
        self._on_change = callback

    def open(self) -> bool:
        """Open the ledger if it is there, anew if its file is another one by now; False if it is not there.

        Raises:
            LedgerError: it is there and cannot be used.
        """
        try:
            stat = Path(self._path).stat()
        except FileNotFoundError:
            self.close()
            return False
        except OSError as error:
            raise LedgerError(f"{self.path}: {error.strerror}", code="ledger_io") from error
        if self._ledger is not None and (stat.st_dev, stat.st_ino) != self._file:
            self.close()
        if self._ledger is None:
            ledger = self._opener(self._path)
            self._file = (stat.st_dev, stat.st_ino)
            self._unwatch = ledger.watch(self._changed)
            self._ledger = ledger
        return True

    def poll(self) -> Snapshot:
        """What there is to see now; an empty reading while the file does not exist.

        Raises:
            LedgerError: it is there and cannot be read.
        """
        try:
            if not self.open():
                return Snapshot(Source(self.path, exists=False), is_reset=True)
            return self._reading(self._current())
        except LedgerError:
            self.close()  # so that the next reading starts afresh
            raise

    def document(self, key: Key, /) -> Document:
        """All that is known of the request with exactly this *key*.

        Raises:
            KeyError: there is none any more, or it has another revision or digest by now.
            LedgerError: the ledger cannot be read.
        """
        approval = self._known.get(key) or self._current().approval(key.id)
        if _key(approval) != key:
            raise KeyError(key.id)
        return request_document(approval)

    def event(self, seq: int, /) -> Document:
        """All that is known of the trace's event *seq*. Raises KeyError, LedgerError."""
        return event_document(self._current().event(seq))

    def decide(self, request: Request, move: Move, /, *, note: str | None = None) -> Answer:
        """Carry a verdict on exactly what was shown; the answer says plainly who won."""
        key = request.key
        verdict = Verdict(key.id, key.revision, key.digest, move, self._by, note or None)
        try:
            self._current().decide(verdict)
        except IllegalTransition:
            return Answer(False, f"too late to {move.value}: {request.label} {self._fate(request.key)}")
        except KeyError:
            return Answer(False, f"{request.label} is not in the ledger any more; nothing was decided")
        except LedgerError as error:
            return Answer(False, f"{request.label} was not decided ({error.code}): {inert(str(error))}")
        done = {Move.APPROVE: "approved", Move.DENY: "denied"}[move]
        return Answer(True, f"{done} {request.label} for {request.agent}")

    def stop(self, scope: StopScope, value: str, /, *, reason: str = "") -> Answer:
        """Deny every later call in scope and cancel what waits."""
        what = "everything" if scope is StopScope.ALL else f"{scope.value} {name(value)}"
        try:
            self._current().stop(scope, value, by=self._by, reason=reason)
        except LedgerError as error:
            return Answer(False, f"{what} was NOT stopped ({error.code}): {inert(str(error))}")
        return Answer(True, f"stopped {what}: its later calls are denied until the stop is lifted")

    def lift(self, scope: StopScope, value: str, /) -> Answer:
        """Let calls in scope be decided again."""
        what = "everything" if scope is StopScope.ALL else f"{scope.value} {name(value)}"
        try:
            count = self._current().lift(scope, value, by=self._by)
        except LedgerError as error:
            return Answer(False, f"the stop of {what} was not lifted ({error.code}): {inert(str(error))}")
        if not count:
            return Answer(False, f"no stop of {what} was in force any more")
        return Answer(True, f"lifted the stop of {what}: its calls are decided again")

    def close(self) -> None:
        """Let the ledger go; the next reading opens it again."""
        with self._lock:
            ledger, self._ledger = self._ledger, None
            if ledger is not None:
                self._unwatch()
                ledger.close()
            self._forget()

    def _changed(self) -> None:
        self._on_change()  # looked up now: it may be set after the ledger was opened

    def _forget(self) -> None:
        self._last_seq = 0
        self._is_fresh = True
        self._pace: deque[tuple[float, int]] = deque()
        self._shown: tuple[Request, ...] = ()
        self._known: dict[Key, Approval] = {}
        self._observed: set[str] = set()  # agents whose last decision was only observed

    def _current(self) -> Ledger:
        if self._ledger is None:
            raise LedgerError("the ledger is not open; wait until the screen says LIVE", code="ledger_closed")
        return self._ledger

    def _reading(self, ledger: Ledger) -> Snapshot:
        approvals = ledger.approvals(limit=MAX_REQUESTS)
        gone = self._gone(ledger, approvals)
        rows = self._new_rows(ledger)
        is_reset, self._is_fresh = self._is_fresh, False
        return Snapshot(
            source=self._source(ledger),
            requests=self._requests(approvals),
            has_more=len(approvals) >= MAX_REQUESTS,
            gone=gone,
            rows=rows,
            is_reset=is_reset,
            halts=tuple(map(halt_from, ledger.stops())),
            per_s=self._per_s(),
            observed=len(self._observed),
        )

    def _requests(self, approvals: list[Approval]) -> tuple[Request, ...]:
        shorts = short_ids([a.id for a in approvals])
        shown = {(r.key, r.short): r for r in self._shown}
        found = [shown.get((_key(a), shorts[a.id])) or request_from(a, shorts[a.id]) for a in approvals]
        self._shown = tuple(sorted(found, key=_urgency))
        return self._shown

    def _gone(self, ledger: Ledger, approvals: list[Approval]) -> tuple[Gone, ...]:
        now = {_key(a): a for a in approvals}
        lost = [key for key in self._known if key not in now]
        self._known = now
        return tuple(Gone(key, self._fate(key)) for key in lost[:_TOLD_ABOUT]) + tuple(
            Gone(key, "no longer waits") for key in lost[_TOLD_ABOUT:]
        )

    def _fate(self, key: Key) -> str:
        try:
            approval = self._current().approval(key.id)
        except KeyError:
            return "is not in the ledger any more"
        except LedgerError as error:
            return f"no longer waits; the ledger does not say why: {inert(str(error))}"
        if (approval.revision, approval.digest) != (key.revision, key.digest):
            return "was replaced by a newer revision: look at it again"
        return what_became(approval)

    def _new_rows(self, ledger: Ledger) -> tuple[Row, ...]:
        before = self._last_seq
        events = [] if self._is_fresh else ledger.events(before, limit=MAX_ROWS)
        is_behind = len(events) >= MAX_ROWS  # then the newest matter
        if self._is_fresh or is_behind:
            events = ledger.last_events(MAX_ROWS)
        fresh = [event for event in events if event.seq > before]
        if not fresh:
            return ()
        self._last_seq = fresh[-1].seq
        for event in (e for e in fresh if e.kind == "decision"):
            (self._observed.add if is_observed(event) else self._observed.discard)(event.agent)
        missed = fresh[0].seq - before - 1 if is_behind else 0
        remark = (_remark(fresh[0].at, missed),) if missed > 0 else ()
        return (*remark, *map(row_from, fresh))

    def _source(self, ledger: Ledger) -> Source:
        writer = ledger.writer()
        if writer is None:
            return Source(self.path, exists=True)
        program = f"{name(writer.program)}, pid {writer.pid}"
        return Source(self.path, True, name(writer.agent) or name(writer.program), program, writer.at)

    def _per_s(self) -> float:
        now = self._clock()
        self._pace.append((now, self._last_seq))
        while len(self._pace) > 2 and now - self._pace[0][0] > _RATE_OVER_S:
            self._pace.popleft()
        began, seq = self._pace[0]
        return (self._last_seq - seq) / (now - began) if now - began >= 1.0 else 0.0


def _key(approval: Approval) -> Key:
    return Key(approval.id, approval.revision, approval.digest)


def _urgency(request: Request) -> tuple[float, float, str]:
    """Soonest to expire first; what never expires comes last, the oldest first."""
    ends = request.expires_at if request.expires_at is not None else float("inf")
    return (ends, request.created_at, request.key.id)


def _remark(at: float, missed: int) -> Row:
    return Row(
        0, at, "note", "", "", "", f"… {missed} events are not shown; fumehood trace show has them", ""
    )
