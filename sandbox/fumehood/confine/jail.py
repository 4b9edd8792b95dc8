"""What a job's process does to itself first, from a template's clone on: a user namespace of its own, limits,
no capabilities. What is left, and the job, are in `inside`.

Nothing here may import: the interpreter's own files may be out of reach by then.
"""

from __future__ import annotations

import os
import resource
import socket
from _signal import SIG_DFL, SIGCHLD, SIGKILL  # type: ignore[import-not-found]  # see `pyjob`
from _signal import signal as set_signal
from typing import NamedTuple, NoReturn

from fumehood.confine import inside, landlock, procs, rootfs, syscalls
from fumehood.confine.plan import INSIDE_ID, Plan
from fumehood.confine.setup import (
    ENDED_BEFORE_RUNNING,
    Setup,
    World,
    bounded,
    is_hung_up,
    last_words,
    layer,
    write_map,
)


def become(
    channel: socket.socket,
    world: World,
    plan: Plan,
    prepared: Prepared,
    orders_fd: int,
    out_w: int,
    err_w: int,
) -> NoReturn:
    """Never returns."""
    with last_words(channel):
        set_signal(SIGCHLD, SIG_DFL)
        if world.own:
            if world.has_proc:
                with layer("rootfs"):
                    rootfs.own_proc()
            with layer("user-ns"):
                syscalls.unshare(syscalls.CLONE_NEWUSER)
                for name in ("uid_map", "gid_map"):
                    write_map(world.host_proc, name, f"{INSIDE_ID} {INSIDE_ID} 1")
        for fd in (world.host_proc, *(fd for fd, _ in world.own)):
            os.close(fd)
        _give_up(plan, prepared.limits)
        if is_hung_up(channel):  # before its end would have been a signal
            os._exit(ENDED_BEFORE_RUNNING)
    inside.become(channel, world, plan, prepared.rules, (orders_fd, out_w, err_w))


class Prepared(NamedTuple):
    """What the template makes ready for one job: all but the last limits, and what Landlock will leave."""

    limits: tuple[tuple[int, tuple[int, int]], ...]
    rules: int


def prepare(setup: Setup, plan: Plan) -> Prepared:
    """In the template, for the clone that follows."""
    more = 1 if plan.tier == "full" else procs.count_of_user(os.getuid())
    with layer("rlimits"):
        early = [(name, value) for name, value in plan.rlimits if name not in ("NOFILE", "FSIZE")]
        wanted = [(name, value + more if name == "NPROC" else value) for name, value in early]
        limits = tuple(limit for name, value in wanted if (limit := bounded(name, value)))
    with layer("landlock"):
        return Prepared(limits, _landlock_rules(setup, plan))


def _give_up(plan: Plan, limits: tuple[tuple[int, tuple[int, int]], ...]) -> None:
    """Limits, but for what `inside` sets when the program is open; and every capability."""
    with layer("rlimits"):
        for kind, pair in limits:
            resource.setrlimit(kind, pair)
    with layer("capabilities"):
        if plan.tier == "full":
            syscalls.drop_capabilities()
        syscalls.clear_capabilities()
    with layer("no-new-privs"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if plan.tier != "full":  # what it orphans stays below it, and is counted and killed with it
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, SIGKILL)


def _landlock_rules(setup: Setup, plan: Plan) -> int:
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
