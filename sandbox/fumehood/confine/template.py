"""A process that holds a jail's world made ready, and clones a jail from it for each job.

What jobs of one kind share is done once, here: namespaces, the root file system, the loaded modules. A clone
gets process and mount namespaces, private folders and a user namespace of its own. No job ever runs here, so
no jail's memory ever holds another job's data.

    outer     takes the namespaces and forks `template`; ends at once
    template  builds the root, loads modules, and clones `inner` (module `jail`) whenever it is asked
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import threading
from typing import Final, NoReturn

from fumehood.confine import jail, rootfs, syscalls, wire
from fumehood.confine.plan import INSIDE_ID, Plan
from fumehood.confine.setup import Setup, World, is_hung_up, last_words, layer, write_map

_NAMESPACES: Final = (
    ("user-ns", syscalls.CLONE_NEWUSER),
    ("mount-ns", syscalls.CLONE_NEWNS),
    ("net-ns", syscalls.CLONE_NEWNET),
    ("ipc-ns", syscalls.CLONE_NEWIPC),
    ("uts-ns", syscalls.CLONE_NEWUTS),
    ("cgroup-ns", syscalls.CLONE_NEWCGROUP),
)
_OF_ITS_OWN: Final = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS
#: No other job shares these where the supervisor may let it make a socket.
_OBSERVED: Final = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC
_ACTIVE: Final[tuple[str, ...]] = ("identity", "supervisor")


def outer(channel: socket.socket, go_fd: int) -> NoReturn:
    """Take the namespaces, become the template. Never returns."""
    with last_words(channel):
        setup = Setup.receive(channel)
        host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # or /proc/self/uid_map belongs to root
        if setup.plan.tier == "full":
            _enter_namespaces(host_proc)
        with layer("processes"):
            pid = os.fork()
        if not pid:
            _template(channel, setup, host_proc, go_fd)
        wire.send(channel, {"pid": pid})
    os._exit(0)


def _enter_namespaces(host_proc: int) -> None:
    """All at once; where that fails, one by one, to say which the host refuses."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(sum(flag for _, flag in _NAMESPACES))
    except OSError:
        for name, flag in _NAMESPACES:
            with layer(name):
                syscalls.unshare(flag)
    with layer("user-ns"):
        write_map(host_proc, "setgroups", "deny")
        write_map(host_proc, "uid_map", f"{INSIDE_ID} {uid} 1")
        write_map(host_proc, "gid_map", f"{INSIDE_ID} {gid} 1")
    with layer("uts-ns"):
        socket.sethostname("jail")


def _template(channel: socket.socket, setup: Setup, host_proc: int, go_fd: int) -> NoReturn:
    """`outer` must have ended for good before: its end would otherwise count as the supervisor's."""
    with last_words(channel):
        if os.read(go_fd, 1) != b"g":
            os._exit(0)
        os.close(go_fd)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if is_hung_up(channel):
            os._exit(0)
        syscalls.set_name("fumehood-jail")
        world, flags = _made_ready(setup, host_proc)
        wire.send(channel, {"ready": True})
        while True:
            _clone(channel, world, flags | syscalls.CLONE_PARENT | signal.SIGCHLD)


def _made_ready(setup: Setup, host_proc: int) -> tuple[World, int]:
    """The world, and the namespaces that each clone gets."""
    plan, active, flags, has_proc = setup.plan, _ACTIVE, 0, False
    if plan.tier == "full":
        with layer("rootfs"):
            has_proc = rootfs.build(plan, keeps_host=setup.keeps_host)
        active = (*_ACTIVE, *(name for name, _ in _NAMESPACES), "pid-ns", "rootfs")
        flags = _OF_ITS_OWN | (_OBSERVED if plan.observe else 0)
    _load_modules(plan)
    gc.collect()
    gc.freeze()  # a collection in a clone would otherwise write to, and so copy, every page of this
    return World(setup, host_proc, has_proc, active), flags


def _load_modules(plan: Plan) -> None:
    """What the profile wants loaded; a module that is not there, or fails, is left to the job."""
    sys.path[:] = plan.python_path
    os.environ.update(plan.env)
    for name in plan.imports:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)
    with layer("profile"):
        if threading.active_count() > 1:
            raise OSError("a module of the profile's `imports` starts a thread when it is loaded")


def _clone(channel: socket.socket, world: World, flags: int) -> None:
    """One jail, if asked; the end, if the supervisor is gone."""
    body, fds = syscalls.receive_message(channel)
    if not body:
        os._exit(0)
    its_channel = socket.socket(fileno=fds[0])
    try:
        pid = syscalls.clone(flags)
    except OSError as error:
        wire.send(its_channel, {"error": str(error), "layer": "processes"})
    else:
        if not pid:
            os.close(channel.detach())
            jail.inner(its_channel, world, *fds[1:])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # killed already
            wire.send(its_channel, {"pid": pid})
    its_channel.close()
    for fd in fds[1:]:
        os.close(fd)
