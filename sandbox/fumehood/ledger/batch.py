"""Group commit for what nothing depends on: notes and the outcomes of reads.

Rows wait at most 20 ms and are committed together. The queue is bounded: who is faster than the
disk waits. When a commit fails the rows stay, and the next caller gets the error: nothing is lost
while the process lives.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from fumehood.errors import LedgerError

__all__ = ["Batch"]

T = TypeVar("T")
_WAIT_S = 0.02
_RETRY_S = 1.0
_MOST = 10_000


class Batch(Generic[T]):
    """Collects rows and hands them to *commit* on a thread of its own; `tidy` runs there as well."""

    def __init__(self, commit: Callable[[Sequence[T]], None], tidy: Callable[[], None]) -> None:
        self._commit = commit
        self._tidy = tidy
        self._rows: deque[T] = deque()
        self._changed = threading.Condition()
        self._committing = threading.Lock()
        self._has_failed = False
        self._is_closed = False
        self._wants_tidy = False
        self._thread: threading.Thread | None = None

    def __bool__(self) -> bool:
        return bool(self._rows)

    def put(self, row: T) -> None:
        """Add *row*; waits while the queue is full.

        Raises:
            LedgerError: earlier rows could not be committed and still cannot.
        """
        if self._has_failed:
            self.flush()
        with self._changed:
            while len(self._rows) >= _MOST and not self._has_failed:
                self._changed.wait(1.0)
            self._rows.append(row)
            self._start()
            if len(self._rows) == 1:
                self._changed.notify_all()

    def flush(self) -> None:
        """Commit what waits, in the calling thread.

        Raises:
            LedgerError: it could not be committed; the rows are kept.
        """
        with self._committing:
            rows = tuple(self._rows)
            if not rows:
                self._has_failed = False
                return
            try:
                self._commit(rows)
            except LedgerError:
                self._has_failed = True
                raise
            with self._changed:
                for _ in rows:
                    self._rows.popleft()
                self._has_failed = False
                self._changed.notify_all()

    def ask_tidy(self) -> None:
        """Run `tidy` on the batch's thread soon."""
        with self._changed:
            self._wants_tidy = True
            self._start()
            self._changed.notify_all()

    def close(self) -> None:
        """Commit the rest and end the thread.

        Raises:
            LedgerError: the rest could not be committed and is lost now.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.flush()

    def _start(self) -> None:
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._run, name="fumehood-ledger-batch", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._wait():
            with contextlib.suppress(LedgerError):  # it stands in _has_failed: the next caller gets it
                self.flush()
            if self._wants_tidy:
                self._wants_tidy = False
                with contextlib.suppress(LedgerError):  # it will be asked for again
                    self._tidy()

    def _wait(self) -> bool:
        """Until there is something to do and 20 ms (after a failure 1 s) have passed; False once closed."""
        with self._changed:
            while not (self._is_closed or self._wants_tidy or self._rows):
                self._changed.wait()
            pause_s = _RETRY_S if self._has_failed else _WAIT_S
            return not self._changed.wait_for(lambda: self._is_closed, pause_s)
