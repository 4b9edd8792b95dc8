"""The root file system of a jail: built from detached mounts below an empty memory file system, then entered.

`build` runs once in a template. Each clone of it then either adds private folders to its copy of that root,
or, where its job sees folders of the host, moves into a root of its own. Both run with every right inside
the jail's namespaces and none outside.
"""

# between two system calls there is no room for path objects
# ruff: noqa: PTH103, PTH112, PTH115, PTH120, PTH211

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Final

from fumehood.confine import syscalls
from fumehood.confine.plan import Bind, Plan
from fumehood.confine.sequence import NEVER, Sequence

_SAFE: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_DEVICE_SAFE: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
_RDONLY: Final = syscalls.MOUNT_ATTR_RDONLY
_NO_PROGRAMS: Final = _SAFE | syscalls.MOUNT_ATTR_NOEXEC
_MOUNT_SAFE: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV
_CWD: Final = syscalls.AT_FDCWD
_HOST: Final = "/.host"
_ROOT_OPTIONS: Final = "mode=755,size=1m,nr_inodes=4096"


def build(plan: Plan, *, keeps_host: bool) -> bool:
    """The root that all jails of *plan* start from; move in. True if a /proc could be mounted.

    With *keeps_host* the old root stays below /.host, until a clone has taken from it what its job may see.
    """
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)
    trees = [(bind.path, _bound(bind.path, bind, plan)) for bind in plan.binds]
    trees += [(path, _tree(path, _DEVICE_SAFE)) for path in plan.devices]
    base = "/tmp" if os.path.isdir("/tmp") else "/usr"  # noqa: S108 — only a place to mount over
    syscalls.mount("jail", base, kind="tmpfs", flags=_MOUNT_SAFE, data=_ROOT_OPTIONS)
    for path in ("/proc", *plan.folders, *((_HOST,) if keeps_host else ())):
        os.makedirs(base + path, exist_ok=True)
    for path, tree in trees:
        _attach(base, path, tree)
    for path, target in plan.links:
        os.symlink(target, base + path)
    _links_in_dev(base)
    has_proc = _mount_empty_proc(base + "/proc")
    syscalls.mount_setattr(base, attrs=_RDONLY, recursive=False)
    _enter(base, old=_HOST if keeps_host else "")
    return has_proc


def _enter(base: str, *, old: str = "") -> None:
    """Make *base* the root; the one before is gone, or lies below *old*."""
    os.chdir(base)
    syscalls.pivot_root(".", f".{old}" if old else ".")
    if not old:
        syscalls.umount(".")
    os.chdir("/")


def add_private(calls: Sequence, plan: Plan) -> None:
    """For a clone: private folders, and in them again what they would cover."""
    paths = [bind.path for bind in plan.binds if _is_in_any(bind.path, plan.folders)]
    flags = syscalls.OPEN_TREE_CLOEXEC | syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
    trees = {path: calls.add("rootfs", "open_tree", _CWD, path, flags) for path in paths}
    _private_folders(calls, "", plan)
    for path in sorted(paths):
        _write_down_place(calls, path)
        calls.add("rootfs", "move_mount", trees[path], "", _CWD, path, syscalls.MOVE_MOUNT_F_EMPTY_PATH)
        calls.add("rootfs", "close", trees[path])


def _write_down_place(calls: Sequence, path: str) -> None:
    """Something to mount over; where it is there already, that does."""
    folder = os.path.dirname(path)
    parents = [folder[:end] for end in range(1, len(folder) + 1) if folder[end : end + 1] in ("", "/")]
    for parent in parents:
        calls.add("rootfs", "mkdirat", _CWD, parent, 0o777, stop=NEVER)
    if os.path.isdir(path):
        calls.add("rootfs", "mkdirat", _CWD, path, 0o777, stop=NEVER)
    else:
        mode = os.O_CREAT | os.O_CLOEXEC | os.O_EXCL
        file = calls.add("rootfs", "openat", _CWD, path, mode, 0o644, stop=NEVER)
        calls.add("rootfs", "close", file, stop=NEVER)


def own_proc(calls: Sequence) -> None:
    """In a clone: a /proc of its own pid namespace, instead of the template's, in which nobody is.

    Of the jail's processes a job finds those there that it may look into: not the idle first one.
    """
    context = calls.add("rootfs", "fsopen", "proc", syscalls.FSOPEN_CLOEXEC)
    for key, value in (("subset", "pid"), ("hidepid", "2")):
        calls.add("rootfs", "fsconfig", context, syscalls.FSCONFIG_SET_STRING, key, value, 0)
    calls.add("rootfs", "fsconfig", context, syscalls.FSCONFIG_CMD_CREATE, None, None, 0)
    tree = calls.add("rootfs", "fsmount", context, syscalls.FSMOUNT_CLOEXEC, _NO_PROGRAMS)
    calls.add("rootfs", "close", context)
    calls.add("rootfs", "umount2", "/proc", syscalls.MNT_DETACH)
    calls.add("rootfs", "move_mount", tree, "", _CWD, "/proc", syscalls.MOVE_MOUNT_F_EMPTY_PATH)
    calls.add("rootfs", "close", tree)


def rebuild(plan: Plan, base_plan: Plan, mounts: tuple[int, ...], *, has_proc: bool) -> None:
    """For a clone whose job sees more of the host than the template does: a root of its own."""
    proc = syscalls.open_tree("/proc", clone=True) if has_proc else -1
    known = {(bind.path, bind.writable) for bind in base_plan.binds}
    more = [bind for bind in plan.binds if (bind.path, bind.writable) not in known]
    first, last = _taken_along(base_plan, more, without=("/proc", *plan.folders, *base_plan.folders))
    links = [(path, os.readlink(path)) for path, _ in base_plan.links]
    host = os.open(_HOST, os.O_PATH | os.O_CLOEXEC) if os.path.isdir(_HOST) else -1
    last += [(bind.path, _wanted_tree(bind, plan, mounts, host)) for bind in more]
    base = plan.folders[0]
    syscalls.mount("jail", base, kind="tmpfs", flags=_MOUNT_SAFE, data=_ROOT_OPTIONS)
    _attach_all(base, first)
    for path, target in links:
        os.symlink(target, base + path)
    for path in ("/proc", *plan.folders):
        os.makedirs(base + path, exist_ok=True)
    calls = Sequence()
    _private_folders(calls, base, plan)
    calls.run()
    _attach_below(base, last, writable=[bind.path for bind in plan.binds if bind.writable])
    if proc >= 0:
        syscalls.move_mount(proc, base + "/proc")
        os.close(proc)
    syscalls.mount_setattr(base, attrs=_RDONLY, recursive=False)
    _enter(base)
    if host >= 0:
        os.close(host)


def _taken_along(
    base_plan: Plan, more: list[Bind], *, without: tuple[str, ...]
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Copies of what the template shows: whole folders of its root; single ones where *more* comes between.

    The second list has those that one of *more* would cover.
    """
    shown = (*(bind.path for bind in base_plan.binds), *base_plan.devices)
    touched = {_top(bind.path) for bind in more} | {top for path in without if (top := _top(path)) == path}
    whole = {_top(path) for path in shown} - touched
    single = [path for path in shown if _top(path) in touched]
    later = (*without, *(bind.path for bind in more))
    covered = {path for path in single if _is_in_any(path, later)}
    first = [
        (path, syscalls.open_tree(path, clone=True)) for path in (*whole, *single) if path not in covered
    ]
    return first, [(path, syscalls.open_tree(path, clone=True)) for path in covered]


def _top(path: str) -> str:
    return "/" + path.split("/")[1]


def _is_in_any(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _attach_all(base: str, trees: Iterable[tuple[str, int]]) -> None:
    for path, tree in sorted(trees):  # parents before what lies inside them
        _attach(base, path, tree)


def _attach_below(base: str, trees: Iterable[tuple[str, int]], *, writable: list[str]) -> None:
    """As `_attach_all`, where an earlier job may have written: no link is followed, nothing is made there."""
    root = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for path, tree in sorted(trees):
        if not _is_in_any(path, writable):
            _make_place(base + path, tree)
        target = syscalls.open_path(root, path.lstrip("/"))
        syscalls.move_mount(tree, target)
        os.close(target)
        os.close(tree)
    os.close(root)


def _private_folders(calls: Sequence, base: str, plan: Plan) -> None:
    """All of one memory file system, so that its size and inodes bound them together.

    It is mounted where the first of them will be, which then covers it.
    """
    store = base + plan.folders[0]
    options = f"mode=700,size={plan.disk_bytes},nr_inodes={plan.inodes}"
    flags = _MOUNT_SAFE | (0 if plan.exec else syscalls.MS_NOEXEC)
    calls.add("rootfs", "mount", "private", store, "tmpfs", flags, options)
    for number in range(len(plan.folders)):
        calls.add("rootfs", "mkdirat", _CWD, f"{store}/{number}", 0o700)
    for number, path in reversed(list(enumerate(plan.folders))):
        calls.add("rootfs", "mount", f"{store}/{number}", base + path, None, syscalls.MS_BIND, None)


def _wanted_tree(bind: Bind, plan: Plan, mounts: tuple[int, ...], host: int) -> int:
    if bind.handle >= 0:
        return mounts[bind.handle]
    handle = syscalls.open_path(host, bind.path.lstrip("/"))
    try:
        return _bound(handle, bind, plan)
    finally:
        os.close(handle)


def _bound(where: str | int, bind: Bind, plan: Plan) -> int:
    """A copy of *bind*, if that is still what it was. Where no program may be started, none is mapped from
    what can be written either."""
    kept = _RDONLY if not bind.writable else 0 if plan.exec else syscalls.MOUNT_ATTR_NOEXEC
    tree = _tree(where, _SAFE | kept)
    status = os.fstat(tree)
    if bind.inode != (0, 0) and bind.inode != (status.st_dev, status.st_ino):
        raise OSError(f"{bind.path} is not the folder that was asked for: it was replaced meanwhile")
    return tree


def _tree(where: str | int, attrs: int) -> int:
    """A detached copy of the mounts at *where*."""
    tree = syscalls.open_tree(where, clone=True)
    syscalls.mount_setattr(tree, attrs=attrs, propagation=syscalls.MS_PRIVATE)
    return tree


def _attach(base: str, path: str, tree: int) -> None:
    _make_place(base + path, tree)
    syscalls.move_mount(tree, base + path)
    os.close(tree)


def _make_place(target: str, tree: int) -> None:
    if os.path.lexists(target):
        return
    if _is_folder(tree):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC | os.O_EXCL, 0o644))


def _is_folder(fd: int) -> bool:
    return os.fstat(fd).st_mode & 0o170000 == 0o040000


def _links_in_dev(base: str) -> None:
    os.makedirs(base + "/dev", exist_ok=True)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{base}/dev/{name}")


def _mount_empty_proc(target: str) -> bool:
    """A /proc of a process namespace in which nobody is: the kernel lets nobody mount one who sees none.

    False where the host masks its own, and so refuses a fresh one.
    """
    pid, pidfd = syscalls.clone(syscalls.CLONE_NEWPID | signal.SIGCHLD)
    if not pid:
        code = 1
        try:
            syscalls.mount("proc", target, kind="proc", flags=_MOUNT_SAFE | syscalls.MS_NOEXEC)
            code = 0
        finally:
            os._exit(code)
    os.close(pidfd)
    return os.waitpid(pid, 0)[1] == 0
