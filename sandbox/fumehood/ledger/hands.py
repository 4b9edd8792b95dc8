"""What one process holds of a ledger: connections, lease, sockets, batch. A forked child gets its own."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from fumehood.ledger import files, lease
from fumehood.ledger.batch import Batch
from fumehood.ledger.bell import Bell, Ear, folder_for
from fumehood.ledger.rows import NewEvent, stored
from fumehood.ledger.store import Store

__all__ = ["Hands"]


class Hands:
    """Opened in one process, used by its threads."""

    def __init__(self, path: Path, *, durability: str, is_readonly: bool) -> None:
        self.pid = os.getpid()
        self.store = Store(path, durability=durability, is_readonly=is_readonly)
        self.folder = files.sidecar(path)
        try:
            self.lease = None if is_readonly else lease.Lease(self.folder)
        except BaseException:
            self.store.close()
            raise
        self.bell = Bell(folder_for(path))
        self.batch: Batch[NewEvent] = Batch(self._commit, self.store.checkpoint)
        self.ear: Ear | None = None
        self.lock = threading.Lock()
        self._writer = 0

    @property
    def writer(self) -> int:
        """The number of this process among those that wrote."""
        if not self._writer:
            with self.lock, self.store.write() as db:
                name = Path(sys.argv[0] or "python").name if sys.argv else "python"
                row = (os.getpid(), name.encode("utf-8", "replace").decode(), self.lease_name)
                cursor = db.execute("INSERT INTO writers (pid, program, lease) VALUES (?, ?, ?)", row)
                self._writer = cursor.lastrowid or 0
        return self._writer

    @property
    def lease_name(self) -> str:
        return self.lease.name if self.lease is not None else ""

    def committed(self) -> None:
        """After every commit: wake who watches, and see to the write-ahead log now and then."""
        self.bell.ring()
        if self.store.needs_checkpoint():
            self.batch.ask_tidy()

    def add(self, events: Iterable[NewEvent], db: sqlite3.Connection, writer: int) -> None:
        for event in events:
            stored(event, db, writer)

    def is_alive(self, name: str) -> bool:
        return lease.is_held(self.folder, name)

    def listen(self) -> Ear:
        with self.lock:
            if self.ear is None:
                self.ear = Ear(folder_for(self.store.path))
            return self.ear

    def close(self) -> None:
        try:
            self.batch.close()
        finally:
            if self.ear is not None:
                self.ear.close()
            self.bell.close()
            self.store.close()
            if self.lease is not None:
                self.lease.release()

    def abandon(self) -> bool:
        """In a forked child; False if it can never open this ledger."""
        if self.lease is not None:
            self.lease.abandon()
        if self.ear is not None:
            self.ear.abandon()
        self.bell.close()
        return self.store.abandon()

    def _commit(self, events: Sequence[NewEvent]) -> None:
        writer = self.writer
        with self.store.write() as db:
            self.add(events, db, writer)
        self.committed()
