"""The root file system of a jail: built from detached mounts below an empty memory file system, then entered.

Runs in the jail's first process, which has every right inside its own namespaces and none outside.
"""

# between two system calls there is no room for path objects
# ruff: noqa: PTH102, PTH103, PTH106, PTH112, PTH120, PTH211

from __future__ import annotations

import contextlib
import os
from typing import Final

from fumehood.confine import syscalls
from fumehood.confine.plan import Bind, Plan

_SAFE: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_DEVICE_SAFE: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
_NOEXEC: Final = syscalls.MOUNT_ATTR_NOEXEC
_RDONLY: Final = syscalls.MOUNT_ATTR_RDONLY


def build(plan: Plan, mounts: tuple[int, ...]) -> None:
    """Collect every mount as a detached tree, attach them below an empty memory file system, and move in."""
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    trees = [(bind.path, _tree(bind, mounts, plan)) for bind in plan.binds]
    devices = [(path, _device(path)) for path in plan.devices]
    base = "/tmp" if os.path.isdir("/tmp") else "/usr"  # noqa: S108 — only a place to mount over
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("jail", base, kind="tmpfs", flags=flags, data="mode=755,size=1m,nr_inodes=4096")
    _private_folders(base, plan)
    for path, tree in trees + devices:
        _attach(base, path, tree)
    for path, target in plan.links:
        os.symlink(target, base + path)
    _links_in_dev(base)
    _mount_proc(base)
    syscalls.mount_setattr(base, attrs=_RDONLY, recursive=False)
    os.chdir(base)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    os.chdir("/")


def _private_folders(base: str, plan: Plan) -> None:
    """All of one memory file system, so that its size and inodes bound them together."""
    store = base + "/store"
    os.mkdir(store)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | (0 if plan.exec else syscalls.MS_NOEXEC)
    options = f"mode=700,size={plan.disk_bytes},nr_inodes={plan.inodes}"
    syscalls.mount("private", store, kind="tmpfs", flags=flags, data=options)
    for number, path in enumerate(plan.folders):
        os.mkdir(f"{store}/{number}", 0o700)
        os.makedirs(base + path, exist_ok=True)
        syscalls.mount(f"{store}/{number}", base + path, flags=syscalls.MS_BIND)
    syscalls.umount(store)
    os.rmdir(store)


def _tree(bind: Bind, mounts: tuple[int, ...], plan: Plan) -> int:
    """Where no program may be started, none is mapped from what can be written either."""
    if bind.handle >= 0:
        return mounts[bind.handle]
    tree = syscalls.open_tree(bind.path, clone=True)
    status = os.fstat(tree)
    if bind.inode != (0, 0) and bind.inode != (status.st_dev, status.st_ino):
        raise OSError(f"{bind.path} is not the folder that was asked for: it was replaced meanwhile")
    kept = _RDONLY if not bind.writable else 0 if plan.exec else _NOEXEC
    syscalls.mount_setattr(tree, attrs=_SAFE | kept)
    return tree


def _device(path: str) -> int:
    tree = syscalls.open_tree(path, clone=True)
    syscalls.mount_setattr(tree, attrs=_DEVICE_SAFE)
    return tree


def _attach(base: str, path: str, tree: int) -> None:
    target = base + path
    if not os.path.lexists(target):
        if _is_folder(tree):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC | os.O_EXCL, 0o644))
    syscalls.move_mount(tree, target)
    os.close(tree)


def _is_folder(fd: int) -> bool:
    return os.fstat(fd).st_mode & 0o170000 == 0o040000


def _links_in_dev(base: str) -> None:
    os.makedirs(base + "/dev", exist_ok=True)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{base}/dev/{name}")


def _mount_proc(base: str) -> None:
    """Only the jail's own processes; none at all where the host masks its /proc and refuses a fresh one."""
    os.makedirs(base + "/proc", exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    with contextlib.suppress(PermissionError):
        syscalls.mount("proc", base + "/proc", kind="proc", flags=flags, data="subset=pid")
