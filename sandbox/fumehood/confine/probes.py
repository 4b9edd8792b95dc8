"""Trying each layer by itself, in a child that then ends: started by `doctor`, in a process of its own.

Every probe is forked, so that what it changes is its own and ends with it; what it asks for has no effect on
the host. It needs none of the confining code to work: it is asked when that does not. A probe answers with an
errno, 0 where it worked; a signal that ended it is a number below 0.

May not import anything once root is given up: the interpreter's own files may be out of reach.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from fumehood.confine import identity, landlock, procs, root, syscalls
from fumehood.confine import probes_mounts as mounts
from fumehood.confine import probes_process as process
from fumehood.confine.child import errno_of
from fumehood.errors import ConfinementError

_NAMESPACES: Final = {
    "mount-ns": syscalls.CLONE_NEWNS,
    "pid-ns": syscalls.CLONE_NEWPID,
    "net-ns": syscalls.CLONE_NEWNET,
    "ipc-ns": syscalls.CLONE_NEWIPC,
    "uts-ns": syscalls.CLONE_NEWUTS,
    "cgroup-ns": syscalls.CLONE_NEWCGROUP,
}


def main(needed: list[str]) -> NoReturn:
    """Try everything and print one JSON object: `tried` and `numbers`."""
    tried = {"fork": errno_of(lambda: None)}
    if not tried["fork"]:
        tried |= _tried(needed)
    print(json.dumps({"tried": tried, "numbers": _numbers(tried)}))  # noqa: T201 — this is its answer
    sys.stdout.flush()
    os._exit(0)


def _tried(needed: list[str]) -> dict[str, int]:
    is_root = identity.is_privileged()
    ordinary = _ordinary() if is_root else -1
    tried = {"identity": errno_of(lambda: _give_up(ordinary, needed))} if is_root else {}
    for name, (needs, probe) in _PROBES.items():
        if all(tried.get(other) == 0 for other in needs):
            tried[name] = errno_of(partial(_as_ordinary, ordinary, probe))
    if is_root:
        tried["mapped-mounts"] = errno_of(lambda: mounts.mapped_mount(ordinary))
    return tried


def _ordinary() -> int:
    try:
        uids, gids = identity.current_maps()
        return identity.unprivileged_id(os.getpid(), uid_map=uids, gid_map=gids)
    except (ConfinementError, OSError):
        return -1


def _as_ordinary(ordinary: int, probe: Callable[[], object]) -> None:
    """*probe*, root given up first, if this is root."""
    if ordinary >= 0:
        os.setgroups([])
        os.setresgid(ordinary, ordinary, ordinary)
        os.setresuid(ordinary, ordinary, ordinary)
    probe()


def _give_up(ordinary: int, needed: list[str]) -> None:
    """As root: an id to become, becoming it, and the interpreter still in reach (covered, if need be)."""
    if ordinary < 0:
        raise OSError(errno.EPERM, "no unprivileged id")
    try:
        root.become_ordinary(needed)
    except ConfinementError as error:
        raise OSError(errno.EACCES, str(error)) from error


#: Each with the probes that must have worked before it.
_PROBES: Final[dict[str, tuple[tuple[str, ...], Callable[[], object]]]] = {
    "user-ns": ((), mounts.user_namespace),
    **{name: (("user-ns",), partial(mounts.user_namespace, flag)) for name, flag in _NAMESPACES.items()},
    "id-map": (("user-ns",), mounts.map_ids),
    "private-mounts": (("id-map", "mount-ns"), mounts.in_mounts),
    "tmpfs": (("private-mounts",), mounts.mount_memory),
    "open_tree": (("private-mounts",), mounts.clone_tree),
    "mount_setattr": (("open_tree",), mounts.set_attributes),
    "move_mount": (("open_tree", "tmpfs"), mounts.attach_tree),
    "pivot_root": (("tmpfs",), mounts.pivot),
    "proc": (("tmpfs", "pid-ns"), mounts.mount_proc),
    "host-name": (("uts-ns",), mounts.host_name),
    "bounding-set": (("id-map",), process.drop_bounding),
    "capset": ((), syscalls.clear_capabilities),
    "rlimits": ((), process.limits),
    "no-new-privs": ((), process.no_new_privs),
    "landlock": (("no-new-privs",), process.bounded_paths),
    "seccomp": (("no-new-privs",), process.load_filter),
    "observe": (("seccomp",), process.listen),
    "memfd": ((), process.memory_file),
    "pidfd": ((), lambda: os.close(os.pidfd_open(os.getpid()))),
    "close_range": ((), process.close_range),
    "children": ((), process.list_children),
    "execveat": ((), process.exec_by_number),
    "session": ((), process.run_in_a_session),
}


def _numbers(tried: dict[str, int]) -> dict[str, int]:
    hard = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    bounds = {}
    with contextlib.suppress(OSError):  # which the probe of limits has said
        bounds = {name: resource.getrlimit(kind)[1] for name, kind in hard.items()}
    abi = landlock.abi() if tried.get("landlock") == 0 else 0
    return {**bounds, "landlock": abi, "tasks": procs.count_of_user(os.getuid())}
