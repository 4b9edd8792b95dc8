"""How many jobs run at once, and those that wait until they may."""

# inside the spawner

from __future__ import annotations

import collections
import contextlib
import math
import resource
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from fumehood.confine.jobs import Job
    from fumehood.confine.loop import Loop

MOST_RUNNING: Final = 64
_MOST_WAITING: Final = 1024
_MOST_WARM: Final = 8
_FILES_OF_A_JOB: Final = 15
_FILES_OF_OURS: Final = 32
_FEW_FILES, _MANY_FILES = 1024, 65_536
_BEAT_S: Final = 5.0


class Room(NamedTuple):
    """How many jobs may run, how many may wait for that, and how many jails may wait for jobs."""

    running: int
    waiting: int
    warm: int


def room() -> Room:
    """As many as there are descriptors for."""
    jobs = max(1, (_files() - _FILES_OF_OURS) // _FILES_OF_A_JOB)
    running = min(MOST_RUNNING, jobs)
    return Room(running, min(_MOST_WAITING, jobs - running), min(_MOST_WARM, (jobs - 1) // 3))


def _files() -> int:
    """How many files this process may hold open. The soft bound is raised to the hard one."""
    usable = _FEW_FILES
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        usable = soft
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        usable = hard
    return min(usable, _MANY_FILES) if usable != resource.RLIM_INFINITY else _MANY_FILES


class Queue:
    """Jobs that wait, in the order in which they came. Their callers are told, so that they go on waiting."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._jobs: collections.deque[Job] = collections.deque()
        self._next_beat = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """It waits from now on."""
        self._jobs.append(job)
        self._loop.watch(job.reply.fileno(), partial(self._on_reply, job))
        job.say_that_it_waits()

    def take(self) -> Job | None:
        """The one that is next, if one waits."""
        if not self._jobs:
            return None
        job = self._jobs.popleft()
        self._loop.forget(job.reply.fileno())
        return job

    def _on_reply(self, job: Job) -> None:
        """Stopped, or given up by its caller, before it began."""
        self._loop.forget(job.reply.fileno())
        self._jobs.remove(job)
        job.give_up()

    def look_after(self, now: float) -> None:
        """Tell the callers every few seconds that nothing is wrong."""
        if self._jobs and now >= self._next_beat:
            self._next_beat = now + _BEAT_S
            for job in self._jobs:
                job.say_that_it_waits()

    @property
    def patience_s(self) -> float:
        """How long until it has to be looked after."""
        return _BEAT_S if self._jobs else math.inf
