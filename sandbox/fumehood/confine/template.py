"""A process that holds a jail's world made ready, and clones a job's process from it for each job.

What jobs of one kind share is done once, here: namespaces, the root file system, the loaded modules. A clone
gets process and mount namespaces, private folders and a user namespace of its own, which has no say over
any of the others. No job ever runs here, so no job's memory ever holds another job's data.

    outer     takes the namespaces and forks the two below; ends at once
    anchor    process 1 of the template's pid namespace: when it dies, all jobs of this kind die
    template  builds the root, loads modules, and clones `job` (module `jail`) whenever it is asked

Each job's own pid namespace has an idle first process that only the supervisor kills: see
`syscalls.start_idle_init`. The jobs themselves are the supervisor's children, which collects them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import struct
import sys
import threading
from typing import Final, NoReturn

from fumehood.confine import pyjob, rootfs, syscalls, wire
from fumehood.confine.cloner import Cloner
from fumehood.confine.plan import INSIDE_ID, Plan
from fumehood.confine.setup import Setup, World, is_hung_up, last_words, layer, write_map

_NAMESPACES: Final = (
    ("user-ns", syscalls.CLONE_NEWUSER),
    ("mount-ns", syscalls.CLONE_NEWNS),
    ("pid-ns", syscalls.CLONE_NEWPID),
    ("net-ns", syscalls.CLONE_NEWNET),
    ("ipc-ns", syscalls.CLONE_NEWIPC),
    ("uts-ns", syscalls.CLONE_NEWUTS),
    ("cgroup-ns", syscalls.CLONE_NEWCGROUP),
)
#: No two jobs share these where the supervisor may let them make a socket.
_OBSERVED: Final = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC
_NAMES: Final = {"pid": syscalls.CLONE_NEWPID, "mnt": syscalls.CLONE_NEWNS}
_NAMES_OBSERVED: Final = {"net": syscalls.CLONE_NEWNET, "ipc": syscalls.CLONE_NEWIPC}
_HANDLED: Final = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)


def outer(channel: socket.socket, go_fd: int) -> NoReturn:
    """Take the namespaces, become the template. Never returns."""
    with last_words(channel):
        setup = Setup.receive(channel)
        host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # or /proc/self/uid_map belongs to root
        is_isolated = setup.plan.tier == "full"
        if is_isolated:
            _enter_namespaces(host_proc)
        with layer("processes"):
            anchor = os.fork() if is_isolated else 0
            if is_isolated and not anchor:
                _anchor(channel, go_fd, host_proc)
            pid = _fork_beside(anchor)
        if not pid:
            _template(channel, setup, host_proc, go_fd)
        wire.send(channel, {"pid": pid, "anchor": anchor})
    os._exit(0)


def _fork_beside(anchor: int) -> int:
    """As os.fork; where that fails, nobody knows *anchor* yet, who would wait for ever."""
    try:
        return os.fork()
    except OSError:
        if anchor:
            os.kill(anchor, signal.SIGKILL)
            os.waitpid(anchor, 0)
        raise


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


def _wait_for_go(channel: socket.socket, go_fd: int) -> None:
    """`outer` must have ended for good before: its end would otherwise count as the supervisor's."""
    if os.read(go_fd, 1) != b"g":
        os._exit(0)
    os.close(go_fd)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if is_hung_up(channel):
        os._exit(0)


def _anchor(channel: socket.socket, go_fd: int, host_proc: int) -> NoReturn:
    with last_words(channel):
        _wait_for_go(channel, go_fd)
        syscalls.set_name("fumehood-anchor")
        os.close(host_proc)
        os.close(channel.detach())
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            signal.pause()


def _template(channel: socket.socket, setup: Setup, host_proc: int, go_fd: int) -> NoReturn:
    with last_words(channel):
        _wait_for_go(channel, go_fd)
        syscalls.set_name("fumehood-jail")
        world = _made_ready(setup, host_proc)
        wire.send(channel, {"ready": True})
        cloner = Cloner(channel, world)
        gc.collect()
        gc.freeze()  # a collection in a clone would otherwise write to, and so copy, every page of this
        cloner.serve()


def _made_ready(setup: Setup, host_proc: int) -> World:
    plan, has_proc = setup.plan, False
    own: tuple[tuple[int, int], ...] = ()
    active: tuple[str, ...] = ("identity", "supervisor")
    if plan.tier == "full":
        with layer("rootfs"):
            has_proc = rootfs.build(plan, keeps_host=setup.keeps_host)
        active = (*active, *(name for name, _ in _NAMESPACES), "rootfs")
        names = {**_NAMES, **(_NAMES_OBSERVED if plan.observe else {})}
        own = tuple((_namespace(host_proc, name), kind) for name, kind in names.items())
    _load_modules(plan, is_source=setup.is_source)
    act = pyjob.make_ready() if setup.is_source else None
    handlers = _put_off_handlers(is_source=setup.is_source)
    return World(setup, host_proc, has_proc, active, own, handlers, act)


def _put_off_handlers(*, is_source: bool) -> tuple[tuple[int, bytes], ...]:
    """No signal has a handler here, whatever Python thinks: see `syscalls.start_idle_init`. What its clones
    are to have instead."""
    kept = [(number, syscalls.sigaction(number)) for number in _HANDLED] if is_source else []
    for number in _HANDLED:
        syscalls.sigaction(number, _action(signal.SIG_DFL))
    syscalls.sigaction(signal.SIGCHLD, _action(signal.SIG_IGN))
    return (*kept, (signal.SIGCHLD, _action(signal.SIG_DFL)))


def _action(handler: signal.Handlers) -> bytes:
    return struct.pack("=QQQQ", handler, 0, 0, 0)


def _namespace(host_proc: int, name: str) -> int:
    return os.open(f"self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=host_proc)


def _load_modules(plan: Plan, *, is_source: bool) -> None:
    """What the profile wants loaded; a module that is not there, or fails, is left to the job."""
    pyjob.forget_ourselves()
    sys.path[:] = plan.python_path
    os.environ.clear()
    os.environ.update(plan.env)
    for name in plan.imports if is_source else ():
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)
    for stream in (sys.stdout, sys.stderr):  # what a module has said is no job's output
        with contextlib.suppress(Exception):
            stream.flush()
    with layer("profile"):
        if threading.active_count() > 1:
            raise OSError("a module of the profile's `imports` starts a thread when it is loaded")
