"""Keeps one processor free for calls while workers are started for other policies.

A process that has just been started is not put aside for one that wakes up, and a call would wait for the end
of its time slice, on the way to the worker and back: 4 ms each time, with the usual kernel. One that has
worked for a while is, so that whoever checks the policies may use every processor.
"""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["processors", "put_aside"]


def processors() -> list[int]:
    """Those that this thread may use."""
    return sorted(os.sched_getaffinity(0))


def put_aside(pid: int) -> None:
    """Let *pid*, and what it starts, use all of them but one. Where that is refused only time is lost."""
    others = processors()[1:]
    if others:
        with suppress(OSError):
            os.sched_setaffinity(pid, others)
