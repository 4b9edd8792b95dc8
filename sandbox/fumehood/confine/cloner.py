"""How a template makes one job's process after the other.

What jobs have in common is written down once, as steps of one sequence: to wait for a request, to make a jail
that sees no more than the template, to hand its process to the supervisor and to return to the template's own
namespaces. What else a job is to see is made by steps of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable
from functools import partial
from signal import SIGCHLD
from typing import Any, Final, NamedTuple, NoReturn

from fumehood.confine import inside, rootfs, syscalls, wire
from fumehood.confine.jail import Making
from fumehood.confine.letter import Ends, Letter
from fumehood.confine.plan import Plan
from fumehood.confine.program import PROGRAM, Start
from fumehood.confine.sequence import NEVER, Sequence, Stop
from fumehood.confine.setup import ENDED_BEFORE_RUNNING, Refused, World, give_up, last_words, layer

_REQUEST_BYTES: Final = 16
_CHILD_OF_THE_SUPERVISOR: Final = syscalls.CLONE_PARENT | SIGCHLD


class Cloner:
    """The template at work. *channel* brings requests, each with four descriptors of the job's process."""

    def __init__(self, channel: socket.socket, world: World) -> None:
        self._channel, self._world = channel.fileno(), world
        self._plan = world.setup.plan
        self._kinds = sum(kind for _, kind in world.own)
        self._calls = calls = Sequence()
        self._request = Letter(calls, size=_REQUEST_BYTES, descriptors=4)
        self._made = Letter(calls, body=wire.encode({"made": True}), descriptors=2 if world.own else 1)
        given = [self._request.descriptor(number) for number in range(4)]
        # a result takes eight bytes: that of pidfd_open comes last
        init, pidfd = map(self._made.descriptor, (0, 1) if world.own else (1, 0))
        self._ends = Ends(self._channel, self._made, *(*given, pidfd, init))
        self._length = self._request.receive(calls, self._channel, stop=Stop(-1, len(wire.ALIKE)))
        has_alike = bool(world.own) and not world.setup.keeps_host
        self._alike = Making(calls, world, self._plan, self._ends, joins=True) if has_alike else None
        self._like = self._alike
        if world.own and world.act and not has_alike:  # made once, for all that make their own
            self._like = Making(Sequence(), world, self._plan, self._ends, is_clone=True)
        self._return = len(calls.steps)
        self._made.send(calls, self._ends.channel, stop=NEVER)  # it may have been killed already
        calls.add("supervisor", "close", self._ends.pidfd)
        self._leave = len(calls.steps)
        for end in (*given, *([self._ends.init] if world.own else [])):
            calls.add("supervisor", "close", end)
        for fd, kind in world.own:
            calls.add("supervisor", "setns", fd, kind)
        self._job = inside.source_job(self._plan, self._ends, world.act) if world.act else None

    def serve(self) -> NoReturn:
        """One job's process whenever one is asked for; the end, when the supervisor is gone.

        What fails is said, and ends the template: it may be anywhere by then.
        """
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 — see above; the clone that this may be ends as well
            is_gone = isinstance(error, Refused) and error.errno == errno.ESRCH
            if self._world.own and (is_gone or _has_ended(self._ends.init.descriptor)):
                os._exit(ENDED_BEFORE_RUNNING)  # somebody killed it: no fault of the host's, and told as that
            its = self._ends.channel.descriptor
            give_up(self._channel if its < 0 else its, error)

    def _serve(self) -> NoReturn:
        """Each page that this writes has to be copied, since the last clone shares it: so it does little."""
        calls, alike = self._calls, self._alike
        make_ready, start_init = self._request.make_ready, self._start_init()
        make = calls.prepared(0, alike.last if alike else 1)
        cloned = calls.place(alike.clone) if alike else -1
        clone_result = alike.result() if alike else int
        confined, job = calls.place(alike.last) if alike else -1, self._job
        go_home, home = calls.prepared(alike.end if alike else self._return), calls.place(len(calls.steps))
        while True:
            make_ready()
            if start_init() < 0:
                self._say_why_not()
            place = make()
            if place == confined and job:
                job()
            if place != cloned or clone_result() < 0:
                self._otherwise(calls.step(place))
            elif (place := go_home()) != home:
                calls.step(place)

    def _otherwise(self, number: int) -> None:
        """This is the clone; or the job is to see more than the template; or this is the end."""
        alike = self._alike
        if alike and alike.is_clone:
            self._become(alike, self._plan, number)
        if not self._length.value:
            os._exit(0)
        if self._world.act:
            self._go_apart()
            return
        self._enter()
        wanted = self._wanted()
        making = self._making(wanted)
        if wanted.start:
            self._start(making, wanted.start)
            return
        number = making.run()
        if making.is_clone:
            self._become(making, wanted.plan, number)
        making.return_home()
        self._calls.run(self._return)

    def _go_apart(self) -> None:
        """The job's process itself hears what it is to see: a later one, which runs source in memory that is
        a copy of this one's, must not find that there."""
        self._enter()
        with layer("processes"):
            pid, pidfd = syscalls.clone(_CHILD_OF_THE_SUPERVISOR)
        if pid:
            self._ends.pidfd.set(pidfd)
            self._calls.run(self._return)
            return
        wanted = self._wanted()
        making = self._making(wanted, is_clone=True)
        self._become(making, wanted.plan, making.run())

    def _making(self, wanted: Wanted, *, is_clone: bool = False) -> Making:
        making = Making(
            Sequence(),
            self._world,
            wanted.plan,
            self._ends,
            is_clone=is_clone,
            like=self._like,
            start=wanted.start,
        )
        if self._world.own:  # elsewhere a limit depends on what else runs
            self._like = self._like or making
        return making

    def _start(self, making: Making, start: Start) -> None:
        """The job is a program that is known: its process is that, or has ended, when this goes on."""
        refusal = making.start()
        os.close(start.stdin)
        if refusal:
            self._say(refusal)
        making.return_home()
        self._calls.run(self._leave)

    def _say(self, refusal: Refused) -> None:
        fields: dict[str, Any] = {"error": f"{refusal}", "layer": refusal.layer}
        if refusal.layer == PROGRAM:
            fields = {"not_started": refusal.errno}
        sock = socket.socket(fileno=self._ends.channel.descriptor)
        with contextlib.suppress(OSError):
            wire.send(sock, fields)
        sock.detach()

    def _become(self, making: Making, plan: Plan, number: int) -> NoReturn:
        """The job's process, if it has come as far as it has to; the supervisor may be gone."""
        if number != making.last:
            os._exit(0)
        if not self._world.act:
            inside.become_program(plan, self._ends, making)
        if plan is not self._plan:
            os.environ.update(plan.env)
        inside.source_job(plan, self._ends, self._world.act)()

    def _start_init(self) -> Callable[[], int]:
        """Makes the namespaces that the next job will have to itself, before it is there.

        An idle first process holds them: what their beginning and end cost, no caller has to wait for.
        """
        if not self._kinds:
            return int
        flags = self._kinds | _CHILD_OF_THE_SUPERVISOR
        return partial(syscalls.start_idle_init, flags, self._ends.init.address)

    def _say_why_not(self) -> NoReturn:
        code = syscalls.last_error()
        name = "processes" if code == errno.EAGAIN else "pid-ns"
        raise Refused(name, f"clone: {os.strerror(code)}", code)

    def _enter(self) -> None:
        """Into the namespaces of the job, where there are some."""
        if self._world.own:
            with layer("pid-ns"):
                syscalls.setns(self._ends.init.descriptor, self._kinds)

    def _wanted(self) -> Wanted:
        """What the job is to see. In namespaces of its own it has a root of its own."""
        wanted, start = Wanted(self._plan, ()), None
        if self._length.value == len(wire.OWN):
            wanted, start = _received(self._ends.channel.descriptor)
        if self._world.own:
            with layer("rootfs"):
                rootfs.rebuild(wanted.plan, self._plan, wanted.mounts, has_proc=self._world.has_proc)
        return wanted._replace(start=_found(wanted.plan, *start)) if start else wanted


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


class Wanted(NamedTuple):
    """What a job sees: mounts are descriptors that the application has opened for it."""

    plan: Plan
    mounts: tuple[int, ...]
    start: Start | None = None


def _received(channel: int) -> tuple[Wanted, tuple[dict[str, Any], int] | None]:
    """That, and the job's orders with its standard input, where they came at once."""
    sock = socket.socket(fileno=channel)
    with last_words(sock):
        message = wire.receive_body(sock)
    if message is None:  # the supervisor is gone
        os._exit(0)
    sock.detach()
    body, fds = message
    head, orders = wire.parted(body)
    plan = Plan.from_wire(wire.decode(head)["plan"])
    if not orders:
        return Wanted(plan, tuple(fds)), None
    return Wanted(plan, tuple(fds[:-1])), (wire.decode(orders), fds[-1])


def _found(plan: Plan, orders: dict[str, Any], stdin: int) -> Start:
    env = {**dict(plan.env), **dict(orders["env"])}
    path = inside.found(orders["argv"][0], env, workdir=plan.workdir)
    return Start(
        path=os.fsencode(path or ""),
        argv=[os.fsencode(word) for word in orders["argv"]],
        env=[os.fsencode(f"{name}={value}") for name, value in env.items()],
        stdin=stdin,
        shows_folder=orders["artifacts"],
    )
