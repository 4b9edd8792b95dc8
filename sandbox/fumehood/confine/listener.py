"""A seccomp listener: system calls that the kernel holds until they are answered.

Source: seccomp_unotify(2); include/uapi/linux/seccomp.h.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
from typing import Final, NamedTuple

_RECV: Final = 0xC0502100
_SEND: Final = 0xC0182101
_ID_VALID: Final = 0x40082102
_CONTINUE: Final = 1
_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
_RESPONSE: Final = struct.Struct("=QqiI")
_ENTRIES_OF_A_FOLDER: Final = 2
_GONE: Final = (errno.ENOENT, errno.EINTR, errno.EAGAIN)  # it died, or was interrupted, meanwhile


class Held(NamedTuple):
    """A call that waits for its answer. `thread` is who made it, as /proc here has it."""

    ticket: int
    thread: int
    number: int
    args: tuple[int, ...]


def receive(fd: int) -> Held | None:
    """The next held call; None if there is none. Raises OSError if nobody is left to make one.

    Before Linux 6.11 the kernel would wait for ever for those who are gone.
    """
    if not _has_call(fd):
        return None
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(fd, _RECV, buffer, True)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    ticket, thread, _, number, _, _, *args = _NOTIFICATION.unpack(buffer)
    return Held(ticket, thread, number, tuple(args))


def _has_call(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    events = dict(poll.poll(0)).get(fd, 0)
    if events and not events & select.POLLIN:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return bool(events)


def is_still_held(fd: int, ticket: int) -> bool:
    """True if nothing has ended or interrupted the call."""
    try:
        fcntl.ioctl(fd, _ID_VALID, struct.pack("=Q", ticket))
    except OSError:
        return False
    return True


def answer(fd: int, ticket: int, code: int = 0) -> bool:
    """Let the call fail with errno *code*, or go on with 0. False if it is no longer there."""
    try:
        fcntl.ioctl(fd, _SEND, _RESPONSE.pack(ticket, 0, -code, 0 if code else _CONTINUE))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


class Farewell:
    """Hears the one call with which a job's process that runs source ends itself, as code of ours makes it.

    Once it is received nothing of that thread ever runs again: it waits for an answer, no signal but one that
    kills can wake it (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), and that is what it gets. Answered, a signal
    that was there first could still take it back to code of the job (before Linux 6.18). What is left is for
    the kernel to take its memory apart, which takes longer than most jobs. Anybody in the jail can make the
    call; it says of nobody but who makes it.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.status: int | None = None
        self._pid, self._pidfd = 0, -1
        self._looks: tuple[int, ...] = ()  # into /proc: threads and children of its process, children of init

    def know(self, pid: int, pidfd: int, init: int) -> None:
        """Who it will be about. Where /proc does not say who is below them, no farewell counts.

        *pidfd* stays the caller's.
        """
        self._pid, self._pidfd = pid, pidfd
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            fds = []
            for path in (f"{pid}/task", f"{pid}/task/{pid}/children", f"{init}/task/{init}/children"):
                fds.append(os.open(f"/proc/{path}", os.O_RDONLY | os.O_CLOEXEC))
                opened.callback(os.close, fds[-1])
            opened.pop_all()
            self._looks = tuple(fds)

    def hear(self, *, counts: bool) -> bool:
        """True, and `status` is known, if the held call is the end of all that the job has begun.

        It is held until `release` then; else it is let go at once: with *counts* false, or while another
        thread or a process of the job is left, the kernel's later word is waited for.
        """
        held = receive(self.fd)
        if held is None:
            return False
        is_last = counts and self._looks and held.thread == self._pid and self._is_alone()
        if not is_last or not is_still_held(self.fd, held.ticket):
            answer(self.fd, held.ticket)
            return False
        self.status = held.args[0] & 0xFF
        return True

    def release(self) -> None:
        """End the process, which has been heard, in its call. It may have been killed meanwhile."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _is_alone(self) -> bool:
        """True if its process has one thread, which is held, and nobody is below it, nor then below init.

        Nobody is left then who could give it a thread or a child; what it has orphaned is below init.
        """
        threads, children, orphans = self._looks
        try:
            is_single = os.fstat(threads).st_nlink == _ENTRIES_OF_A_FOLDER + 1
            return is_single and not os.pread(children, 1, 0) and not os.pread(orphans, 1, 0)
        except OSError:
            return False

    def close_looks(self) -> None:
        """Look no more."""
        looks, self._looks = self._looks, ()
        for fd in looks:
            os.close(fd)

    def close(self) -> None:
        """Close once."""
        self.close_looks()
        os.close(self.fd)
