"""Reading what a job left, in a process of its own: its folder may be large, slow, or not answer at all."""

# inside the spawner

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from fumehood.confine import artifacts, folders, messages, syscalls, wire

if TYPE_CHECKING:
    from fumehood.confine.jobs import Job
    from fumehood.confine.loop import Loop

_PATIENCE_S: Final = 30.0
_LOOK_S: Final = 5.0
_REAP_S: Final = 0.05


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


class Collectors:
    """Those at work. *answer* gets each job with what was found of it."""

    def __init__(self, loop: Loop, *, answer: Callable[[Job, tuple[int, ...]], None]) -> None:
        self._loop = loop
        self._answer = answer
        self._at_work: list[Collector] = []
        self._stuck: list[Collector] = []  # killed, and not dead

    def begin(self, job: Job, folder: int, private: str) -> None:
        """Collect from *folder*, an open one; then remove *private*, if that is any."""
        collector = Collector(job, folder, private)
        self._at_work.append(collector)
        self._loop.watch(collector.channel.fileno(), partial(self._end, collector))

    def _end(self, collector: Collector) -> None:
        self._at_work.remove(collector)
        self._loop.forget(collector.channel.fileno())
        self._answer(collector.job, collector.finish())
        if not collector.has_ended():
            self._stuck.append(collector)

    def look_after(self, now: float) -> None:
        """End those that take too long."""
        self._stuck = [collector for collector in self._stuck if not collector.has_ended()]
        for collector in [collector for collector in self._at_work if now >= collector.until]:
            self._end(collector)

    @property
    def patience_s(self) -> float:
        """How long until they have to be looked after."""
        if self._stuck:
            return _REAP_S
        return _LOOK_S if self._at_work else math.inf

    @property
    def pids(self) -> set[int]:
        """Their processes."""
        return {collector.pid for collector in (*self._at_work, *self._stuck)}


def _collect(channel: socket.socket, folder: int, patterns: Sequence[str]) -> NoReturn:
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.close_from(3, keep=(channel.fileno(), folder))
        wire.send(channel, {"artifacts": True}, fds=(artifacts.collect(folder, patterns),))
    finally:
        os._exit(0)
