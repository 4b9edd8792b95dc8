"""The supervisor's eyes: calls that the kernel holds until we have looked at them.

Evidence, never the barrier: a path is copied from the process's memory and may have changed when the kernel
reads it again, so for paths and addresses the answer is always "let the kernel decide", and what lies below
(namespaces, Landlock) refuses. Only what no memory can change is refused here: exec at all, and sockets.

Source: seccomp_unotify(2); include/uapi/linux/seccomp.h.
"""

# every one of these is made while a process waits
# ruff: noqa: PTH112, PTH115, PTH120

from __future__ import annotations

import ctypes
import errno
import os
import socket
from dataclasses import dataclass, field
from typing import Final

from fumehood.confine import listener
from fumehood.confine.outcome import Attempt

_MOST_RECORDS: Final = 200
_PATH_MAX: Final = 4096
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: Which argument holds the path, and which the folder it starts from (-1: the working folder).
_PATHS: Final = {
    "open": (0, -1),
    "openat": (1, 0),
    "creat": (0, -1),
    "execve": (0, -1),
    "execveat": (1, 0),
    "unlink": (0, -1),
    "unlinkat": (1, 0),
    "rename": (1, -1),
    "renameat": (3, 2),
    "renameat2": (3, 2),
    "mkdir": (0, -1),
    "mkdirat": (1, 0),
    "symlink": (1, -1),
    "symlinkat": (2, 1),
    "link": (1, -1),
    "linkat": (3, 2),
    "truncate": (0, -1),
}
_FAMILIES: Final[dict[int, str]] = {
    socket.AF_INET: "AF_INET",
    socket.AF_INET6: "AF_INET6",
    socket.AF_UNIX: "AF_UNIX",
}
#: The default, TCP and UDP. Any other would make the kernel load a module (SCTP, L2TP, MPTCP, …).
_PROTOCOLS: Final = (0, 6, 17)
_KINDS: Final[dict[int, str]] = {socket.SOCK_STREAM: "SOCK_STREAM", socket.SOCK_DGRAM: "SOCK_DGRAM"}


@dataclass(slots=True)
class Observer:
    """One job's listener and what was seen through it.

    `readable` and `writable` are what the plan shows; an open outside of them is one that the kernel refuses.
    `private` are memory folders that only this job sees.
    """

    fd: int
    calls: dict[int, str]
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    private: tuple[str, ...]
    may_make_sockets: bool
    starts_left: int = 0  # of the one program, by code of ours before anything of the caller's runs
    seen: dict[Attempt, int] = field(default_factory=dict)
    dropped: int = 0

    def handle(self) -> Attempt | None:
        """Answer one held call. Returns the attempt if it is a new one worth telling."""
        held = listener.receive(self.fd)
        if held is None:
            return None
        name = self.calls.get(held.number, f"call {held.number}")
        attempt, code = self._judge(name, held.thread, held.args)
        is_there = listener.is_still_held(self.fd, held.ticket)
        is_new = attempt is not None and is_there and self._record(attempt)
        listener.answer(self.fd, held.ticket, code)
        return attempt if is_new else None

    def _record(self, attempt: Attempt) -> bool:
        if attempt in self.seen:
            self.seen[attempt] += 1
            return False
        if len(self.seen) >= _MOST_RECORDS:
            self.dropped += 1
            return False
        self.seen[attempt] = 1
        return True

    # --- what it was ---------------------------------------------------------------------------------

    def _judge(self, name: str, pid: int, args: tuple[int, ...]) -> tuple[Attempt | None, int]:
        """The attempt, if it is one worth recording, and the errno to answer; 0 lets the kernel decide."""
        if name == "execveat" and self.starts_left:
            self.starts_left -= 1
            return None, 0
        if name in ("execve", "execveat"):
            return Attempt("exec", self._path(pid, name, args), "refused"), errno.EPERM
        if name == "socket":
            return self._socket(args)
        if name == "connect":
            address = _address(_memory(pid, args[1], min(args[2], 128)))
            return Attempt("connect", address, "refused"), 0 if self.may_make_sockets else errno.EACCES
        path = self._path(pid, name, args)
        writes = name not in ("open", "openat") or bool(_open_flags(name, args) & _WRITING)
        return self._judge_path(_operation(name, writes=writes), pid, path, writes=writes), 0

    def _judge_path(self, operation: str, pid: int, path: str, *, writes: bool) -> Attempt | None:
        """The innermost folder that the plan shows decides, as the mount that lies on top does.

        Memory folders stand where the host has others: what is written there reaches nobody, and is told.
        """
        writable, readable, private = (_depth(path, f) for f in (self.writable, self.readable, self.private))
        deepest = max(writable, readable, private)
        if deepest and (deepest == writable or (deepest == readable > private and not writes)):
            return None
        if not deepest or deepest > private:
            return Attempt(operation, path, "refused")
        is_there = os.path.isdir(f"/proc/{pid}/root{os.path.dirname(path)}")
        if is_there and not writes:
            return None
        return Attempt(operation, path, "observed" if is_there else "refused")

    def _socket(self, args: tuple[int, ...]) -> tuple[Attempt, int]:
        family, kind = _FAMILIES.get(args[0] & 0xFFFFFFFF, f"family {args[0]}"), args[1] & 0xF
        target = f"{family} {_KINDS.get(kind, f'type {kind}')}"
        is_plain = kind in _KINDS and args[2] & 0xFFFFFFFF in _PROTOCOLS
        if self.may_make_sockets and is_plain:
            return Attempt("socket", target, "observed"), 0
        return Attempt("socket", target, "refused"), errno.EACCES

    def _path(self, pid: int, name: str, args: tuple[int, ...]) -> str:
        at, folder = _PATHS[name]
        text = _memory(pid, args[at], _PATH_MAX).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        if text.startswith("/"):
            return os.path.normpath(text)
        start = _signed(args[folder]) if folder >= 0 else -100
        where = f"/proc/{pid}/cwd" if start == -100 else f"/proc/{pid}/fd/{start}"
        try:
            return os.path.normpath(f"{os.readlink(where)}/{text}")
        except OSError:
            return text


def _depth(path: str, folders: tuple[str, ...]) -> int:
    """The length of the innermost of *folders* that is *path* or holds it; 0 if none does."""
    return max((len(f) for f in folders if path == f or path.startswith(f.rstrip("/") + "/")), default=0)


def _operation(name: str, *, writes: bool) -> str:
    plain = "open" if name == "creat" else name.removesuffix("2").removesuffix("at")
    return "open for writing" if plain == "open" and writes else plain


def _signed(word: int) -> int:
    return ctypes.c_int(word & 0xFFFFFFFF).value


def _open_flags(name: str, args: tuple[int, ...]) -> int:
    return args[1] if name == "open" else args[2]


def _memory(pid: int, address: int, size: int) -> bytes:
    """Up to *size* bytes of another process, stopping where it has no more memory; empty if it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return _read_to_page_ends(fd, address, size)
    finally:
        os.close(fd)


def _read_to_page_ends(fd: int, address: int, size: int) -> bytes:
    found = b""
    while len(found) < size and b"\0" not in found[-_PATH_MAX:]:
        here = address + len(found)
        try:
            part = os.pread(fd, min(size - len(found), 4096 - here % 4096), here)
        except (OSError, OverflowError):
            break
        if not part:
            break
        found += part
    return found


def _address(raw: bytes) -> str:
    """A socket address as text."""
    if len(raw) < 2:
        return "unreadable address"
    family = int.from_bytes(raw[:2], "little")
    if family == socket.AF_INET and len(raw) >= 8:
        return f"{socket.inet_ntop(family, raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
    if family == socket.AF_INET6 and len(raw) >= 24:
        return f"[{socket.inet_ntop(family, raw[8:24])}]:{int.from_bytes(raw[2:4], 'big')}"
    return f"family {family}"
