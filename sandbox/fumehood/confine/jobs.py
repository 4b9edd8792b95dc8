"""The spawner's two records: a jail (a process tree made ready) and the one job that it is given."""

# inside the spawner

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Final

from fumehood.confine import folders, procs, wire
from fumehood.confine.observe import Observer
from fumehood.confine.outcome import Attempt

_CHECK_S: Final = 0.05
_MEASURE_S: Final = 0.5
_MOST_TOLD: Final = 64
_MOST_COPIED: Final = 10_000_000
_SIGSYS: Final = 31
_SIGXCPU: Final = 24


@dataclass(slots=True)
class Keep:
    """The reading end of one output stream, and what is kept of it: *cap* bytes at most."""

    fd: int
    cap: int
    kept: bytearray = field(default_factory=bytearray)
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
    """What a jail is made from: the same for every job of a profile, so that jails can be made ahead."""

    fields: dict[str, Any]
    mounts: tuple[int, ...]
    calls: dict[int, str]

    @property
    def plan(self) -> dict[str, Any]:
        """The plan, as it came over the wire."""
        plan: dict[str, Any] = self.fields["plan"]
        return plan


class Jail:
    """One jail: its first process, our end of its channel, and what it said."""

    def __init__(self, setup: Setup) -> None:
        self.channel, self._theirs = wire.pair()
        self.setup = setup
        self.is_isolated = setup.plan["tier"] == "full"
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
        self._private = ""

    def send_setup(self) -> None:
        """First message: what to become. Without namespaces, with a private folder made for it."""
        fields = self.setup.fields
        if not self.setup.plan["workdir"]:
            self._private = folders.make()
            fields = {**fields, "plan": _with_private_folder(self.setup.plan, self._private)}
        wire.send(self.channel, fields, fds=self.setup.mounts)

    def hand_over(self) -> int:
        """The jail's end of the channel, once; the caller closes it."""
        return self._theirs.detach()

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
        plan = self.setup.plan
        workdir = self._private or plan["workdir"]
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
    """One job: where it is answered, its streams, its limits, and why it was stopped."""

    def __init__(self, fields: dict[str, Any], fds: list[int]) -> None:
        reply, stdin, *rest = fds
        self.reply = socket.socket(fileno=reply)
        self.key: str = fields["key"]
        self._stdin = stdin
        self._source = rest.pop(0) if fields["argv"] is None else -1
        self.setup = Setup(
            {name: fields[name] for name in ("plan", "program", "observer", "is_source")},
            tuple(rest),
            {int(number): name for number, name in fields["calls"]},
        )
        self._message = {name: fields[name] for name in ("argv", "args", "env", "artifacts")}
        self._timeout_s: float = fields["timeout_s"]
        self.streams: tuple[Keep, ...] = ()
        self.stopped = ""
        self._told = 0
        self._had = (0, 0)  # bytes and entries of a copied folder before the job
        self._jail: Jail | None = None
        self._began = time.monotonic()
        self._next_check = self._next_measure = self._began + _CHECK_S

    def begin(self, jail: Jail) -> None:
        """Give the job to *jail*. The clock starts."""
        self._jail, jail.job = jail, self
        if copied := self._copied():
            self._had = folders.use(copied, most=_MOST_COPIED)
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        cap = self.setup.plan["output_bytes"]
        self.streams = (Keep(out_r, cap), Keep(err_r, cap))
        for stream in self.streams:
            os.set_blocking(stream.fd, False)
        fds = [self._stdin, out_w, err_w, *((self._source,) if self._source >= 0 else ())]
        message = {**self._message, "env": self._environment(jail)}
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended: it has said why
            wire.send(jail.channel, message, fds=tuple(fds))
        for fd in (*fds, *self.setup.mounts):
            os.close(fd)

    def _environment(self, jail: Jail) -> list[tuple[str, str]]:
        """The plan's, with the jail's own folder where the plan has none, under what the caller asked for."""
        private = jail.private_folder
        planned = {name: value or private for name, value in self.setup.plan["env"]}
        return list({**planned, **dict(self._message["env"])}.items())

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
            pids = procs.descendants(self._jail.pid)
            self._check_use(pids)
            self._check_disk(self._jail.private_folder or self._copied(), pids, now)

    def _check_use(self, pids: list[int]) -> None:
        plan = self.setup.plan
        most = plan["memory_bytes"]
        if len(pids) > plan["processes"] + 1:
            self.stop("processes")
        elif _holds_more(pids, most) or _shares_more(pids, most):
            self.stop("memory")

    def _copied(self) -> str:
        """The copy of the caller's folder that was made for this job; "" where there is none."""
        return next((bind["path"] for bind in self.setup.plan["binds"] if bind["is_staged"]), "")

    def _check_disk(self, folder: str, pids: list[int], now: float) -> None:
        """A folder on the host's own disk has no size of its own: it is measured, twice a second."""
        if not folder or now < self._next_measure:
            return
        self._next_measure = now + _MEASURE_S
        plan = self.setup.plan
        had_bytes, had_entries = self._had
        most = had_entries + plan["inodes"]
        size, count = folders.use(folder, most=most)
        size += procs.nameless_bytes(pids, beside=folder)
        if size > had_bytes + plan["disk_bytes"] or count > most:
            self.stop("disk")

    def tell(self, attempt: Attempt) -> None:
        """Say at once what was seen; a few dozen only, as the caller may not listen."""
        self._told += 1
        if self._told > _MOST_TOLD:
            return
        fields = {"attempt": [attempt.operation, attempt.target, attempt.verdict]}
        with contextlib.suppress(OSError):
            self.reply.setblocking(False)
            wire.send(self.reply, fields)

    def report(self) -> None:
        """The last message to the caller."""
        jail = self._jail
        if jail is None:
            return
        out, err = (bytes(stream.kept) for stream in self.streams)
        kind, code = self._exit(jail)
        seen = jail.observer.seen if jail.observer else {}
        fields = {
            "exit": [kind, code],
            "stdout": base64.b64encode(out).decode(),
            "stderr": base64.b64encode(err).decode(),
            "layers": jail.active,
            "refused": [[a.operation, a.target, a.verdict] for a in seen],
            "dropped": jail.observer.dropped if jail.observer else 0,
            "duration_s": time.monotonic() - self._began,
            "error": None if self.stopped else jail.error,
        }
        with contextlib.suppress(OSError):  # nobody waits for it any more
            wire.send(self.reply, fields, fds=(jail.artifacts,) if jail.artifacts >= 0 else ())
        self.reply.close()

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
