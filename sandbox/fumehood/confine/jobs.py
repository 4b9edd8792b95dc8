"""The spawner's two records: a jail (a process tree made ready) and the one job that it is given."""

# inside the spawner

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fumehood.confine import folders, procs, syscalls, wire
from fumehood.confine.observe import Observer
from fumehood.confine.outcome import Attempt

if TYPE_CHECKING:
    from fumehood.confine.pool import Template

_CHECK_S: Final = 0.05
_MEASURE_S: Final = 0.5
_MOST_TOLD: Final = 64
_MOST_TOLD_BYTES: Final = 24_000
_MOST_COPIED: Final = 10_000_000
_MOST_SETUP_BYTES: Final = 8 << 20
_SIGSYS: Final = 31
_SIGXCPU: Final = 24


@dataclass(slots=True)
class Keep:
    """The reading end of one output stream, and what is kept of it: *cap* bytes at most."""

    fd: int
    cap: int
    kept: bytearray = field(default_factory=bytearray)
    told: int = 0  # how much of that the caller has been given already
    is_over: bool = False

    def read(self, size: int) -> bool:
        """Take what is there. False at the end of the stream, or where nothing is there."""
        try:
            part = os.read(self.fd, size)
        except BlockingIOError:
            return False
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
        fields = json.loads(syscalls.read_memfd(fd, limit_bytes=_MOST_SETUP_BYTES))
        calls = {int(number): name for number, name in fields.pop("calls")}
        return cls(key, fields, calls)

    @property
    def plan(self) -> dict[str, Any]:
        """The plan, as it came over the wire."""
        plan: dict[str, Any] = self.fields["plan"]
        return plan


class Jail:
    """One jail: its first process, our ends of its channel and its streams, and what it said.

    *plan* is the job's own where it sees more than the template's; *mounts* are detached mounts for it.
    """

    def __init__(self, template: Template, plan: dict[str, Any] | None, *, key: str) -> None:
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
        self.pid = 0
        self.pidfd = -1
        self.active: list[str] = []
        self.error: dict[str, Any] | None = None
        self.report: dict[str, Any] | None = None
        self.artifacts = -1
        self.observer: Observer | None = None
        self.hung_up = False
        self._status = 0
        self._is_doomed = False

    def hand_over(self, mounts: tuple[int, ...]) -> None:
        """Ask the template for the clone that this becomes. What we cannot send is found at its hang-up."""
        its = (self._theirs.detach(), self._its_orders.detach(), self._out_w, self._err_w)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(self.channel, {"plan": self._own_plan}, fds=mounts)
            syscalls.send_message(self.template.channel, b"clone", fds=its)
        for fd in its:
            os.close(fd)

    def give(self, message: dict[str, Any], wanted: list[str], fds: tuple[int, ...]) -> None:
        """Its job's orders; before them, for its first process, which artifacts are *wanted* afterwards."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended: it has said why
            if wanted:
                wire.send(self.channel, {"artifacts": wanted})
            wire.send(self.orders, message, fds=fds)
        self.orders.close()

    def take(self, fields: dict[str, Any], fds: list[int]) -> None:
        """One message from inside: from code of ours beside or before the job, never from the job."""
        if "pid" in fields:
            self.pid = fields["pid"]
            self.pidfd = os.pidfd_open(self.pid)
            if self._is_doomed:
                self.kill()
        elif "error" in fields:
            self.error = self.error or fields
        elif "ready" in fields or "active" in fields:
            self.active += fields.get("ready", []) + fields.get("active", [])
            if fds:
                self.observer = self._observer(fds[0])
        elif "status" in fields:
            self.report = fields
            self.artifacts = fds[0] if fds else -1

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
        """SIGKILL to the whole jail; remembered if its first process is not known yet."""
        self._is_doomed = True
        if self.pidfd < 0:
            return
        if not self.is_isolated:
            procs.kill_all(procs.descendants(self.pid))
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> None:
        """Collect the first process, which has ended."""
        with contextlib.suppress(ChildProcessError):
            _, self._status = os.waitpid(self.pid, 0)

    @property
    def private_folder(self) -> str:
        """The folder that was made for it; "" where it has another."""
        return self._private

    @property
    def own_status(self) -> int:
        """The wait status of the jail's first process."""
        return self._status

    def descriptors(self) -> list[int]:
        """Everything of this jail that may be watched."""
        watched = [self.channel.fileno(), self.pidfd, self.observer.fd if self.observer else -1]
        return [fd for fd in watched if fd >= 0]

    def close(self) -> None:
        """Close and remove everything. The processes are gone."""
        self.channel.close()
        self.orders.close()
        for stream in self.streams:
            stream.close()
        for fd in (self.pidfd, self.observer.fd if self.observer else -1, self.artifacts):
            if fd >= 0:
                os.close(fd)
        self.remove_private_folder()

    def remove_private_folder(self) -> None:
        """Remove the folder that was made for it, if one was."""
        if self._private:
            folders.remove(self._private)
            self._private = ""


def _with_private_folder(plan: dict[str, Any], folder: str) -> dict[str, Any]:
    env = [(name, value or folder) for name, value in plan["env"]]
    bind = {"path": folder, "writable": True, "handle": -1, "inode": [0, 0], "is_staged": False}
    return {**plan, "workdir": folder, "private": folder, "env": env, "binds": [*plan["binds"], bind]}


def _holds_more(pids: list[int], most: int) -> bool:
    """The quick sum first, which counts twice what processes share."""
    return sum(map(procs.memory_bytes, pids)) > most and sum(map(procs.own_share_bytes, pids)) > most


def _shares_more(pids: list[int], most: int) -> bool:
    return sum(map(procs.shareable_bytes, pids)) > most and procs.shared_bytes(pids) > most


class Job:
    """One job: where it is answered, its limits, and why it was stopped."""

    def __init__(self, fields: dict[str, Any], fds: list[int]) -> None:
        reply, self._setup_fd, *rest = fds
        self.reply = socket.socket(fileno=reply)
        self.template_key: str = fields["template"]
        self.key: str = fields["key"]  # of jails that may be made ahead for it; "" for none
        self.plan: dict[str, Any] | None = fields["plan"]
        given = 1 if fields["argv"] is not None else 2
        self._streams, self.mounts = tuple(rest[:given]), tuple(rest[given:])
        self._message = {name: fields[name] for name in ("argv", "args", "env")}
        self._artifacts: list[str] = fields["artifacts"]
        self.is_streamed: bool = fields["stream"]
        self._timeout_s: float = fields["timeout_s"]
        self.stopped = ""
        self.must_wait = False
        self._told = 0
        self._had = (0, 0)  # bytes and entries of a copied folder before the job
        self._jail: Jail | None = None
        self._last: dict[str, Any] = {}
        self._began = self._next_check = self._next_measure = 0.0

    def begin(self, jail: Jail) -> None:
        """Give the job to *jail*. The clock starts."""
        self._jail, jail.job = jail, self
        self._began = time.monotonic()
        self._next_check = self._next_measure = self._began + _CHECK_S
        if copied := self._copied():
            self._had = folders.use(copied, most=_MOST_COPIED)
        jail.give(self._message, self._artifacts, self._streams)
        self.close_inputs()
        if self.must_wait:
            self._say({"begun": True})

    def close_inputs(self) -> None:
        """Let go of what the caller sent."""
        for fd in (self._setup_fd, *self._streams, *self.mounts):
            os.close(fd)

    def setup(self) -> Setup:
        """What its template is made from."""
        return Setup.read(self._setup_fd, self.template_key)

    def say_that_it_waits(self) -> None:
        """So that the caller knows that nothing is wrong."""
        self.must_wait = True
        self._say({"waiting": True})

    def refuse(self, why: str) -> None:
        """It does not begin, ever."""
        self.close_inputs()
        self._say({"error": {"layer": "queue", "error": why}})
        self.reply.close()

    def give_up(self) -> None:
        """It was stopped before it began."""
        self.close_inputs()
        self._say({"exit": ["stopped", 0], "error": None})
        self.reply.close()

    def stop(self, reason: str) -> None:
        """Kill it; the first reason counts."""
        self.stopped = self.stopped or reason
        if self._jail:
            self._jail.kill()

    def patience_s(self, now: float) -> float:
        """How long until this job has to be looked at again."""
        return max(0.0, min(self._next_check, self._began + self._timeout_s) - now)

    def check(self, now: float) -> None:
        """Deadline at any time; memory and processes every 50 ms."""
        if self.stopped or self._jail is None:
            return
        if now >= self._began + self._timeout_s:
            self.stop("deadline")
        elif now >= self._next_check and self._jail.pid:
            self._next_check = now + _CHECK_S
            self._check_use(procs.descendants(self._jail.pid))
            self._check_disk(self._jail.private_folder or self._copied(), now)

    def _check_use(self, pids: list[int]) -> None:
        plan = self._jail.plan if self._jail else {}
        most = plan["memory_bytes"]
        if len(pids) > plan["processes"] + 1:
            self.stop("processes")
        elif _holds_more(pids, most) or _shares_more(pids, most):
            self.stop("memory")

    def _copied(self) -> str:
        """The copy of the caller's folder that was made for this job; "" where there is none."""
        binds = self.plan["binds"] if self.plan else []
        return next((bind["path"] for bind in binds if bind["is_staged"]), "")

    def _check_disk(self, folder: str, now: float) -> None:
        """A folder on the host's own disk has no size of its own: it is measured, twice a second."""
        if not folder or now < self._next_measure:
            return
        self._next_measure = now + _MEASURE_S
        plan = self._jail.plan if self._jail else {}
        had_bytes, had_entries = self._had
        most = had_entries + plan["inodes"]
        size, count = folders.use(folder, most=most)
        if size > had_bytes + plan["disk_bytes"] or count > most:
            self.stop("disk")

    def tell(self, attempt: Attempt) -> None:
        """Say at once what was seen; a few dozen only, as the caller may not listen."""
        self._told += 1
        if self._told > _MOST_TOLD:
            return
        self._say({"attempt": [attempt.operation, attempt.target, attempt.verdict]})

    def _say(self, fields: dict[str, Any]) -> bool:
        """False if the caller does not keep up; it is never waited for."""
        self.reply.setblocking(False)
        try:
            wire.send(self.reply, fields)
        except BlockingIOError:
            return False
        except OSError:  # nobody waits for it any more
            return True
        return True

    def pass_on(self) -> None:
        """Output as it comes, for a caller who wants it. What does not fit now goes with the next piece."""
        if not self.is_streamed or self._jail is None:
            return
        for number, stream in enumerate(self._jail.streams):
            part = stream.kept[stream.told : stream.told + _MOST_TOLD_BYTES]
            if part and self._say({"out": number, "part": base64.b64encode(part).decode()}):
                stream.told += len(part)

    def report(self) -> bool:
        """The last message to the caller. False if it has to be said again: the caller does not keep up."""
        jail = self._jail
        if jail is None:
            return True
        self._last = self._last or self._last_words(jail)
        try:
            self.reply.setblocking(False)
            fds = (jail.artifacts,) if jail.artifacts >= 0 else ()
            wire.send(self.reply, self._last, fds=fds)
        except BlockingIOError:
            return False
        except OSError:  # nobody waits for it any more
            pass
        self.reply.close()
        return True

    def _last_words(self, jail: Jail) -> dict[str, Any]:
        out, err = (bytes(stream.kept) for stream in jail.streams)
        kind, code = self._exit(jail)
        seen = jail.observer.seen if jail.observer else {}
        return {
            "exit": [kind, code],
            "stdout": base64.b64encode(out).decode(),
            "stderr": base64.b64encode(err).decode(),
            "layers": jail.active,
            "refused": [[a.operation, a.target, a.verdict] for a in seen],
            "dropped": jail.observer.dropped if jail.observer else 0,
            "duration_s": time.monotonic() - self._began,
            "error": None if self.stopped else jail.error,
        }

    def _exit(self, jail: Jail) -> tuple[str, int]:
        if self.stopped:
            return self.stopped, 0
        report = jail.report
        if report is None:  # its first process was killed by somebody else
            own = jail.own_status
            return "signal", os.WTERMSIG(own) if os.WIFSIGNALED(own) else signal.SIGKILL
        if "not_started" in report:
            return "not_started", report["not_started"]
        status = report["status"]
        if os.WIFEXITED(status):
            return "exited", os.WEXITSTATUS(status)
        number = os.WTERMSIG(status)
        return {_SIGSYS: "filter", _SIGXCPU: "cpu"}.get(number, "signal"), number
