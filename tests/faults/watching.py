"""The process table, the mounts and the temporary folder as they look from outside."""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SUBREAPER = 36
_PRIVATE = re.compile(r"/tmp/fumehood-[0-9a-f]+")


@dataclass(frozen=True)
class Process:
    """A line of the process table. It is in `levels` pid namespaces, and has the number `inner` in the last."""

    pid: int
    parent: int
    state: str
    name: str
    levels: int
    inner: int
    command: str


def become_subreaper() -> None:
    """From now on whatever outlives its parent becomes our child: nothing gets out of sight."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def table() -> dict[int, Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found[int(entry.name)] = _process(entry)
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _process(entry: Path) -> Process:
    lines = dict(
        line.split(":\t", 1) for line in (entry / "status").read_text().splitlines() if ":\t" in line
    )
    numbers = lines["NSpid"].split()
    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return Process(
        pid=int(entry.name),
        parent=int(lines["PPid"]),
        state=lines["State"][0],
        name=lines["Name"],
        levels=len(numbers),
        inner=int(numbers[-1]),
        command=command,
    )


def below(root: int) -> dict[int, Process]:
    everybody = table()
    inside, news = {root}, {root}
    while news:
        news = {p.pid for p in everybody.values() if p.parent in news} - inside
        inside |= news
    return {pid: everybody[pid] for pid in inside - {root} if pid in everybody}


def marked(mark: str, *, but: int = 0) -> list[Process]:
    """Whoever has *mark* as a word of its command line, wherever it is in the tree; *but* is left out."""
    return [p for p in table().values() if p.pid != but and mark in p.command.split()]


def private_folders(pids: object) -> set[str]:
    """The beginnings of the names of private folders in which some of *pids* are."""
    found = set()
    for pid in pids:  # type: ignore[attr-defined]
        try:
            match = _PRIVATE.match(os.readlink(f"/proc/{pid}/cwd"))
        except OSError:
            continue
        found |= {match[0]} if match else set()
    return found


def left_of(prefixes: set[str]) -> list[str]:
    found = []
    for path in Path("/tmp").glob("fumehood-*"):
        if str(path).startswith(tuple(f"{prefix}-" for prefix in prefixes)):
            found.append(f"{path} {sorted(path.glob('*'))}")
    return found


def mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(line.split(" ", 3)[3] for line in lines)


def wait_until(holds: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
