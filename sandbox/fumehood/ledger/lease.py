"""A lease is a file that a process holds locked as long as it lives; the kernel lets go when it dies.

Whoever finds a lease free knows that its process is gone: nothing is guessed from process ids or
clocks. A forked child shares the lock, so it must close the descriptor at once (never unlock it).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from pathlib import Path

from fumehood.errors import LedgerError

__all__ = ["Lease", "is_held", "sweep"]

_NAME = re.compile(r"[0-9]{1,10}-[0-9a-f]{16}\.lease")  # made here; a stored name may lead nowhere else


class Lease:
    """This process's lease in *folder*. It is locked before it can be seen under its name."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(8)}.lease"
        self._path = folder / self.name
        draft = folder / f".{self.name}"
        try:
            self._fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            draft.rename(self._path)
        except OSError as error:
            raise LedgerError(f"no lease in {folder}: {error.strerror}", code="ledger_io") from error

    def release(self) -> None:
        """Give it up: whoever looks sees a process that has ended."""
        self._path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Forget it in a forked child: the parent still holds it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_held(folder: Path, name: str) -> bool:
    """True if the process that made the lease *name* still lives."""
    if not _NAME.fullmatch(name):
        return False
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LedgerError(f"the lease {name} cannot be read: {error.strerror}", code="ledger_io") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look at once do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def sweep(folder: Path) -> None:
    """Remove the leases of processes that are gone."""
    for entry in folder.glob("*.lease"):
        if _NAME.fullmatch(entry.name) and not is_held(folder, entry.name):
            entry.unlink(missing_ok=True)
