"""What the processes of a jail share: the first message, the way to say what went wrong, and limits."""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import select
import socket
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from fumehood.confine import wire
from fumehood.confine.plan import Plan

ENDED_BEFORE_RUNNING: Final = 125


class Refused(Exception):
    """A layer could not be put on. `layer` names it, the text and the number are the kernel's."""

    def __init__(self, layer: str, text: str, errno: int = 0) -> None:
        self.layer = layer
        self.errno = errno
        super().__init__(text)


class layer:
    """What fails inside is the layer *name*."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Refused(self._name, str(error), error.errno or 0) from error


def give_up(channel: socket.socket | int, error: BaseException) -> NoReturn:
    """Say to the supervisor what went wrong, and end this process: nothing of the caller's runs."""
    name = error.layer if isinstance(error, Refused) else "jail"
    with contextlib.suppress(BaseException):
        sock = socket.socket(fileno=channel) if isinstance(channel, int) else channel
        wire.send(sock, {"error": f"{error}", "layer": name})
    os._exit(ENDED_BEFORE_RUNNING)


class last_words:
    """Whatever goes wrong is said to the supervisor, and ends this process: see `give_up`."""

    __slots__ = ("_channel",)

    def __init__(self, channel: socket.socket | int) -> None:
        self._channel = channel

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            give_up(self._channel, error)


class Setup(NamedTuple):
    """What the supervisor sends a template first: the plan that its jails share, and its filters.

    With `keeps_host` the host's files stay in reach of the clones, which show some of them to their jobs.
    """

    plan: Plan
    program: bytes
    observer: bytes
    farewell: bytes
    is_source: bool
    keeps_host: bool

    @classmethod
    def receive(cls, channel: socket.socket) -> Setup:
        """Take the message. Ends the process if the supervisor is gone."""
        message = wire.receive(channel)
        if message is None:
            os._exit(ENDED_BEFORE_RUNNING)
        fields, _ = message
        return cls(
            plan=Plan.from_wire(fields["plan"]),
            program=base64.b64decode(fields["program"]),
            observer=base64.b64decode(fields["observer"]),
            farewell=base64.b64decode(fields["farewell"]),
            is_source=fields["is_source"],
            keeps_host=fields["keeps_host"],
        )


#: What a clone calls that runs Python source: see `pyjob.make_ready`.
Act = tuple[Callable[[], None], Callable[[bytes], int]]


class World(NamedTuple):
    """What a job's process is cloned with.

    `host_proc` is a handle of the host's /proc, for the maps of users; `own` are handles of the template's
    own namespaces and their kinds, to return to; empty where it has none. `handlers` are the kernel's
    structures for signals whose handling a clone has otherwise than the template. `act` is there for source.
    """

    setup: Setup
    host_proc: int
    has_proc: bool
    active: tuple[str, ...]
    own: tuple[tuple[int, int], ...]
    handlers: tuple[tuple[int, bytes], ...]
    act: Act | None


def write_map(proc: int, name: str, text: str) -> None:
    """Write /proc/self/*name* of this process; *proc* is a handle of a /proc that knows it."""
    fd = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def is_hung_up(channel: socket.socket) -> bool:
    """True if the other side is gone."""
    poll = select.poll()
    poll.register(channel, 0)
    return bool(poll.poll(0))


def bounded(name: str, value: int) -> tuple[int, tuple[int, int]] | None:
    """RLIMIT_*name* with both its bounds: *value*, or what the hard one allows. Raises OSError."""
    kind = getattr(resource, f"RLIMIT_{name}", None)
    if kind is None:  # MSGQUEUE has no name in this version of Python
        return None
    hard = resource.getrlimit(kind)[1]
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    grace = 1 if name == "CPU" and most == value and hard != value else 0  # SIGXCPU first, SIGKILL after
    return kind, (most, most + grace)
