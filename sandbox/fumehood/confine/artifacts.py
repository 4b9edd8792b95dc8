"""Collecting the files that a job left: inside the jail, after the job, without following any link.

Every step down is by descriptor with O_NOFOLLOW, so that a link planted in the way leads nowhere; what is
not a regular file is left out.
"""

# descriptors, not paths

from __future__ import annotations

import base64
import fnmatch
import json
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from fumehood.confine import syscalls
from fumehood.confine.outcome import Artifact

MOST_BYTES: Final = 32 << 20
MOST_FILES: Final = 256
_MOST_LEVELS: Final = 16
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def collect(folder: str, patterns: Sequence[str]) -> int:
    """A sealed memory file with every regular file whose relative path matches; -1 if none was asked for.

    At most MOST_FILES files and MOST_BYTES bytes; what is over is left out.
    """
    if not patterns:
        return -1
    found: list[tuple[str, str]] = []
    room = MOST_BYTES
    root = os.open(folder, _FOLDER)
    try:
        for path, body in _walk(root, "", patterns, levels=_MOST_LEVELS):
            if len(body) > room or len(found) >= MOST_FILES:
                continue
            room -= len(body)
            found.append((path, base64.b64encode(body).decode()))
    finally:
        os.close(root)
    return syscalls.sealed_memfd(json.dumps(found).encode())


def read(fd: int) -> tuple[Artifact, ...]:
    """What `collect` wrote; closes *fd*."""
    try:
        found = json.loads(syscalls.read_memfd(fd, limit_bytes=2 * MOST_BYTES + (1 << 20)))
    finally:
        os.close(fd)
    return tuple(Artifact(path, base64.b64decode(body)) for path, body in found)


def _walk(folder: int, prefix: str, patterns: Sequence[str], *, levels: int) -> Iterator[tuple[str, bytes]]:
    for name in sorted(os.listdir(folder)):
        path = prefix + name
        kind = stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if kind == stat.S_IFDIR and levels:
            yield from _below(folder, name, path, patterns, levels=levels - 1)
        elif kind == stat.S_IFREG and any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            body = _body(folder, name)
            if body is not None:
                yield path, body


def _below(
    folder: int, name: str, path: str, patterns: Sequence[str], *, levels: int
) -> Iterator[tuple[str, bytes]]:
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError:  # unreadable, or replaced meanwhile: not a folder that we follow
        return
    try:
        yield from _walk(inner, path + "/", patterns, levels=levels)
    finally:
        os.close(inner)


def _body(folder: int, name: str) -> bytes | None:
    try:
        fd = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        body = file.read(MOST_BYTES + 1)
        return body if len(body) <= MOST_BYTES else None
