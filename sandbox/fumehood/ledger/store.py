"""SQLite as one process holds it: one writer, a few readers, and a fair lock between processes.

WAL mode, and `BEGIN IMMEDIATE` for every write: a read that turns into a write fails at once,
whatever the time-out (https://sqlite.org/lang_transaction.html). SQLite's own lock is polled, so one
of eight writers can starve for seconds; two `flock`s in front of it make a queue: whoever waits
stands in the door, and who just wrote must queue again. Checkpoints run apart from commits.

SQLite keeps what it knows of POSIX locks in the process, and a fork copies that knowledge without the
locks: a child that opened the same file again would believe that it holds locks which are its
parent's (https://sqlite.org/howtocorrupt.html, 2.6). So every connection is closed for the moment of
a fork (`pause`), and both sides open anew. SQLite's errors become `LedgerError` here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from fumehood.errors import LedgerError
from fumehood.ledger import files, schema

__all__ = ["Store"]

_READERS = 8  # kept open; more are opened and closed as needed
_BUSY_MS = 10_000  # for writers that do not queue with us, such as the sqlite3 shell
_CHECKPOINT_BYTES = 8 << 20
_LOOK_EVERY = 64  # commits between two looks at the WAL's size


class Store:
    """The connections of one process. *durability* is "process" or "power" (see `open_ledger`)."""

    def __init__(self, path: Path, *, durability: str, is_readonly: bool) -> None:
        self.path = path
        self.is_readonly = is_readonly
        self._wal = path.with_name(path.name + "-wal")
        self._durability = durability
        self._lock = threading.Lock()
        self._readers: deque[sqlite3.Connection] = deque()
        self._turn = threading.Condition()
        self._reading = 0
        self._is_paused = False
        self._commits = 0
        self._gate = _Gate(files.sidecar(path))
        self._inode = path.stat().st_ino
        self._writer: sqlite3.Connection | None = None
        try:
            self._writer = self._connect()
            self._prepare(self._writer)
        except BaseException:
            self.close()
            raise

    def write(self) -> _Write:
        """A transaction: committed when the block ends, rolled back if it raises."""
        return _Write(self)

    def read(self) -> _Read:
        """A connection for short reads. It holds no snapshot between statements."""
        return _Read(self)

    def needs_checkpoint(self) -> bool:
        """True if the WAL has grown enough to be copied back (looked at every 64 commits)."""
        return self._commits % _LOOK_EVERY == 0 and self.wal_bytes() > _CHECKPOINT_BYTES

    def wal_bytes(self) -> int:
        """Size of the write-ahead log."""
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def checkpoint(self) -> None:
        """Copy the WAL back, so that it begins again.

        Most of it beside the writers, then the rest while they wait: only a log that is copied whole
        begins again. It never waits for a reader (one that stays open lets the log grow).
        """
        with self.read() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            with self._lock, self._gate:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Close all connections; the last process to do so checkpoints."""
        with self._lock:
            self._disconnect()
            self._gate.close()

    def pause(self) -> None:
        """Before a fork: let every transaction and read end, then close all connections."""
        with self._turn:
            self._is_paused = True
            self._turn.wait_for(lambda: self._reading == 0)
        self._lock.acquire()
        self._disconnect()

    def resume(self) -> None:
        """In the parent, after the fork."""
        self._lock.release()
        with self._turn:
            self._is_paused = False
            self._turn.notify_all()

    def abandon(self) -> bool:
        """In the forked child, which needs a store of its own; False if SQLite was in use at the fork.

        Then the fork was made without `os.fork` (by a C program, say), and SQLite can never be used
        on this file in this process.
        """
        self._gate.close()
        return self._is_paused

    def _prepare(self, db: sqlite3.Connection) -> None:
        with _mapped():
            if self.is_readonly:
                schema.check(db, str(self.path))
                return
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                with self._gate:
                    db.execute("PRAGMA journal_mode = WAL")
        with self.write() as writer:
            schema.prepare(writer, str(self.path))

    def _disconnect(self) -> None:
        while self._readers:
            self._readers.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self.is_readonly else "rw"
        with _mapped():
            db = sqlite3.connect(
                f"{self.path.as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_MS / 1000,
                cached_statements=256,
            )
            db.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'power' else 'NORMAL'}")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.execute(f"PRAGMA journal_size_limit = {_CHECKPOINT_BYTES}")
            db.execute("PRAGMA trusted_schema = OFF")
            return db

    def _begin(self) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            self._gate.enter()
            try:
                self._check_file()
                db = self._writer = self._writer or self._connect()
                db.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._gate.leave()
                raise
        except BaseException as error:
            self._lock.release()
            raise _as_ledger_error(error) from error
        return db

    def _end(self, db: sqlite3.Connection, *, is_good: bool) -> None:
        try:
            db.execute("COMMIT" if is_good else "ROLLBACK")
            self._commits += 1
        except sqlite3.Error as error:
            _roll_back(db)
            if is_good:
                raise _as_ledger_error(error) from error
        finally:
            self._gate.leave()
            self._lock.release()

    def _check_file(self) -> None:
        """A ledger that was deleted or replaced under us records nothing: nobody would read it."""
        if self.is_readonly:
            raise LedgerError("this ledger was opened for reading only", code="ledger_readonly")
        try:
            is_same = self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise LedgerError(
                f"{self.path} was removed or replaced while in use; restart this process",
                code="ledger_replaced",
            )

    def _borrow(self) -> sqlite3.Connection:
        with self._turn:
            while self._is_paused:
                self._turn.wait()
            self._reading += 1
            db = self._readers.pop() if self._readers else None
        try:
            return db if db is not None else self._connect()
        except BaseException:
            self._leave()
            raise

    def _give_back(self, db: sqlite3.Connection, *, is_good: bool) -> None:
        if is_good and len(self._readers) < _READERS:
            self._readers.append(db)
        else:
            db.close()
        self._leave()

    def _leave(self) -> None:
        with self._turn:
            self._reading -= 1
            if self._is_paused:
                self._turn.notify_all()


class _Write:
    """`with store.write() as db`. A class, as a generator would cost more than the lock."""

    __slots__ = ("_db", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> sqlite3.Connection:
        self._db = self._store._begin()
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store._end(self._db, is_good=error is None)
        _raise_mapped(error)


class _Read:
    """`with store.read() as db`."""

    __slots__ = ("_db", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> sqlite3.Connection:
        self._db = self._store._borrow()
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store._give_back(self._db, is_good=error is None)
        _raise_mapped(error)


class _Gate:
    """The queue between processes: `queue.lock` is the door, `write.lock` the room (flock(2))."""

    def __init__(self, folder: Path) -> None:
        self._door = _open_lock(folder / "queue.lock")
        self._room = _open_lock(folder / "write.lock")

    def enter(self) -> None:
        """Wait at the door as long as it takes, and in the door until the room is free.

        Raises:
            LedgerError: `ledger_busy`: whoever is in the room does not leave it (a stopped process?).
        """
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            if not self._took_room():
                self._wait_for_room()
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def _took_room(self) -> bool:
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait_for_room(self) -> None:
        """Only the one in the door looks, so looking often costs little and is fair."""
        deadline, pause_s = time.monotonic() + _BUSY_MS / 1000, 2e-5
        while not self._took_room():
            if time.monotonic() > deadline:
                raise LedgerError(
                    f"another process has held the ledger for over {_BUSY_MS // 1000} s; "
                    "is it stopped (Ctrl-Z)? Continue or end it",
                    code="ledger_busy",
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.002)

    def leave(self) -> None:
        fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close without unlocking: after a fork the lock is the parent's."""
        for fd in (self._door, self._room):
            os.close(fd)

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            db.execute("ROLLBACK")


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(f"{path} cannot be opened: {error.strerror}", code="ledger_io") from error


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _as_ledger_error(error) from error


_CODES = {
    sqlite3.SQLITE_FULL: ("ledger_full", "the disk is full"),
    sqlite3.SQLITE_IOERR: ("ledger_io", "the disk refused to read or write"),
    sqlite3.SQLITE_BUSY: ("ledger_busy", f"another program held it for over {_BUSY_MS // 1000} s"),
    sqlite3.SQLITE_LOCKED: ("ledger_busy", "another connection holds it"),
    sqlite3.SQLITE_READONLY: ("ledger_readonly", "it may not be written"),
    sqlite3.SQLITE_CANTOPEN: ("ledger_io", "it cannot be opened"),
    sqlite3.SQLITE_CORRUPT: ("ledger_corrupt", "the file is damaged; keep it, and start with another"),
    sqlite3.SQLITE_NOTADB: ("ledger_foreign", "the file is not a ledger; name another file"),
}


def _raise_mapped(error: BaseException | None) -> None:
    mapped = _as_ledger_error(error) if error is not None else None
    if mapped is not None and mapped is not error:
        raise mapped from error


def _as_ledger_error(error: BaseException) -> BaseException:
    """SQLite's errors, and text that is not Unicode, as `LedgerError`; anything else as it is."""
    if isinstance(error, sqlite3.Error):
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        code, words = _CODES.get(primary, ("ledger_error", "SQLite refused"))
        return LedgerError(f"the ledger cannot be used: {words} ({error})", code=code)
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return LedgerError(f"this cannot be recorded: {error}", code="ledger_error")
    return error
