"""The steps with which a job's process becomes a program that is known before there is a process."""

from __future__ import annotations

import os
import resource
import struct
from typing import Final, NamedTuple

from fumehood.confine import syscalls, wire
from fumehood.confine.letter import Ends, Letter
from fumehood.confine.sequence import NEVER, Sequence, Stop
from fumehood.confine.setup import layer

#: No layer: what is refused is the program itself.
PROGRAM: Final = "program"
_ORDERS_FD: Final = 3


class Start(NamedTuple):
    """The program that a job becomes, where that is known before there is a process."""

    path: bytes
    argv: list[bytes]
    env: list[bytes]
    stdin: int
    shows_folder: bool


def open_alone(calls: Sequence, wanted: Start) -> None:
    """The one program that may be started, under the number that the filter lets through."""
    number = syscalls.EXEC_ONCE_FD
    with layer("rlimits"):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard != resource.RLIM_INFINITY and hard <= number:
            raise OSError(f"the hard limit on open files is {hard}, needed is {number + 1}")
    body = struct.pack("=QQ", hard % 2**64, hard % 2**64)
    calls.add("rlimits", "prlimit64", 0, resource.RLIMIT_NOFILE, body, None)
    if wanted.path:
        mode = os.O_PATH | os.O_CLOEXEC
        file = calls.add(PROGRAM, "openat", syscalls.AT_FDCWD, wanted.path, mode, 0)
        calls.add("rlimits", "dup3", file, number, os.O_CLOEXEC)
        calls.add("rlimits", "close", file)


def start(calls: Sequence, ends: Ends, wanted: Start, *, workdir: str, is_alone: bool) -> None:
    """Streams, the word to go, which comes when the supervisor knows this process; and the program.

    *is_alone*: it is the one that `open_alone` has opened.
    """
    for end, number in ((ends.out, 1), (ends.err, 2), (wanted.stdin, 0)):
        calls.add("supervisor", "dup3", end, number, 0)
    if wanted.shows_folder:
        _show_folder(calls, ends, workdir)
    calls.add("supervisor", "dup3", ends.orders, _ORDERS_FD, os.O_CLOEXEC)
    Letter(calls, size=8, descriptors=0).receive(calls, _ORDERS_FD, stop=Stop(-1, len(wire.GO)))
    calls.add("supervisor", "setsid")
    kept = syscalls.EXEC_ONCE_FD if is_alone else _ORDERS_FD
    for first, last in ((_ORDERS_FD + 1, kept - 1), (kept + 1, 0xFFFF_FFFF)):
        if first <= last:
            calls.add("supervisor", "close_range", first, last, 0)
    _become(calls, wanted, Letter(calls, body=bytes(8), descriptors=0), is_alone=is_alone)


def _show_folder(calls: Sequence, ends: Ends, workdir: str) -> None:
    """The working folder to the supervisor, which reads artifacts from it when nobody is left in it."""
    mode = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    letter = Letter(calls, body=wire.encode({"folder": True}), descriptors=1)
    calls.add("rootfs", "openat", syscalls.AT_FDCWD, workdir, mode, 0, into=letter.descriptor(0))
    letter.send(calls, ends.channel)


def _become(calls: Sequence, wanted: Start, refusal: Letter, *, is_alone: bool) -> None:
    """exec(2); where that returns, the supervisor gets what it answered."""
    argv, env = _texts(calls, wanted.argv), _texts(calls, wanted.env)
    if not wanted.path:  # answers that there is none
        calls.add(PROGRAM, "openat", syscalls.AT_FDCWD, b"", os.O_PATH, 0, into=refusal.body, stop=NEVER)
    elif is_alone:
        which = (syscalls.EXEC_ONCE_FD, b"", argv, env, syscalls.AT_EMPTY_PATH)
        calls.add(PROGRAM, "execveat", *which, into=refusal.body, stop=NEVER)
    else:
        calls.add(PROGRAM, "execve", wanted.path, argv, env, into=refusal.body, stop=NEVER)
    refusal.send(calls, _ORDERS_FD)


def _texts(calls: Sequence, texts: list[bytes]) -> int:
    """The address of an array of them, as exec(3) takes it."""
    addresses = [calls.buffer(text + b"\0") for text in texts]
    return calls.buffer(struct.pack(f"={len(texts) + 1}Q", *addresses, 0))
