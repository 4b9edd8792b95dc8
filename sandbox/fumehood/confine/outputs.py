"""Jobs' output, read as it comes."""

# inside the spawner

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fumehood.confine.jails import Jail, Keep
    from fumehood.confine.jobs import Job
    from fumehood.confine.loop import Loop

_READ_BYTES: Final = 1 << 16
_QUIET_S: Final = 0.002


class Outputs:
    """Most jobs have ended before their output has to be looked at: unless their caller wants it as it comes,
    it is left in its pipes for a moment."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._later: dict[Job, tuple[float, Jail]] = {}

    def begin(self, job: Job, jail: Jail) -> None:
        """*job* was given to *jail*."""
        if job.is_streamed:
            self._watch(job, jail)
        else:
            self._later[job] = time.monotonic() + _QUIET_S, jail

    def look_after(self, now: float) -> None:
        """Watch that of jobs that did not end at once."""
        for job, (until, jail) in list(self._later.items()):
            if now >= until:
                self._watch(job, jail)

    def patience_s(self, now: float) -> float:
        """How long until it has to be looked after."""
        return min((until for until, _ in self._later.values()), default=math.inf) - now

    def _watch(self, job: Job, jail: Jail) -> None:
        self._later.pop(job, None)
        for stream in jail.streams:
            self._loop.watch(stream.fd, partial(self._on_output, job, stream))

    def _on_output(self, job: Job, stream: Keep) -> None:
        stream.read(_READ_BYTES)
        if stream.has_ended:
            self._loop.forget(stream.fd)
            stream.close()
        elif stream.is_over:
            job.stop("output")
        job.pass_on()

    def finish(self, job: Job, jail: Jail) -> None:
        """Take what is left: nobody writes any more."""
        for stream in jail.streams:
            while stream.fd >= 0 and not stream.is_over and stream.read(_READ_BYTES):
                pass
        if any(stream.is_over for stream in jail.streams):
            job.stopped = job.stopped or "output"

    def forget(self, job: Job, jail: Jail) -> None:
        """*job* is no longer that of *jail*."""
        self._later.pop(job, None)
        for stream in jail.streams:
            self._loop.forget(stream.fd)
