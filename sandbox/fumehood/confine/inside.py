"""The confined process itself, from its fork to the first line of the caller's own.

It puts on what is left (Landlock, the filter, the number of open files), takes its orders over a socket that
it then closes, and becomes the caller's program or runs the caller's source. Nothing here may import: the
interpreter's own files may be out of reach by then.
"""

# between two system calls there is no room for path objects
# ruff: noqa: PTH110, PTH113

from __future__ import annotations

import errno
import os
import resource
import socket
from typing import Any, Final, NoReturn

from fumehood.confine import landlock, pyjob, syscalls, wire
from fumehood.confine.plan import Plan
from fumehood.confine.setup import ENDED_BEFORE_RUNNING, Setup, World, last_words, layer, set_limit

_SOURCE_FD: Final = 3
_EXAMPLE: Final = b'{"v":%d,"argv":null,"source":"print(1 + 1)","args":[],"env":[]}' % wire.VERSION
_LAST_LAYERS: Final = ("rlimits", "capabilities", "no-new-privs", "landlock")


def become(
    channel: socket.socket, world: World, plan: Plan, rules: int, fds: tuple[int, int, int]
) -> NoReturn:
    """Put on what is left, wait for orders, carry them out. Never returns.

    *channel* leads to the supervisor; *fds* are the socket for orders, standard output and errors. A program
    that cannot be started says so on the socket for orders, which its start closes.
    """
    setup, orders = world.setup, socket.socket(fileno=fds[0])
    with last_words(channel):
        fields, (stdin, *source), program = _settle(channel, world, plan, rules, (orders, *fds[1:]))
        os.setsid()  # the supervisor knows by now who this is
        if fields["artifacts"]:
            _show_folder(channel, plan)
        os.close(channel.detach())
        os.dup2(stdin, 0)  # none of ours is below 4: those numbers are never free
        for fd in source:
            os.dup2(fd, _SOURCE_FD)
        kept = () if setup.is_source else (program, fds[0])
        syscalls.close_from(_SOURCE_FD + len(source), keep=tuple(fd for fd in kept if fd >= 0))
    try:
        if not setup.is_source:
            env = {**dict(plan.env), **dict(fields["env"])}
            _start_program(fields["argv"], env, program, orders)
        orders.detach()
        text = fields["source"]
        os._exit(pyjob.run_source(_SOURCE_FD if text is None else text, fields["args"], fields["env"]))
    finally:
        os._exit(ENDED_BEFORE_RUNNING)


def _settle(
    channel: socket.socket, world: World, plan: Plan, rules: int, ends: tuple[socket.socket, int, int]
) -> tuple[dict[str, Any], list[int], int]:
    """Everything but the streams. The one program must be open before the number of open files is limited."""
    setup, (orders, out_w, err_w) = world.setup, ends
    with layer("rootfs"):
        os.chdir(plan.workdir)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    if setup.is_source or plan is setup.plan:  # others' orders are there already
        _rehearse(setup, plan)
    os.dup2(out_w, 1)
    os.dup2(err_w, 2)
    if setup.is_source:
        pyjob.open_output()
    is_one_program = not setup.is_source and not plan.exec
    early = _take(orders) if is_one_program else None
    program = _opened_program(early[0], plan) if early else -1
    with layer("rlimits"):
        for name in ("NOFILE", "FSIZE"):
            set_limit(name, dict(plan.rlimits)[name])
    with layer("landlock"):
        landlock.put_on(rules)
    _filter(channel, world, plan)
    fields, fds = early or _take(orders)
    return fields, fds, program


def _show_folder(channel: socket.socket, plan: Plan) -> None:
    """The working folder to the supervisor, which reads artifacts from it when nobody is left in it."""
    folder = os.open(plan.workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    wire.send(channel, {"folder": True}, fds=(folder,))
    os.close(folder)


def _rehearse(setup: Setup, plan: Plan) -> None:
    """Go once through what the orders will set off, so that they wait for no page of memory."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(_EXAMPLE)
    _take(its)
    ours.close()
    its.close()
    if setup.is_source:
        pyjob.rehearse(dict(plan.env))


def _take(orders: socket.socket) -> tuple[dict[str, Any], list[int]]:
    message = wire.receive(orders)
    if message is None:
        os._exit(ENDED_BEFORE_RUNNING)
    return message


def _opened_program(fields: dict[str, Any], plan: Plan) -> int:
    """The one program that may be started, under the number that the filter lets through."""
    with layer("rlimits"):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard != resource.RLIM_INFINITY and hard <= syscalls.EXEC_ONCE_FD:
            raise OSError(f"the hard limit on open files is {hard}, needed is {syscalls.EXEC_ONCE_FD + 1}")
    path = _found(fields["argv"][0], {**dict(plan.env), **dict(fields["env"])})
    if path is None:
        return -1
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    os.dup2(fd, syscalls.EXEC_ONCE_FD, inheritable=False)
    os.close(fd)
    return syscalls.EXEC_ONCE_FD


def _filter(channel: socket.socket, world: World, plan: Plan) -> None:
    """The observer first: the main filter forbids seccomp(2). Its listener leaves before anything runs."""
    setup = world.setup
    with layer("observe"):
        listener = syscalls.load_filter(setup.observer, listener=True) if setup.observer else -1
    with layer("seccomp"):
        syscalls.load_filter(setup.program)
    active = [*world.active, *_LAST_LAYERS, *(["observe"] * plan.observe), "seccomp"]
    wire.send(channel, {"active": active}, fds=(listener,) if listener >= 0 else ())


def _found(name: str, env: dict[str, str]) -> str | None:
    """Where the program is, in the jail's own PATH."""
    if "/" in name:
        return name if os.path.exists(name) else None
    candidates = [f"{folder}/{name}" for folder in env.get("PATH", "").split(":") if folder]
    return next((c for c in candidates if os.path.isfile(c)), None)


def _start_program(argv: list[str], env: dict[str, str], program: int, orders: socket.socket) -> NoReturn:
    """exec; goes on only to say why not."""
    words = [os.fsencode(word) for word in argv]
    variables = {os.fsencode(k): os.fsencode(v) for k, v in env.items()}
    try:
        if program >= 0:
            syscalls.execveat(program, words, [k + b"=" + v for k, v in variables.items()])
        path = _found(argv[0], env)
        if path is None:
            raise FileNotFoundError(errno.ENOENT, "no such program")
        os.execve(path, words, variables)  # noqa: S606 — there is no shell
    except OSError as error:
        code = error.errno or errno.EIO
        text = f"fumehood: cannot start {argv[0]!r}: {os.strerror(code)}\n"
        os.write(2, text.encode(errors="backslashreplace"))
        wire.send(orders, {"not_started": code})
    os._exit(ENDED_BEFORE_RUNNING)
