"""A job's private folder on the host's own disk, for the tier that has no memory file systems.

What lies in it is the job's: trees deeper than any path may be long, folders that their owner cannot read.
Every step is by descriptor and follows no link.
"""

# runs in the spawner and in jails, which load no pathlib
# ruff: noqa: PTH101, PTH102, PTH106, PTH208

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final

#: Deeper trees are neither measured nor copied: a job that makes one is over its limit.
MOST_LEVELS: Final = 100
#: How the names of the folders begin that this process, or one that it forked, makes.
PREFIX: Final = f"/tmp/fumehood-{os.urandom(8).hex()}"  # noqa: S108 — made here, or an error
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make() -> str:
    """A new folder that only this user can enter."""
    path = f"{PREFIX}-{os.urandom(4).hex()}"
    os.mkdir(path, 0o700)
    return path


def copies_of(pid: int) -> str:
    """How the names of folders begin that the application *pid* has copied for jobs."""
    return f"/tmp/fumehood-{pid}-"  # noqa: S108 — as above


def remove_all(*, beginning: str = PREFIX) -> None:
    """Remove every folder that this process, or one that it forked, has made; or others of ours."""
    place, _, prefix = beginning.rpartition("/")
    for name in os.listdir(place):
        if name.startswith(prefix):
            with contextlib.suppress(OSError):  # not ours, whatever it is called
                remove(f"{place}/{name}")


def remove(path: str) -> None:
    """Remove *path* and what is in it. Nobody may be at work in it any more; what is gone is no error."""
    with contextlib.suppress(FileNotFoundError):
        top = os.open(path, _FOLDER)
        try:
            _empty(top)
        finally:
            os.close(top)
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _empty(top: int) -> None:
    """Each folder's own folders are moved up to *top* before it goes, so that no depth is too great. One that
    its owner may not write cannot be moved: it is made writable first."""
    while names := os.listdir(top):
        for name in names:
            if not _is_folder(name, top):
                os.unlink(name, dir_fd=top)
                continue
            inner = _opened(name, top)
            try:
                for below in os.listdir(inner):
                    if _is_folder(below, inner):
                        os.close(_opened(below, inner))
                    os.rename(below, os.urandom(16).hex(), src_dir_fd=inner, dst_dir_fd=top)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _is_folder(name: str, where: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=where, follow_symlinks=False).st_mode)


def _opened(name: str, where: int) -> int:
    """The folder *name*, made readable for its owner, which we are, if it was not. Raises OSError."""
    with contextlib.suppress(PermissionError):
        return _private(os.open(name, _FOLDER, dir_fd=where))
    handle = os.open(name, _HANDLE, dir_fd=where)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(f"/proc/self/fd/{handle}", _FOLDER & ~os.O_NOFOLLOW)
    finally:
        os.close(handle)


def _private(folder: int) -> int:
    """*folder*, in which its owner may do everything."""
    if os.fstat(folder).st_mode & 0o700 != 0o700:
        os.fchmod(folder, 0o700)
    return folder


def use(folder: str, *, most: int) -> tuple[int, int]:
    """Bytes and entries below *folder*. A count over *most*: too many, too deep, or out of our reach."""
    try:
        return _use(os.open(folder, _FOLDER), most=most, levels=MOST_LEVELS)
    except FileNotFoundError:
        return 0, 0
    except OSError:
        return 0, most + 1


def _use(folder: int, *, most: int, levels: int) -> tuple[int, int]:
    """As `use`; closes *folder*."""
    size = count = 0
    try:
        for name in os.listdir(folder):
            count += 1
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                size += status.st_blocks * 512
                if stat.S_ISDIR(status.st_mode):
                    below = _use_below(name, folder, most=most - count, levels=levels)
                    size, count = size + below[0], count + below[1]
            if count > most:
                break
    finally:
        os.close(folder)
    return size, count


def _use_below(name: str, folder: int, *, most: int, levels: int) -> tuple[int, int]:
    if not levels:
        return 0, most + 1
    return _use(_opened(name, folder), most=most, levels=levels - 1)
