"""What a child does to itself: from a plan to a confined process, irreversibly.

Three processes, each forked from the last, none of which has ever held another job's data:

    outer   takes the namespaces and forks `inner`; ends at once
    inner   process 1 of the jail: builds the root, gives up what it can, forks `job`, reaps
    job     (module `inside`) Landlock and filter; takes its orders; the caller's program or source

The socket to the supervisor is closed in `job` before anything of the caller's runs.
Nothing here may import: the interpreter's own files may be out of reach by then.
"""

# between two system calls there is no room for path objects

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import Any, Final, NoReturn

from fumehood.confine import artifacts, folders, inside, procs, rootfs, syscalls, wire
from fumehood.confine.plan import INSIDE_ID, Plan
from fumehood.confine.setup import ENDED_BEFORE_RUNNING, Setup, last_words, layer, set_limit

_NAMESPACES: Final = (
    ("user-ns", syscalls.CLONE_NEWUSER),
    ("mount-ns", syscalls.CLONE_NEWNS),
    ("pid-ns", syscalls.CLONE_NEWPID),
    ("net-ns", syscalls.CLONE_NEWNET),
    ("ipc-ns", syscalls.CLONE_NEWIPC),
    ("uts-ns", syscalls.CLONE_NEWUTS),
    ("cgroup-ns", syscalls.CLONE_NEWCGROUP),
)


# --- outer -------------------------------------------------------------------------------------------


def outer(channel: socket.socket, go_fd: int) -> NoReturn:
    """Become the first process of a jail. Never returns."""
    with last_words(channel):
        setup = Setup.receive(channel)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # or /proc/self/uid_map belongs to root
        if setup.plan.tier == "full":
            _enter_namespaces()
        with layer("processes"):
            pid = os.fork()
        if not pid:
            inner(channel, setup, go_fd)
        wire.send(channel, {"pid": pid})
    os._exit(0)


def _enter_namespaces() -> None:
    """All at once; where that fails, one by one, to say which the host refuses."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(sum(flag for _, flag in _NAMESPACES))
    except OSError:
        for name, flag in _NAMESPACES:
            with layer(name):
                syscalls.unshare(flag)
    with layer("user-ns"):
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{INSIDE_ID} {uid} 1"),
            ("gid_map", f"{INSIDE_ID} {gid} 1"),
        ):
            _write(f"/proc/self/{name}", text)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# --- inner -------------------------------------------------------------------------------------------


def inner(channel: socket.socket, setup: Setup, go_fd: int) -> NoReturn:
    """Process 1 of the jail. Never returns."""
    with last_words(channel):
        _die_with_the_supervisor(channel, go_fd, setup.plan)
        wire.send(channel, {"ready": _apply(setup)})
        _serve_one(channel, setup)
    os._exit(0)


def _leave(plan: Plan) -> NoReturn:
    """The supervisor is gone: nobody else removes the private folder."""
    if plan.private:
        folders.remove(plan.private)
    os._exit(ENDED_BEFORE_RUNNING)


def _die_with_the_supervisor(channel: socket.socket, go_fd: int, plan: Plan) -> None:
    """In a pid namespace by signal, and everything inside dies along. Elsewhere a killed process would leave
    the job's own behind: there this one watches the channel, and kills them when the supervisor is gone.

    `outer` must have ended for good before: its end would otherwise count as the parent's death.
    """
    if os.read(go_fd, 1) != b"g":
        _leave(plan)
    os.close(go_fd)
    if plan.tier == "full":
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if _is_hung_up(channel, timeout_ms=0):
        _leave(plan)


def _is_hung_up(channel: socket.socket, *, timeout_ms: int) -> bool:
    poll = select.poll()
    poll.register(channel, 0)
    return bool(poll.poll(timeout_ms))


def _apply(setup: Setup) -> list[str]:
    plan = setup.plan
    active = ["identity", "supervisor"]
    if plan.tier == "full":
        with layer("rootfs"):
            rootfs.build(plan, setup.mounts)
        with layer("uts-ns"):
            socket.sethostname("jail")
        active += [*(name for name, _ in _NAMESPACES), "rootfs"]
    with layer("rlimits"):
        _limit(plan)
    active.append("rlimits")
    with layer("capabilities"):
        if plan.tier == "full":
            syscalls.drop_capabilities()
        syscalls.clear_capabilities()
    with layer("no-new-privs"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    return [*active, "capabilities", "no-new-privs"]


def _limit(plan: Plan) -> None:
    """Everything but what `job` sets itself: the number of open files, when its program is open, and the
    size of a file, which bounds also the memory files in which this process sends large messages."""
    more = 2 if plan.tier == "full" else procs.count_of_user(os.getuid())
    for name, value in plan.rlimits:
        if name not in ("NOFILE", "FSIZE"):
            set_limit(name, value + more if name == "NPROC" else value)


# --- one job -------------------------------------------------------------------------------------------


def _serve_one(channel: socket.socket, setup: Setup) -> None:
    """Fork the job, which gets ready and waits; pass it its orders; reap until it ends; say how."""
    orders, its = wire.pair()
    told_r, told_w = os.pipe()
    with layer("processes"):
        pid = os.fork()
    if not pid:
        orders.close()
        inside.become(channel, setup, its, told_w)
    its.close()
    os.close(told_w)
    message = wire.receive(channel)
    if message is None:
        _leave(setup.plan)
    fields, fds = message
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended: it has said why
        wire.send(orders, fields, fds=tuple(fds))
    for fd in fds:
        os.close(fd)
    status = _reaped(pid, channel, setup.plan)
    _say_how(channel, setup.plan, fields, status, os.read(told_r, 4))


def _say_how(channel: socket.socket, plan: Plan, fields: dict[str, Any], status: int, failure: bytes) -> None:
    """Nobody else is left: what lies in the folder does not move any more."""
    found = artifacts.collect(plan.workdir, fields["artifacts"])
    report = {"status": status, **({"not_started": int(failure)} if failure else {})}
    wire.send(channel, report, fds=(found,) if found >= 0 else ())


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
        poll.poll(500)  # and reap what was orphaned meanwhile
        if not isolated and _is_hung_up(channel, timeout_ms=0):
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
