"""Keeps one processor free for calls while policies are replaced.

Checking a thousand rules and starting workers for them keeps every processor busy for a moment. A call then
waits for the ends of time slices, on its way to the worker and back: 4 ms each time, with the usual kernel.
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
