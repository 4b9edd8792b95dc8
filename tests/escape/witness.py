"""What can be seen of a process from outside: /proc as the kernel tells it, never what the process says."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_bytes().decode(errors="replace")
    return ""


def named(name: str) -> list[int]:
    """The processes that bear *name* (the kernel's `comm`), host-wide."""
    pids = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    return [int(pid) for pid in pids if _text(f"/proc/{pid}/comm").strip() == name]


def with_word(word: str) -> list[int]:
    """The processes that have *word* in their command line."""
    pids = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    return [int(pid) for pid in pids if word in _text(f"/proc/{pid}/cmdline").split("\0")]


def is_alive(pid: int) -> bool:
    """True unless it is gone or only waits to be reaped."""
    return field(pid, "State")[:1] not in ("", "Z", "X")


def field(pid: int, name: str) -> str:
    """One line of /proc/PID/status."""
    for line in _text(f"/proc/{pid}/status").splitlines():
        if line.startswith(name + ":"):
            return line.partition(":")[2].strip()
    return ""


def owner(pid: int) -> int:
    """Whom the kernel gives its files in /proc to; -1 if it is gone."""
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/stat").st_uid
    return -1


def kib(pid: int, name: str) -> int:
    """A size in /proc/PID/status, in KiB."""
    words = field(pid, name).split()
    return int(words[0]) if words else 0


def links(pid: int) -> list[str]:
    """What its descriptors above the three streams lead to."""
    found = []
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if int(fd) > 2:
                    found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def numbers(pid: int) -> list[str]:
    """The numbers of its open descriptors."""
    with contextlib.suppress(OSError):
        return os.listdir(f"/proc/{pid}/fd")
    return []


def processor_s(pid: int) -> float:
    words = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") if len(words) > 12 else 0.0


def socket_kinds(pid: int) -> list[str]:
    """The protocol of every socket that it holds, in the kernel's own words."""
    found = []
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                name = os.getxattr(f"/proc/{pid}/fd/{fd}", "system.sockprotoname")
                found.append(name.rstrip(b"\0").decode())
    return found


def maps(pid: int) -> list[str]:
    return _text(f"/proc/{pid}/maps").splitlines()


def namespace(pid: int, kind: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    return ""


def root(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/root")
    return ""


def executable(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe")
    return ""


def scheduling_policy(pid: int) -> int:
    words = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(words[38]) if len(words) > 38 else -1


def has_key(number: str) -> bool:
    """A key of that number (8 hexadecimal digits) is in a ring of the host that we may see."""
    return len(number) == 8 and any(line.startswith(number) for line in _text("/proc/keys").splitlines())


def limits(pid: int) -> str:
    return _text(f"/proc/{pid}/limits")


def text(pid: int, name: str) -> str:
    return _text(f"/proc/{pid}/{name}")


def end(name: str) -> None:
    """Kill every process of that name, until none is left."""
    for _ in range(200):
        found = [pid for pid in {*named(name), *with_word(name)} if is_alive(pid)]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
