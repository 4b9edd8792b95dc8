"""What a job's process does to itself first, from a template's clone on: private folders, the job's own
mounts, a user namespace, limits, no capabilities. What is left, and the job, are in `inside`.

Nothing here may import: the interpreter's own files may be out of reach by then.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import Final, NoReturn

from fumehood.confine import inside, procs, rootfs, syscalls, wire
from fumehood.confine.plan import INSIDE_ID, Plan
from fumehood.confine.setup import (
    ENDED_BEFORE_RUNNING,
    World,
    is_hung_up,
    last_words,
    layer,
    set_limit,
    write_map,
)

_OBSERVED: Final = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC


def namespaces(plan: Plan) -> int:
    """Those that each job has to itself, beside that of processes, as flags of clone(2).

    No two jobs share the network or IPC where the supervisor may let them make a socket.
    """
    return syscalls.CLONE_NEWNS | (_OBSERVED if plan.observe else 0)


def become(
    channel: socket.socket,
    world: World,
    init: int,
    orders_fd: int,
    out_w: int,
    err_w: int,
    *,
    has_own_plan: bool,
) -> NoReturn:
    """Never returns. With *has_own_plan* the supervisor has sent one, and the mounts that it names."""
    with last_words(channel):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        plan, mounts = _own_plan(channel) if has_own_plan else (world.setup.plan, ())
        if plan.tier == "full":
            syscalls.setns(init, namespaces(plan))
            _own_world(plan, world, mounts)
        os.close(world.host_proc)
        _give_up(plan)
        if is_hung_up(channel):  # before its end would have been a signal
            os._exit(ENDED_BEFORE_RUNNING)
        wire.send(channel, {"ready": [*world.active, "rlimits", "capabilities", "no-new-privs"]})
    inside.become(channel, world, plan, (orders_fd, out_w, err_w))


def _own_plan(channel: socket.socket) -> tuple[Plan, tuple[int, ...]]:
    message = wire.receive(channel)
    if message is None:  # the supervisor is gone
        os._exit(ENDED_BEFORE_RUNNING)
    fields, mounts = message
    return Plan.from_wire(fields["plan"]), tuple(mounts)


def _own_world(plan: Plan, world: World, mounts: tuple[int, ...]) -> None:
    """Private folders and the job's own mounts; then a user namespace that has no say over any of them."""
    base = world.setup.plan
    with layer("rootfs"):
        if plan is base:
            rootfs.add_private(plan, has_proc=world.has_proc)
        else:
            rootfs.rebuild(plan, base, mounts, has_proc=world.has_proc)
    with layer("user-ns"):
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        for name in ("uid_map", "gid_map"):
            write_map(world.host_proc, name, f"{INSIDE_ID} {INSIDE_ID} 1")


def _give_up(plan: Plan) -> None:
    """Limits, but for what `inside` sets when the program is open; and every capability."""
    more = 1 if plan.tier == "full" else procs.count_of_user(os.getuid())
    with layer("rlimits"):
        for name, value in plan.rlimits:
            if name not in ("NOFILE", "FSIZE"):
                set_limit(name, value + more if name == "NPROC" else value)
    with layer("capabilities"):
        if plan.tier == "full":
            syscalls.drop_capabilities()
        syscalls.clear_capabilities()
    with layer("no-new-privs"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if plan.tier != "full":  # what it orphans stays below it, and is counted and killed with it
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
