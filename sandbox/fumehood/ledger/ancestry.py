"""Who descends from whom, by /proc (proc_pid_stat(5)): a process is its pid and its start time."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_ancestor", "this_process"]


def this_process() -> tuple[int, int]:
    """(pid, start time in clock ticks since boot) of the calling process."""
    pid = os.getpid()
    return pid, _stat(pid)[1]


def is_ancestor(process: tuple[int, int], *, of: int | None = None) -> bool:
    """True if *process* is a proper ancestor of the process *of* (default: the calling one)."""
    pid = os.getpid() if of is None else of
    seen: set[int] = set()
    while pid > 1 and pid not in seen:
        seen.add(pid)
        try:
            pid = _stat(pid)[0]
            if pid == process[0] and _stat(pid)[1] == process[1]:
                return True
        except (FileNotFoundError, ProcessLookupError):
            return False
    return False


def _stat(pid: int) -> tuple[int, int]:
    """(parent's pid, start time). The name in parentheses may hold anything, so count from its end."""
    text = Path(f"/proc/{pid}/stat").read_bytes()
    fields = text[text.rindex(b")") + 2 :].split()
    return int(fields[1]), int(fields[19])
