"""What a jail's first process does to itself: from a template's clone to a confined process, irreversibly.

    inner   process 1 of the jail: private folders, the job's mounts; gives up what it can, forks `job`, reaps
    job     (module `inside`) Landlock and filter; takes its orders; the caller's program or source

The socket to the supervisor is closed in `job` before anything of the caller's runs.
Nothing here may import: the interpreter's own files may be out of reach by then.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import Final, NoReturn

from fumehood.confine import artifacts, folders, inside, procs, rootfs, syscalls, wire
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

_LOOK_MS: Final = 500


def inner(channel: socket.socket, world: World, orders_fd: int, out_w: int, err_w: int) -> NoReturn:
    """Process 1 of the jail. Never returns."""
    with last_words(channel):
        isolated = world.setup.plan.tier == "full"
        if isolated:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # everything inside dies along
        message = wire.receive(channel)
        if message is None:  # before the signal was set
            os._exit(ENDED_BEFORE_RUNNING)
        fields, mounts = message
        plan = Plan.from_wire(fields["plan"]) if fields["plan"] else world.setup.plan
        if isolated:
            _own_world(plan, world, tuple(mounts))
        os.close(world.host_proc)
        _give_up(plan)
        wire.send(channel, {"ready": [*world.active, "rlimits", "capabilities", "no-new-privs"]})
        _serve_one(channel, world, plan, (orders_fd, out_w, err_w))
    os._exit(0)


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
    with layer("rlimits"):
        _limit(plan)
    with layer("capabilities"):
        if plan.tier == "full":
            syscalls.drop_capabilities()
        syscalls.clear_capabilities()
    with layer("no-new-privs"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)


def _limit(plan: Plan) -> None:
    """Everything but what `job` sets itself: the number of open files, when its program is open, and the
    size of a file, which bounds also the memory files in which this process sends large messages."""
    more = 2 if plan.tier == "full" else procs.count_of_user(os.getuid())
    for name, value in plan.rlimits:
        if name not in ("NOFILE", "FSIZE"):
            set_limit(name, value + more if name == "NPROC" else value)


# --- one job -------------------------------------------------------------------------------------------


def _serve_one(channel: socket.socket, world: World, plan: Plan, fds: tuple[int, int, int]) -> None:
    """Fork the job, which gets ready and waits for its orders; reap until it ends; say how."""
    told_r, told_w = os.pipe()
    with layer("processes"):
        pid = os.fork()
    if not pid:
        inside.become(channel, world, plan, fds, told_w)
    for fd in (*fds, told_w):
        os.close(fd)
    status = _reaped(pid, channel, plan)
    _say_how(channel, plan, status, os.read(told_r, 4))


def _say_how(channel: socket.socket, plan: Plan, status: int, failure: bytes) -> None:
    """Nobody else is left: what lies in the folder does not move any more."""
    found = artifacts.collect(plan.workdir, _wanted(channel))
    report = {"status": status, **({"not_started": int(failure)} if failure else {})}
    wire.send(channel, report, fds=(found,) if found >= 0 else ())


def _wanted(channel: socket.socket) -> list[str]:
    """The patterns of artifacts, which came before the job was given its orders, if there are any."""
    try:
        message = wire.receive(channel, flags=socket.MSG_DONTWAIT)
    except BlockingIOError:
        return []
    return list(message[0]["artifacts"]) if message else []


def _leave(plan: Plan) -> NoReturn:
    """The supervisor is gone: nobody else removes the private folder."""
    if plan.private:
        folders.remove(plan.private)
    os._exit(ENDED_BEFORE_RUNNING)


def _reaped(pid: int, channel: socket.socket, plan: Plan) -> int:
    """The job's wait status, once it and everything that it left behind are gone.

    In its own pid namespace all others die with this process, which dies with the supervisor. Elsewhere
    this process has to see that the supervisor is gone, and kill them itself.
    """
    isolated = plan.tier == "full"
    poll = select.poll()
    poll.register(os.pidfd_open(pid), select.POLLIN)
    if not isolated:
        poll.register(channel, 0)
    status: int | None = None
    while status is None:
        poll.poll(_LOOK_MS)  # and reap what was orphaned meanwhile
        if not isolated and is_hung_up(channel):
            _kill_the_rest()
            _leave(plan)
        status = _reap_ready(pid)
    if isolated:
        _kill_the_namespace()
    else:
        _kill_the_rest()
    return status


def _reap_ready(pid: int) -> int | None:
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if not ended:
                break
            found = status if ended == pid else found
    return found


def _kill_the_namespace() -> None:
    """Everything but this process, which is its first; then until nobody is left to reap."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _kill_the_rest() -> None:
    """Until nobody is left; a process that forks while it is killed is found in the next round."""
    while procs.children(os.getpid()):
        procs.kill_all(procs.descendants(os.getpid()))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
