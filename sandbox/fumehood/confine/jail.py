"""What a job's process does to itself first, from a template's clone on: a user namespace of its own, limits,
no capabilities. What is left, and the job, are in `inside`.

Nothing here may import: the interpreter's own files may be out of reach by then.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from fumehood.confine import inside, landlock, procs, syscalls
from fumehood.confine.plan import INSIDE_ID, Plan
from fumehood.confine.setup import (
    ENDED_BEFORE_RUNNING,
    Setup,
    World,
    is_hung_up,
    last_words,
    layer,
    set_limit,
    write_map,
)


def become(
    channel: socket.socket, world: World, plan: Plan, rules: int, orders_fd: int, out_w: int, err_w: int
) -> NoReturn:
    """Never returns. *rules* are what Landlock will leave, prepared by the template."""
    with last_words(channel):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if world.own:
            with layer("user-ns"):
                for name in ("uid_map", "gid_map"):
                    write_map(world.host_proc, name, f"{INSIDE_ID} {INSIDE_ID} 1")
        for fd in (world.host_proc, *(fd for fd, _ in world.own)):
            os.close(fd)
        _give_up(plan)
        if is_hung_up(channel):  # before its end would have been a signal
            os._exit(ENDED_BEFORE_RUNNING)
    inside.become(channel, world, plan, rules, (orders_fd, out_w, err_w))


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


def landlock_rules(setup: Setup, plan: Plan) -> int:
    """What the job may see, change and execute, as a ruleset."""
    version = landlock.abi()
    if not version:
        raise OSError("this kernel has no Landlock, or it is not enabled")
    see = landlock.READ | (landlock.EXECUTE if plan.exec or not setup.is_source else 0)
    change = see | landlock.write_rights(version)
    if plan.tier == "full":
        shown: list[tuple[str | int, int]] = [("/", see)]
        shown += [(path, change) for path in plan.folders]
    else:
        shown = [(bind.path, see) for bind in plan.binds if not bind.writable]
    shown += [(bind.path, change) for bind in plan.binds if bind.writable]
    shown += [(path, landlock.READ_FILE | landlock.WRITE_FILE) for path in plan.devices]
    return landlock.prepare(shown, version=version)
