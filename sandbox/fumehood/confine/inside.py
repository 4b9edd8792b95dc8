"""The confined process itself, from its last layer to the first line of the caller's own.

It takes its orders over a socket that it then closes, and becomes the caller's program or runs the caller's
source. Nothing here may import: the interpreter's own files are out of reach by now.
"""

# between two system calls there is no room for path objects
# ruff: noqa: PTH110, PTH113, PTH118

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable
from typing import Any, Final, NoReturn

from fumehood.confine import pyjob, syscalls, wire
from fumehood.confine.jail import Making
from fumehood.confine.letter import Ends, Letter
from fumehood.confine.plan import Plan
from fumehood.confine.sequence import Sequence
from fumehood.confine.setup import ENDED_BEFORE_RUNNING, Act, give_up, last_words, layer

_SOURCE_FD: Final = 3
_MOST_SENT: Final = 3  # standard input, the source, and a message that is too long to be inline
#: Orders that are read once before those of the job come, so that the pages are there: see `pyjob`.
_EXAMPLE: Final = wire.encode(
    {"argv": None, "source": "1", "args": [], "env": [], "input": False, "artifacts": False}
)


def source_job(plan: Plan, ends: Ends, act: Act) -> Callable[[], NoReturn]:
    """What a clone calls that runs Python source. It takes its orders, leaves everything else behind, and
    never returns.

    Made in the template, once for all its clones; see `pyjob` for why everything is bound here.
    """
    rehearse, run = act
    calls = Sequence()
    letter = Letter(calls, size=wire.MOST_INLINE_BYTES, descriptors=_MOST_SENT)
    stdin, first = calls.cell(), calls.cell(_SOURCE_FD)
    for number, end in ((1, ends.out), (2, ends.err)):
        calls.add("supervisor", "dup3", end, number, 0)
    length = letter.receive(calls, ends.orders)
    taken = len(calls.steps)
    calls.add("supervisor", "setsid")  # it knows by now who this is
    calls.add("supervisor", "dup3", stdin, 0, 0)
    calls.add("supervisor", "close_range", first, 0xFFFF_FFFF, 0)
    begun, status = len(calls.steps), calls.cell()
    calls.add("supervisor", "exit_group", status, syscalls.FAREWELL)  # and whoever hears that knows it is us
    take, begin, leave = calls.prepared(0, taken), calls.prepared(taken, begun), calls.prepared(begun)
    taken_at, begun_at, read = calls.place(taken), calls.place(begun), letter.reader(length)
    put_stdin, put_status, scan, exit_ = stdin.writer(), status.writer(), wire.decoded, os._exit

    def orders() -> tuple[dict[str, Any], list[int], bool]:
        body, fds = read()
        if body[:1] == b"{":
            fields = scan(body.decode(), 0)[0]
        else:
            fields, fds = _long(body, fds)
        put_stdin(fds[0])
        is_plain = not (fields["artifacts"] or fields["args"] or fields["env"] or fields["input"])
        return fields, fds, is_plain

    letter.pretend(_EXAMPLE, length)

    def become() -> NoReturn:
        try:
            rehearse()
            orders()
            place = take()
            if place != taken_at:
                calls.step(place)
            fields, fds, is_plain = orders()
            if len(fds) > 1:
                os.dup2(fds[1], _SOURCE_FD)  # none of ours is below 4: those numbers are never free
                first.set(_SOURCE_FD + 1)
            if not is_plain and fields["artifacts"]:
                _show_folder(ends.channel.descriptor, plan)
            place = begin()
            if place != begun_at:
                calls.step(place)
        except BaseException as error:  # noqa: BLE001 — nothing of the job has run
            give_up(ends.channel.descriptor, error)
        code = ENDED_BEFORE_RUNNING
        try:
            if not is_plain:
                pyjob.set_up(fields["args"], fields["env"], has_input=fields["input"])
            text = fields["source"]
            code = run(pyjob.read(_SOURCE_FD) if text is None else text.encode())
            put_status(code)
            leave()
        finally:  # nobody hears it; or a handler of the job's came first
            exit_(code)

    return become


def _long(body: bytes, fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Orders that did not fit into a message; or there are none any more."""
    if not body:
        os._exit(ENDED_BEFORE_RUNNING)
    body, fds = wire.opened(body, fds)
    return wire.decode(body), fds


def become_program(plan: Plan, ends: Ends, making: Making) -> NoReturn:
    """Wait for what to start, and become that. Never returns.

    A program that cannot be started says so on the socket for orders, which its start closes.
    """
    channel = ends.channel.descriptor
    orders = socket.socket(fileno=ends.orders.descriptor)
    with last_words(channel):
        os.dup2(ends.out.descriptor, 1)
        os.dup2(ends.err.descriptor, 2)
        message = wire.receive(orders)
        if message is None:
            os._exit(ENDED_BEFORE_RUNNING)
        fields, (stdin,) = message
        env = {**dict(plan.env), **dict(fields["env"])}
        program = -1
        if making.opens_program:
            program = _opened_program(fields["argv"][0], env, workdir=plan.workdir)
            making.finish()
        os.setsid()  # the supervisor knows by now who this is
        if fields["artifacts"]:
            _show_folder(channel, plan)
        os.dup2(stdin, 0)
        kept = [fd for fd in (program, orders.fileno()) if fd >= 0]
        syscalls.close_from(_SOURCE_FD, keep=tuple(kept))
    try:
        _start_program(fields["argv"], env, program, orders)
    finally:
        os._exit(ENDED_BEFORE_RUNNING)


def _show_folder(channel: int, plan: Plan) -> None:
    """The working folder to the supervisor, which reads artifacts from it when nobody is left in it."""
    folder = os.open(plan.workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    sock = socket.socket(fileno=channel)
    wire.send(sock, {"folder": True}, fds=(folder,))
    sock.detach()
    os.close(folder)


def _opened_program(name: str, env: dict[str, str], *, workdir: str) -> int:
    """The one program that may be started, under the number that the filter lets through."""
    with layer("rlimits"):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard != resource.RLIM_INFINITY and hard <= syscalls.EXEC_ONCE_FD:
            raise OSError(f"the hard limit on open files is {hard}, needed is {syscalls.EXEC_ONCE_FD + 1}")
    path = found(name, env, workdir=workdir)
    if path is None:
        return -1
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    os.dup2(fd, syscalls.EXEC_ONCE_FD, inheritable=False)
    os.close(fd)
    return syscalls.EXEC_ONCE_FD


def found(name: str, env: dict[str, str], *, workdir: str) -> str | None:
    """Where the program is, in the jail's own PATH. What is relative begins in *workdir*, and stays so."""
    if "/" in name:
        return name if os.path.exists(os.path.join(workdir, name)) else None
    candidates = [f"{folder}/{name}" for folder in env.get("PATH", "").split(":") if folder]
    return next((c for c in candidates if os.path.isfile(os.path.join(workdir, c))), None)


def _start_program(argv: list[str], env: dict[str, str], program: int, orders: socket.socket) -> NoReturn:
    """exec; goes on only to say why not."""
    words = [os.fsencode(word) for word in argv]
    variables = {os.fsencode(k): os.fsencode(v) for k, v in env.items()}
    try:
        if program >= 0:
            syscalls.execveat(program, words, [k + b"=" + v for k, v in variables.items()])
        path = found(argv[0], env, workdir=".")
        if path is None:
            raise FileNotFoundError(errno.ENOENT, "no such program")
        os.execve(path, words, variables)  # noqa: S606 — there is no shell
    except OSError as error:
        code = error.errno or errno.EIO
        text = f"fumehood: cannot start {argv[0]!r}: {os.strerror(code)}\n"
        os.write(2, text.encode(errors="backslashreplace"))
        wire.send(orders, {"not_started": code})
    os._exit(ENDED_BEFORE_RUNNING)
