"""Reading what a job left, in a process of its own: its folder may be large, slow, or not answer at all."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from fumehood.confine import artifacts, folders, messages, syscalls, wire

if TYPE_CHECKING:
    from fumehood.confine.jobs import Job

_PATIENCE_S: Final = 30.0


class Collector:
    """A process that reads a job's artifacts, and the job that is answered when it has."""

    def __init__(self, job: Job, folder: int, private: str) -> None:
        self.job = job
        self._private = private  # a folder that was made for the job alone: to be removed when it is read
        self.channel, its = wire.pair()
        self.until = time.monotonic() + _PATIENCE_S
        self._pid = -1
        with its, contextlib.suppress(OSError):  # no more processes: then nothing is collected
            self._pid = os.fork()
            if not self._pid:
                _collect(its, folder, job.artifacts)

    @property
    def pid(self) -> int:
        """Its process id, while it is ours; -1 if there is none."""
        return self._pid

    def finish(self) -> tuple[int, ...]:
        """What it has found, if it is ready; it is gone afterwards, ready or not."""
        found: list[int] = []
        with contextlib.suppress(OSError):
            message = wire.receive(self.channel, flags=messages.NOW)
            found = message[1] if message else []
        if self._pid > 0:
            os.kill(self._pid, signal.SIGKILL)
            self.has_ended()
        self.channel.close()
        if self._private:
            folders.remove(self._private)
        return tuple(found)

    def has_ended(self) -> bool:
        """False while it has been killed and cannot end: what it reads from does not answer."""
        if self._pid > 0 and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = -1
        return self._pid < 0


def _collect(channel: socket.socket, folder: int, patterns: Sequence[str]) -> NoReturn:
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.close_from(3, keep=(channel.fileno(), folder))
        wire.send(channel, {"artifacts": True}, fds=(artifacts.collect(folder, patterns),))
    finally:
        os._exit(0)
