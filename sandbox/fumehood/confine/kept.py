"""A file that stays open from one call to the next, in an application that may close it meanwhile.

Daemons close every descriptor there is. The next file that is opened gets the number: that file is neither to
be shown to a job nor to be closed.
"""

from __future__ import annotations

import os


class Kept:
    """The descriptor *fd*, and which file it was."""

    __slots__ = ("_what", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._what = _what(fd)

    def is_open(self) -> bool:
        """False if its number is nobody's by now, or another file's."""
        return self._what is not None and _what(self.fd) == self._what

    def close(self) -> None:
        """Close it, and nothing else."""
        if self.is_open():
            os.close(self.fd)
        self._what = None


def _what(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
