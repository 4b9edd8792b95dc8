"""The spawner's record of a jail: a process tree made ready, and what it said."""

# inside the spawner, which loads no pathlib

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fumehood.confine import folders, messages, procs, sequence, wire
from fumehood.confine.listener import Farewell
from fumehood.confine.observe import Observer
from fumehood.confine.setup import ENDED_BEFORE_RUNNING

if TYPE_CHECKING:
    from fumehood.confine.jobs import Job
    from fumehood.confine.pool import Template

_MOST_SETUP_BYTES: Final = 8 << 20


@dataclass(slots=True)
class Keep:
    """The reading end of one output stream, and what is kept of it: *cap* bytes at most."""

    fd: int
    cap: int
    kept: bytearray = field(default_factory=bytearray)
    told: int = 0  # how much of that the caller has been given already
    is_over: bool = False
    has_ended: bool = False

    def read(self, size: int) -> bool:
        """Take what is there. False at the end of the stream, or where nothing is there: a job can read its
        own output."""
        try:
            part = os.read(self.fd, size)
        except BlockingIOError:
            return False
        self.has_ended = not part
        room = self.cap - len(self.kept)
        self.kept += part[:room]
        self.is_over = self.is_over or len(part) > room
        return bool(part)

    def close(self) -> None:
        """Close once."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


@dataclass(slots=True)
class Setup:
    """What a template is made from: what its jails share. `fields` go to the template as they are."""

    key: str
    fields: dict[str, Any]
    calls: dict[int, str]

    @classmethod
    def read(cls, fd: int, key: str) -> Setup:
        """From the memory file that the caller sent."""
        fields = json.loads(messages.read_memfd(fd, limit_bytes=_MOST_SETUP_BYTES))
        calls = {int(number): name for number, name in fields.pop("calls")}
        return cls(key, fields, calls)

    @property
    def plan(self) -> dict[str, Any]:
        """The plan, as it came over the wire."""
        plan: dict[str, Any] = self.fields["plan"]
        return plan


class Jail:
    """One jail: its processes, our ends of its channel and its streams, and what it said.

    *plan* is the job's own where it sees more than the template's. Two processes are ours to collect: the
    job's, and with namespaces the idle first one of its pid namespace, without which nothing in it lives.
    """

    def __init__(self, template: Template, plan: dict[str, Any] | None, *, key: str) -> None:
        self.asked_at = time.monotonic()
        self.channel, self._theirs = wire.pair()
        self.orders, self._its_orders = wire.pair()
        self.template = template
        self.setup = setup = template.setup
        self.planned = plan
        self.key = key
        self.is_isolated = setup.plan["tier"] == "full"
        self._private = "" if self.is_isolated or (plan or setup.plan)["workdir"] else folders.make()
        self._own_plan = _with_private_folder(plan or setup.plan, self._private) if self._private else plan
        self.plan: dict[str, Any] = self._own_plan or setup.plan
        (out_r, self._out_w), (err_r, self._err_w) = os.pipe(), os.pipe()
        cap = self.plan["output_bytes"]
        self.streams = (Keep(out_r, cap), Keep(err_r, cap))
        for stream in self.streams:
            os.set_blocking(stream.fd, False)
        self.job: Job | None = None
        self.pid = self.init = 0
        self.pidfd = self.init_pidfd = -1
        self.has_ended = False  # the job's process, which has been collected then
        self.status: os.waitid_result | None = None
        self.active: list[str] = []
        self.error: dict[str, Any] | None = None
        self.folder = -1  # its working folder, where artifacts are wanted
        self.observer: Observer | None = None
        self.farewell: Farewell | None = None
        self.hung_up = False
        self.has_orders = False  # what its program is: it waits for the word to go
        self.unopened = 0  # the errno with which its program could not be opened
        self._is_doomed = self._is_deaf = False

    def hand_over(self, mounts: tuple[int, ...], orders: tuple[bytes, tuple[int, ...]] | None = None) -> None:
        """Ask the template for the clone that this becomes. What cannot be sent is found at its hang-up.

        There may be a reason of our own: a limit on descriptors that are under way, or on memory. A program's
        *orders* can go with it where this is isolated (nobody has to be found who would run away) and its
        process can be made in the template's memory.
        """
        its = (self._theirs.detach(), self._its_orders.detach(), self._out_w, self._err_w)
        try:
            if self._own_plan:
                goes_along = self.is_isolated and sequence.may_share_memory()
                message, inputs = orders if orders and goes_along else (b"", ())
                self.has_orders = bool(message)
                plan = wire.encode({"plan": self._own_plan})
                wire.send_body(self.channel, wire.joined(plan, message), fds=(*mounts, *inputs))
            body = wire.OWN if self._own_plan else wire.ALIKE
            messages.send_message(self.template.channel, body, fds=its)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except OSError as error:
            self.error = {"layer": "supervisor", "error": f"it could not ask for a process ({error})"}
        for fd in its:
            os.close(fd)

    def give(self, orders: bytes, fds: tuple[int, ...]) -> None:
        """Its job's orders; or the word to go, if it has them."""
        try:
            if self.has_orders:
                messages.send_message(self.orders, wire.GO)
            else:
                wire.send_body(self.orders, orders, fds=fds)
        except (BrokenPipeError, ConnectionResetError):  # it ended, and may have said why
            self._is_deaf = True
        except OSError as error:
            self.error = {"layer": "supervisor", "error": f"a job could not be handed on ({error})"}
            self.kill()

    def not_started(self) -> int | None:
        """The errno with which its program could not be started. Only code of ours can have said that."""
        if self.unopened:
            return self.unopened
        try:
            if not self.has_orders:
                message = wire.receive(self.orders, flags=messages.NOW)
                return int(message[0]["not_started"]) if message else None
            body, _ = messages.receive_message(self.orders, flags=messages.NOW)
        except OSError:
            return None
        return -int.from_bytes(body, sys.byteorder, signed=True) if body else None

    def take(self, fields: dict[str, Any], fds: list[int]) -> None:
        """One message from the template, or from code of ours before the job; never from the job."""
        if "made" in fields:
            *init, self.pidfd = fds
            self.pid = procs.pid_of(self.pidfd)
            if init:
                (self.init_pidfd,) = init
                self.init = procs.pid_of(self.init_pidfd)
            self._know()
            if self._is_doomed:
                self.kill()
        elif "error" in fields:
            self.error = self.error or fields
        elif "not_started" in fields:
            self.unopened = fields["not_started"]
        elif "folder" in fields:
            (self.folder,) = fds
        elif "farewell" in fields:
            (self.farewell,) = map(Farewell, fds)
            self._know()
        else:
            self.active += fields.get("ready", []) + fields.get("active", [])
            if fds:
                self.observer = self._observer(fds[0])

    def _know(self) -> None:
        if self.farewell and self.pid:
            self.farewell.know(self.pid, self.pidfd, self.init)

    def _observer(self, fd: int) -> Observer:
        plan = self.plan
        workdir = plan["workdir"]
        writable = [b["path"] for b in plan["binds"] if b["writable"]] + [workdir, *plan["devices"]]
        shown = (
            [b["path"] for b in plan["binds"]] + [link for link, _ in plan["links"]] + ["/proc/self", "/dev"]
        )
        return Observer(
            fd=fd,
            calls=self.setup.calls,
            readable=tuple(shown),
            writable=tuple(writable),
            private=tuple(folder for folder in plan["folders"] if folder != workdir),
            may_make_sockets=self.is_isolated and plan["sockets"],
            starts_left=0 if self.setup.fields["is_source"] else 1,
        )

    def kill(self) -> None:
        """SIGKILL to the whole jail; remembered if its processes are not known yet."""
        self._is_doomed = True
        if not self.is_isolated and self.pidfd >= 0:
            procs.kill_all(procs.descendants(self.pid))
        for pidfd in (self.init_pidfd, -1 if self.has_ended else self.pidfd):
            if pidfd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def reap(self) -> None:
        """Collect the job's process, which has ended."""
        with contextlib.suppress(ChildProcessError):
            self.status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self.has_ended = True

    def reap_init(self) -> None:
        """Collect the first process of its namespace: nobody is left in that."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self.init_pidfd, os.WEXITED)
        os.close(self.init_pidfd)
        self.init = 0
        self.init_pidfd = -1

    @property
    def is_ready(self) -> bool:
        """True once the last layer is on. Nothing of a job's runs before."""
        return "seccomp" in self.active

    @property
    def has_said_all(self) -> bool:
        """True if nothing is to be said of it but that its program could not be started, or its folder.

        Its process may say that it is ready before the template says who it is.
        """
        return bool(self.pid) and self.is_ready and not self.has_orders

    @property
    def is_explained(self) -> bool:
        """True if nothing is to be said of its end any more. A template that waited for its process says why
        that came to nothing, and then hangs up."""
        is_waited_for = self.has_orders and not self.hung_up and bool(self.template.pid)
        ending = self.status
        has_run = self.is_ready and not (ending and ending.si_status == ENDED_BEFORE_RUNNING)
        return has_run or not is_waited_for

    @property
    def is_unheard(self) -> bool:
        """True if its process was killed before it had taken its orders: nothing of the job has run."""
        if self.status is None or self.status.si_code == os.CLD_EXITED or self.error:
            return False
        if self._is_deaf:
            return True
        try:
            self.orders.recv(1, messages.NOW | messages.PEEK)
        except ConnectionResetError:  # it ended with something unread
            return True
        except OSError:
            return False
        return False

    def hear_farewell(self) -> bool:
        """True if its job has come to its end, and nothing of it will run any more.

        What a job leaves in a folder of the host, and holds locked there, is left when the process is gone.
        Raises OSError if there is nobody left to hear.
        """
        counts = bool(self.job and not self.job.stopped and self.key)
        return self.farewell is not None and self.farewell.hear(counts=counts)

    @property
    def is_empty(self) -> bool:
        """True if nobody is left who could do anything, once the job's process has ended."""
        return not self.init or not procs.children(self.init)

    def members(self) -> list[int]:
        """All its processes but the idle one."""
        inherited = procs.descendants(self.init) if self.init else []
        return [self.pid, *procs.descendants(self.pid), *inherited]

    @property
    def private_folder(self) -> str:
        """The folder that was made for it; "" where it has another."""
        return self._private

    def watched(self) -> list[int]:
        """Everything of this jail that may be watched."""
        listeners = (listener.fd for listener in (self.observer, self.farewell) if listener)
        return [fd for fd in (self.channel.fileno(), self.pidfd, self.init_pidfd, *listeners) if fd >= 0]

    def hang_up(self) -> None:
        """Its job has ended: what its processes still take, until they are gone, is little."""
        self.hung_up = True
        self.channel.close()
        self.orders.close()
        if self.farewell:
            self.farewell.close_looks()

    def close(self) -> None:
        """Close and remove everything. The processes are gone."""
        self.hang_up()
        for stream in self.streams:
            stream.close()
        if self.farewell:
            self.farewell.close()
        for fd in (self.pidfd, self.init_pidfd, self.observer.fd if self.observer else -1, self.folder):
            if fd >= 0:
                os.close(fd)
        self.remove_private_folder()

    def remove_private_folder(self) -> None:
        """Remove the folder that was made for it, if one was."""
        if private := self.leave_private_folder():
            folders.remove(private)

    def leave_private_folder(self) -> str:
        """The folder that was made for it, which is the caller's to remove now; "" if none was."""
        private, self._private = self._private, ""
        return private


def _with_private_folder(plan: dict[str, Any], folder: str) -> dict[str, Any]:
    env = [(name, value or folder) for name, value in plan["env"]]
    bind = {"path": folder, "writable": True, "handle": -1, "inode": [0, 0], "is_staged": False}
    return {**plan, "workdir": folder, "private": folder, "env": env, "binds": [*plan["binds"], bind]}
