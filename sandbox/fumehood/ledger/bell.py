"""Wakes every process that watches a ledger: one empty Unix datagram to each, per commit.

Sockets lie in a folder of this user alone: `$XDG_RUNTIME_DIR/fumehood/<ledger>`, else
`/tmp/fumehood-<uid>/<ledger>`. A datagram carries nothing: it says "look". A full queue means that
the other will look anyway; a socket that refuses is a dead process's and is removed. A look at
least every 2 s is the safety net (inotify missed the last row).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fumehood.errors import LedgerError
from fumehood.ledger import files

__all__ = ["Bell", "Ear", "folder_for"]

_POLL_S = 2.0
_PAUSE_S = 0.004  # between two calls of the watchers: a busy ledger does not wake them per commit
_FRESH_NS = 100_000_000  # a folder changed more recently may have changed again within one clock tick
_LONGEST = 107 - len("/fumehood/0123456789abcdef/4194304-01234567.sock")  # unix(7): a path ends at 107 bytes


def folder_for(path: Path) -> Path:
    """Where the sockets of the ledger at *path* lie."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and len(os.fsencode(runtime)) <= _LONGEST and _is_ours(Path(runtime)):
        return Path(runtime) / "fumehood" / name
    return Path(f"/tmp/fumehood-{os.geteuid()}") / name  # noqa: S108 - its owner and mode are checked


def _is_ours(folder: Path) -> bool:
    """True if *folder* is there and this user's (under sudo it may be another's)."""
    try:
        return folder.is_dir() and folder.stat().st_uid == os.geteuid()
    except PermissionError:
        return False


class Bell:
    """Rings for all who watch the ledger. Without a watcher it costs one stat(2)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._known: tuple[int, tuple[str, ...]] = (0, ())

    def ring(self) -> None:
        """Say "look" to everybody. It never waits."""
        for name in self._listeners():
            address = f"{self._folder}/{name}"
            try:
                self._socket.sendto(b"\0", address)
            except (ConnectionRefusedError, ConnectionResetError):
                with contextlib.suppress(OSError):  # the socket of a dead process
                    Path(address).unlink()
            except OSError:  # a full queue, or a socket that has just gone: the poll is behind it
                continue

    def close(self) -> None:
        self._socket.close()

    def _listeners(self) -> tuple[str, ...]:
        try:
            found = self._folder.lstat()
        except OSError:
            return ()
        changed, names = self._known
        if found.st_mtime_ns == changed:
            return names
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return ()
        names = tuple(p.name for p in self._folder.glob("*.sock"))
        is_settled = time.time_ns() - found.st_mtime_ns > _FRESH_NS
        self._known = (found.st_mtime_ns if is_settled else 0, names)
        return names


class Ear:
    """Listens on a thread of its own and calls the watchers after each ring, and at least every 2 s."""

    def __init__(self, folder: Path) -> None:
        files.make_private_folder(folder.parent)
        files.make_private_folder(folder)
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(str(self._path))
        except OSError as error:
            self._socket.close()
            raise LedgerError(f"no socket at {self._path}: {error.strerror}", code="ledger_io") from error
        self._watchers: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._listen, name="fumehood-ledger-ear", daemon=True)
        self._thread.start()

    def add(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call *watcher* from now on; returns a function that ends it."""
        with self._lock:
            self._watchers = (*self._watchers, watcher)

        def remove() -> None:
            with self._lock:
                self._watchers = tuple(w for w in self._watchers if w is not watcher)

        return remove

    def close(self) -> None:
        self._is_closed = True
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join(_POLL_S + 1)
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: the socket is the parent's."""
        self._socket.close()

    def _listen(self) -> None:
        self._socket.setblocking(False)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not self._is_closed:
            poll.poll(_POLL_S * 1000)
            self._drain()
            if not self._is_closed:
                self._call_all()
                time.sleep(_PAUSE_S)

    def _drain(self) -> None:
        """Many rings are one look."""
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16):
                pass

    def _call_all(self) -> None:
        for watcher in self._watchers:
            try:
                watcher()
            except Exception:  # noqa: BLE001 - one broken watcher must not deafen the others; it is reported
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))
