"""What a spawner that was started as root does first: keep the interpreter reachable, then stop being root.

An ordinary user cannot enter /root, where the interpreter or its packages may be. So, in a mount namespace
of its own, every folder that bars the way is covered by an empty one in which only the needed paths appear,
read-only. Nothing else of that folder is visible any more.
"""

# walks paths component by component
# ruff: noqa: PTH103, PTH116, PTH120

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Sequence
from typing import NamedTuple

from fumehood.confine import identity, syscalls
from fumehood.errors import ConfinementError

_REMEDY = "Run as an ordinary user, or use an interpreter that every user can reach (under /usr or /opt)."


class Standing(NamedTuple):
    """Who the spawner is now. `fds` holds, if it was root, a user namespace that maps root to it."""

    identity: int
    fds: tuple[int, ...] = ()


def become_ordinary(needed: Sequence[str]) -> Standing:
    """Give up root, if this is root, with every path in *needed* still readable.

    Raises:
        ConfinementError: root cannot be given up, or a needed path cannot be reached afterwards.
    """
    if not identity.is_privileged():
        return Standing(os.geteuid())
    uid_map, gid_map = identity.current_maps()
    ordinary = identity.unprivileged_id(os.getpid(), uid_map=uid_map, gid_map=gid_map)
    barred = {path: folder for path in needed if (folder := barring_folder(path))}
    mapping = _mapping_namespace(ordinary)
    if barred:
        _cover(barred, mapping)
    identity.give_up_root(ordinary)
    for path in needed:
        _require_reachable(path)
    return Standing(ordinary, (mapping,) if mapping >= 0 else ())


def barring_folder(path: str) -> str:
    """The outermost folder on the way to *path* (or it itself) that others may not enter; "" if none."""
    parts = os.path.realpath(path).split("/")
    for end in range(2, len(parts) + 1):
        folder = "/".join(parts[:end])
        status = os.stat(folder)
        if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_IXOTH:
            return folder
    return ""


def _require_reachable(path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise ConfinementError(
            f"{path} cannot be reached once root is given up: {error.strerror}",
            layer="identity",
            remedy=_REMEDY,
        ) from error


def _mapping_namespace(ordinary: int) -> int:
    """A user namespace in which root on disk is *ordinary*; -1 where the host has none.

    It is only ever used as the mapping of a mount (mount_setattr(2)); nothing runs in it.
    """
    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(ready_w, b"y")
            signal.pause()
        finally:
            os._exit(0)
    os.close(ready_w)
    try:
        return _mapped(pid, ordinary) if os.read(ready_r, 1) else -1
    finally:
        os.close(ready_r)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _mapped(pid: int, ordinary: int) -> int:
    try:
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, f"0 {ordinary} 1".encode())
            finally:
                os.close(fd)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _cover(barred: dict[str, str], mapping: int) -> None:
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        trees = {path: _tree(path, mapping) for path in barred}
        for folder in sorted(set(barred.values())):
            flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
            syscalls.mount("cover", folder, kind="tmpfs", flags=flags, data="mode=755,size=1m")
        for path in sorted(trees, key=len):
            _attach(path, trees[path])
    except OSError as error:
        path, folder = next(iter(barred.items()))
        raise ConfinementError(
            f"{path} lies in {folder}, which only root can enter, and cannot be shown elsewhere: {error}",
            layer="identity",
            remedy=_REMEDY,
        ) from error


def _tree(path: str, mapping: int) -> int:
    """A detached, read-only copy of the mounts at *path*; mapped to us where the file system can."""
    tree = syscalls.open_tree(os.path.realpath(path), clone=True)
    safe = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
    if mapping >= 0:
        try:
            syscalls.mount_setattr(tree, attrs=safe | syscalls.MOUNT_ATTR_IDMAP, userns_fd=mapping)
        except OSError:  # a file system without mapped mounts: others' permissions must do
            syscalls.mount_setattr(tree, attrs=safe)
    else:
        syscalls.mount_setattr(tree, attrs=safe)
    return tree


def _attach(path: str, tree: int) -> None:
    target = os.path.realpath(path)
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC))
    syscalls.move_mount(tree, target)
    os.close(tree)
