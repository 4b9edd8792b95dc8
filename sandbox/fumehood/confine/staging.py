"""A copy of root's working folder for a job that is not root, where no mount can map one to the other.

The copy belongs to the job's user. When the job has ended, new and changed regular files come home under
the caller's identity: without following a link on either side, without set-id bits, never into `.git` nor
into what was to be kept. What the job deleted stays.
"""

# descriptors, not paths
# ruff: noqa: PTH102

from __future__ import annotations

import os
import shutil
import stat
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fumehood.confine import folders
from fumehood.errors import ConfinementError

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GIT: Final = ".git"
_PART: Final = ".fumehood-part"


@dataclass(slots=True, weakref_slot=True)
class Copy:
    """A copied folder. `stamps` says what each file was when it was copied."""

    folder: str
    home: str
    most_bytes: int
    kept: frozenset[str] = frozenset()  # does not come home, as named from the folder
    stamps: dict[str, tuple[int, int]] = field(default_factory=dict)

    def bring_home(self) -> None:
        """Write back what is new or changed, and remove the copy."""
        copy, home = os.open(self.folder, _FOLDER), os.open(self.home, _FOLDER)
        try:
            _write_back(copy, home, "", self.stamps, self.kept)
        finally:
            os.close(copy)
            os.close(home)
            folders.remove(self.folder)


def copy_for(path: str, *, owner: int, most_bytes: int, kept: frozenset[str] = frozenset()) -> Copy:
    """A copy of the folder *path* that belongs to the user *owner*, of at most *most_bytes*.

    What *kept* names does not come home.

    Raises:
        ConfinementError: the folder holds more.
    """
    folder = f"{folders.copies_of(os.getpid())}{os.urandom(8).hex()}"
    os.mkdir(folder, 0o700)
    os.chown(folder, owner, owner, follow_symlinks=False)  # the keeper can remove it
    copy = Copy(folder, path, most_bytes, kept)
    weakref.finalize(copy, folders.remove, folder)  # if nobody waits for the job
    source, target = os.open(path, _FOLDER), os.open(folder, _FOLDER)
    try:
        used = _copy_into(source, target, "", owner=owner, room=most_bytes, stamps=copy.stamps)
    finally:
        os.close(source)
        os.close(target)
    if used > most_bytes:
        folders.remove(folder)
        raise ConfinementError(
            f"{path} holds more than {most_bytes} bytes, which is the most that is copied for a job",
            layer="identity",
            remedy="Name a smaller folder, raise the limit disk_bytes, or run as an ordinary user.",
        )
    return copy


def _entries(folder: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in sorted(os.listdir(folder)):
        yield name, os.stat(name, dir_fd=folder, follow_symlinks=False)


def _copy_into(
    source: int, target: int, prefix: str, *, owner: int, room: int, stamps: dict[str, tuple[int, int]]
) -> int:
    """Copy what lies in *source*; returns the bytes used, and stops soon after they are more than *room*."""
    used = 0
    for name, status in _entries(source):
        if used > room:
            break
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            used += _copy_folder(source, target, name, prefix, owner=owner, room=room - used, stamps=stamps)
        elif stat.S_ISREG(mode) and status.st_size <= room - used:
            used += _copy_file(source, target, name, mode=stat.S_IMODE(mode) & 0o777, owner=owner)
            stamps[prefix + name] = _stamp(os.stat(name, dir_fd=target, follow_symlinks=False))
        elif stat.S_ISREG(mode):
            return room + 1
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, owner, owner, dir_fd=target, follow_symlinks=False)
    return used


def _copy_folder(
    source: int,
    target: int,
    name: str,
    prefix: str,
    *,
    owner: int,
    room: int,
    stamps: dict[str, tuple[int, int]],
) -> int:
    os.mkdir(name, 0o700, dir_fd=target)
    inner, copy = os.open(name, _FOLDER, dir_fd=source), os.open(name, _FOLDER, dir_fd=target)
    try:
        used = _copy_into(inner, copy, f"{prefix}{name}/", owner=owner, room=room, stamps=stamps)
        os.fchown(copy, owner, owner)
        return used
    finally:
        os.close(inner)
        os.close(copy)


def _copy_file(source: int, target: int, name: str, *, mode: int, owner: int, as_name: str = "") -> int:
    """Copy one regular file; returns its size. Raises OSError if it is none (any more)."""
    read = os.open(name, _READ, dir_fd=source)
    with os.fdopen(read, "rb") as reader:
        if not stat.S_ISREG(os.fstat(read).st_mode):
            return 0
        write = os.open(as_name or name, _CREATE, mode, dir_fd=target)
        with os.fdopen(write, "wb") as writer:
            shutil.copyfileobj(reader, writer)
            if owner >= 0:
                os.fchown(write, owner, owner)
            os.fchmod(write, mode)
            return writer.tell()


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_ctime_ns


def _write_back(
    copy: int, home: int, prefix: str, stamps: dict[str, tuple[int, int]], kept: frozenset[str]
) -> None:
    """What would have to replace a link, or a folder by a file, is left out."""
    for name, status in _entries(copy):
        if (name == _GIT and not prefix) or prefix + name in kept or prefix.count("/") > folders.MOST_LEVELS:
            continue
        if stat.S_ISDIR(status.st_mode):
            _write_back_folder(copy, home, name, prefix, stamps, kept)
        elif stat.S_ISREG(status.st_mode) and stamps.get(prefix + name) != _stamp(status):
            _write_back_file(copy, home, name, mode=stat.S_IMODE(status.st_mode) & 0o777)


def _write_back_file(copy: int, home: int, name: str, *, mode: int) -> None:
    part = f".{os.urandom(6).hex()}{_PART}"
    _copy_file(copy, home, name, mode=mode, owner=-1, as_name=part)
    if _kind(home, name) in (0, stat.S_IFREG):
        os.rename(part, name, src_dir_fd=home, dst_dir_fd=home)
    else:
        os.unlink(part, dir_fd=home)


def _write_back_folder(
    copy: int, home: int, name: str, prefix: str, stamps: dict[str, tuple[int, int]], kept: frozenset[str]
) -> None:
    if _kind(home, name) == 0:
        os.mkdir(name, 0o755, dir_fd=home)
    if _kind(home, name) != stat.S_IFDIR:
        return
    inner, outer = os.open(name, _FOLDER, dir_fd=copy), os.open(name, _FOLDER, dir_fd=home)
    try:
        _write_back(inner, outer, f"{prefix}{name}/", stamps, kept)
    finally:
        os.close(inner)
        os.close(outer)


def _kind(folder: int, name: str) -> int:
    """The type of what is there; 0 if nothing is."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0
