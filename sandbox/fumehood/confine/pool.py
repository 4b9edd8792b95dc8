"""What the spawner holds ahead of the jobs: templates, one for each kind, and jails that wait for a job.

A jail is used once. How many wait is bounded, for each kind and together; what was used last stays longest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fumehood.confine import messages, wire

if TYPE_CHECKING:
    from fumehood.confine.jails import Jail, Setup

_MOST_OF_A_KIND: Final = 3


class Template:
    """A process that clones jobs' processes when asked, our end of its channel, and what it said.

    Its anchor is the first process of the pid namespace in which it and its jails are: they die with that.
    """

    def __init__(self, setup: Setup, zygote: socket.socket) -> None:
        self.setup = setup
        self.channel, its = wire.pair()
        self.channel.setblocking(False)  # one that takes no more requests is not waited for
        self.pid = self.anchor = 0
        self.pidfd = self.anchor_pidfd = -1
        self.error: dict[str, Any] | None = None
        self.is_dropped = self.is_ready = False
        self.heard_at = 0.0
        wire.send(self.channel, setup.fields)
        with its:
            messages.send_message(zygote, b"template", fds=(its.fileno(),))

    def hear(self) -> bool:
        """Take what it has said so far. False at its end."""
        while True:
            try:
                message = wire.receive(self.channel, flags=messages.NOW)
            except BlockingIOError:
                return True
            if message is None:
                return False
            fields, _ = message
            self.heard_at = time.monotonic()
            if "error" in fields:  # its last words; of two, only one may be there to hang up
                self.error = fields
                return False
            self.is_ready = self.is_ready or "ready" in fields
            if "pid" in fields:
                self.pid, self.anchor = fields["pid"], fields["anchor"]
                self.pidfd = os.pidfd_open(self.pid)
                self.anchor_pidfd = os.pidfd_open(self.anchor) if self.anchor else -1

    def hang_up(self) -> None:
        """From now on it can say nothing, and ends. What it has said already can still be heard."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """SIGKILL to both, and so to every process in there."""
        for pidfd in (self.pidfd, self.anchor_pidfd):
            if pidfd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def reap(self) -> bool:
        """Collect what has ended. True if nothing is left. The anchor ends after all others are collected."""
        self.pid, self.pidfd = _reaped(self.pid, self.pidfd)
        self.anchor, self.anchor_pidfd = _reaped(self.anchor, self.anchor_pidfd)
        return self.pidfd < 0 and self.anchor_pidfd < 0


def _reaped(pid: int, pidfd: int) -> tuple[int, int]:
    if pidfd < 0:
        return pid, pidfd
    with contextlib.suppress(ChildProcessError):
        if os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is None:
            return pid, pidfd
    os.close(pidfd)
    return 0, -1


@dataclass(slots=True)
class Kind:
    """What jails made ahead for one kind of job are made from, and those that wait."""

    setup: Setup
    plan: dict[str, Any] | None
    key: str
    waiting: list[Jail] = field(default_factory=list)

    @property
    def has_room(self) -> bool:
        """True if one more may wait."""
        return len(self.waiting) < _MOST_OF_A_KIND


class Pool:
    """The jails that wait, by kind; the kind used last is the last."""

    def __init__(self, *, most: int) -> None:
        self._kinds: dict[str, Kind] = {}
        self.most = most

    def take(self, key: str) -> Jail | None:
        """One that waits for a job of this kind; it is the caller's now."""
        kind = self._kinds.get(key)
        return kind.waiting.pop(0) if kind and kind.waiting else None

    def want(self, jail: Jail) -> Kind:
        """Jobs like that of *jail* come: from now on some jails are to wait for them."""
        kind = self._kinds.pop(jail.key, None) or Kind(jail.template.setup, jail.planned, jail.key)
        self._kinds[jail.key] = kind
        return kind

    def wanted(self) -> Kind | None:
        """The kind that one more is to be made of, when there is time."""
        if self._count() >= self.most:
            return None
        few = (kind for kind in reversed(self._kinds.values()) if kind.has_room)
        return next(few, None)

    def add(self, jail: Jail) -> list[Jail]:
        """*jail* waits. Those that have to make room, which are no longer in here."""
        self._kinds[jail.key].waiting.append(jail)
        displaced: list[Jail] = []
        for key in [key for key in self._kinds if key != jail.key]:
            if self._count() <= self.most:
                break
            displaced += self._kinds.pop(key).waiting
        return displaced

    def remove(self, jail: Jail) -> None:
        """It has ended. One that could not be made is not tried again until the next job of its kind."""
        kind = self._kinds.get(jail.key)
        if kind and jail in kind.waiting:
            kind.waiting.remove(jail)
            if jail.error or not jail.is_ready:
                del self._kinds[jail.key]

    def forget(self, template_key: str) -> list[Jail]:
        """Everything of this template; the jails are no longer in here."""
        gone = [key for key, kind in self._kinds.items() if kind.setup.key == template_key]
        return [jail for key in gone for jail in self._kinds.pop(key).waiting]

    def _count(self) -> int:
        return sum(len(kind.waiting) for kind in self._kinds.values())
