"""Collecting the files that a job left: when nobody is left in its folder, without following any link.

Every step down is by descriptor with O_NOFOLLOW, so that a link planted in the way leads nowhere. What is
not a regular file is left out, and so is what cannot be read: the job may have made it so.
"""

# descriptors, not paths

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from fumehood.confine import messages
from fumehood.confine.outcome import Artifact

MOST_BYTES: Final = 32 << 20
MOST_FILES: Final = 256
_MOST_LEVELS: Final = 16
_CHUNK_BYTES: Final = 1 << 20
#: Before each file: how long its path and its body are.
_HEAD: Final = struct.Struct("=IQ")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def collect(folder: int, patterns: Sequence[str]) -> int:
    """A sealed memory file with every regular file in the open *folder* whose relative path matches.

    At most MOST_FILES files and MOST_BYTES bytes; what is over is left out. Nothing in it may move.
    """
    target = messages.memfd()
    room, files = MOST_BYTES, 0
    with contextlib.suppress(OSError):  # the folder itself cannot be read
        for path, file in _walk(os.dup(folder), "", patterns, levels=_MOST_LEVELS):
            size = os.fstat(file).st_size
            if size <= room and files < MOST_FILES:
                _append(target, os.fsencode(path), file, size)
                room, files = room - size, files + 1
    messages.seal(target)
    return target


def _append(target: int, path: bytes, file: int, size: int) -> None:
    os.write(target, _HEAD.pack(len(path), size) + path)
    while size:
        part = os.read(file, min(size, _CHUNK_BYTES))
        if not part:  # shorter than it said: the rest reads as zeros
            os.ftruncate(target, os.lseek(target, size, os.SEEK_CUR))
            break
        size -= os.write(target, part)


def read(fd: int) -> tuple[Artifact, ...]:
    """What `collect` wrote; closes *fd*."""
    try:
        limit = MOST_BYTES + MOST_FILES * (_HEAD.size + 16 * 256)
        body = memoryview(messages.read_memfd(fd, limit_bytes=limit))
    finally:
        os.close(fd)
    found = []
    while body:
        name, size = _HEAD.unpack_from(body)
        middle, end = _HEAD.size + name, _HEAD.size + name + size
        found.append(Artifact(os.fsdecode(bytes(body[_HEAD.size : middle])), bytes(body[middle:end])))
        body = body[end:]
    return tuple(found)


def _walk(folder: int, prefix: str, patterns: Sequence[str], *, levels: int) -> Iterator[tuple[str, int]]:
    """Paths and open files; closes *folder*."""
    try:
        for name in sorted(os.listdir(folder)):
            path = prefix + name
            kind = _kind(folder, name)
            if kind == stat.S_IFDIR and levels:
                with contextlib.suppress(OSError):
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                    yield from _walk(inner, path + "/", patterns, levels=levels - 1)
            elif kind == stat.S_IFREG and any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
                with _opened(folder, name) as file:
                    if file >= 0:
                        yield path, file
    finally:
        os.close(folder)


def _kind(folder: int, name: str) -> int:
    """The type of what is there; 0 where it cannot be seen."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return 0


@contextlib.contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    """The regular file *name*; -1 where it is none or cannot be read."""
    try:
        fd = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        yield -1
        return
    try:
        yield fd if stat.S_ISREG(os.fstat(fd).st_mode) else -1
    finally:
        os.close(fd)
