"""Children of the supervisor that nobody knows: what a job without a pid namespace left behind, and what a
template that was killed had just made."""

from __future__ import annotations

import contextlib
import os

from fumehood.confine import procs


def unknown(known: set[int], *, is_sure: bool) -> list[int]:
    """Our children that are not *known*.

    Unless that *is_sure*, none of our own session: it might be one that has not said yet who it is.
    """
    found = [pid for pid in procs.children(os.getpid()) if pid not in known]
    return found if is_sure else [pid for pid in found if _leads_away(pid)]


def of_jobs(pids: list[int]) -> list[int]:
    """Those that a job has left. It leads a session of its own, which nothing in it can undo."""
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) != os.getsid(0) or procs.is_zombie(pid):
                found.append(pid)
    return found


def kill(pids: list[int]) -> None:
    """End them and all below them, and collect them."""
    procs.kill_all([pid for stray in pids for pid in procs.descendants(stray)] + pids)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def reap(pids: list[int]) -> None:
    """Collect those that have ended: their namespace waits for that."""
    for pid in pids:
        if procs.is_zombie(pid):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _leads_away(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid) != os.getsid(0)
    return False
