"""Keeps processors free for calls while policies are checked, and workers made ready for them.

A call waits twice for a processor: in the worker, and on the way back. One that somebody else works on is
given up at the next tick of the kernel's clock (4 ms), by one that gives way at once. Whoever checks policies
gives way. A worker is not to: there is no way back from that without privileges. It is made ready on half of
the processors, and those that decide meanwhile keep to the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["give_way", "keep_to_first", "processors", "put_aside", "use_every"]


def give_way() -> None:
    """Let this process, and what it starts, work where nobody else wants to: SCHED_IDLE, see sched(7)."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def processors() -> list[int]:
    """Those that this thread may use."""
    return sorted(os.sched_getaffinity(0))


def put_aside(pid: int) -> None:
    """Let *pid*, and what it starts, use the second half of them. Where that is refused only time is lost."""
    _use(pid, _halves()[1])


def keep_to_first(pids: Iterable[int]) -> None:
    """Let those that decide use the first half, as long as others are made ready in the second."""
    for pid in pids:
        _use(pid, _halves()[0])


def use_every(pids: Iterable[int]) -> None:
    for pid in pids:
        _use(pid, processors())


def _halves() -> tuple[list[int], list[int]]:
    each = processors()
    half = (len(each) + 1) // 2
    return each[:half], each[half:] or each


def _use(pid: int, which: list[int]) -> None:
    with suppress(OSError):
        os.sched_setaffinity(pid, which)
