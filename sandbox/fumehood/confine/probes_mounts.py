"""Probes of namespaces and mounts, each in namespaces of its own: nothing of it reaches the host's."""

# runs before and below pathlib
# ruff: noqa: PTH123

from __future__ import annotations

import os
import socket

from fumehood.confine import root, syscalls
from fumehood.confine.child import errno_of, require


def user_namespace(more: int = 0) -> None:
    syscalls.unshare(syscalls.CLONE_NEWUSER | more)


def map_ids() -> None:
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # or /proc/self/uid_map belongs to root
    uid, gid = os.geteuid(), os.getegid()
    user_namespace()
    for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def in_mounts() -> None:
    """Own mount namespace, apart from the host's, with an empty memory file system over /tmp."""
    map_ids()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)


def _over() -> str:
    place = "/tmp" if os.path.isdir("/tmp") else "/usr"  # noqa: S108, PTH112 — only mounted over
    syscalls.mount("probe", place, kind="tmpfs", flags=syscalls.MS_NOSUID, data="size=1m,nr_inodes=64")
    return place


def mount_memory() -> None:
    in_mounts()
    _over()


def clone_tree() -> None:
    in_mounts()
    syscalls.open_tree("/usr", clone=True)


def set_attributes() -> None:
    in_mounts()
    tree = syscalls.open_tree("/usr", clone=True)
    syscalls.mount_setattr(tree, attrs=syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID)


def attach_tree() -> None:
    in_mounts()
    place = _over() + "/usr"
    tree = syscalls.open_tree("/usr", clone=True)
    os.mkdir(place)  # noqa: PTH102
    syscalls.move_mount(tree, place)


def pivot() -> None:
    in_mounts()
    os.chdir(_over())
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    require(not os.path.exists("/usr"))  # noqa: PTH110


def mount_proc() -> None:
    """A fresh /proc shows only the new namespace's processes; needs a process inside of it."""
    in_mounts()
    syscalls.unshare(syscalls.CLONE_NEWPID)
    code = errno_of(lambda: syscalls.mount("proc", _over(), kind="proc", data="subset=pid"))
    if code:
        raise OSError(abs(code), "proc")


def host_name() -> None:
    user_namespace(syscalls.CLONE_NEWUTS)
    socket.sethostname("probe")


def mapped_mount(ordinary: int) -> None:
    """As root: a mount of the folder for temporary files in which root is somebody else."""
    mapping = root._mapping_namespace(ordinary)
    require(mapping >= 0)
    tree = syscalls.open_tree("/tmp", clone=True)  # noqa: S108 — detached, and never attached
    syscalls.mount_setattr(tree, attrs=syscalls.MOUNT_ATTR_IDMAP, userns_fd=mapping)
