"""The spawner's record of a job: where it is answered, its limits, and why it was stopped."""

# inside the spawner

from __future__ import annotations

import os
import signal
import socket
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from fumehood.confine import folders, procs, wire
from fumehood.confine.jails import Jail, Setup

if TYPE_CHECKING:
    from fumehood.confine.outcome import Attempt

_CHECK_S: Final = 0.05
_SOON_S: Final = 0.01  # the first time, and where the last look saw a use that may soon be too much
_NEAR: Final = 4  # from this part of the memory on
_PAUSE: Final = 5  # times what a look took, for all that run: else looks would leave no time for callers
_STOPPED_S: Final = 60.0
_MEASURE_S: Final = 0.5
_MOST_TOLD: Final = 64
_MOST_TOLD_BYTES: Final = 24_000
_MOST_SHORTENED: Final = 12_000
_MOST_COPIED: Final = 10_000_000
KILLED: Final = {"layer": "jail", "error": "its template was killed"}
_BY_SIGNAL: Final[dict[int, str]] = {signal.SIGSYS: "filter", signal.SIGXCPU: "cpu"}


def _holds_more(pids: list[int], at_most: int, most: int) -> bool:
    """The quick sum, *at_most*, comes first: it counts twice what processes share."""
    return at_most > most and sum(map(procs.own_share_bytes, pids)) > most


def _shares_more(pids: list[int], most: int) -> bool:
    return sum(map(procs.shareable_bytes, pids)) > most and procs.shared_bytes(pids) > most


@lru_cache(maxsize=16)
def _described(head: bytes) -> dict[str, Any]:
    """What is said of a job. Most are like one before; nobody changes it."""
    return wire.decode(head)


def _shortened(body: bytes) -> bytes:
    """A job's last message without that for which there is no room: its output was too much."""
    head, rest = wire.parted(body)
    said = wire.decode(head)
    out, err = (part[:_MOST_SHORTENED] for part in (rest[: said["stdout"]], rest[said["stdout"] :]))
    if said["error"] is None:
        said["exit"] = ["output", 0]
    said["stdout"], refused = len(out), said.pop("refused", [])
    said["dropped"] = said.get("dropped", 0) + len(refused)
    return wire.joined(wire.encode(said), out, err)


class Job:
    """One job: where it is answered, its limits, and why it was stopped.

    Its *body* describes it; its orders follow, which are for the process that it will be.
    """

    def __init__(self, body: bytes, fds: list[int]) -> None:
        head, self._orders = wire.parted(body)
        fields = _described(head)
        reply, self._setup_fd, *rest = fds
        self.reply = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, reply)
        self.reply.setblocking(False)  # whoever does not listen is not waited for
        self.template_key: str = fields["template"]
        self.key: str = fields["key"]  # of jails that may be made ahead for it; "" for none
        self.plan: dict[str, Any] | None = fields["plan"]
        self._is_program: bool = fields["program"]
        given: int = fields["inputs"]
        self._inputs, self.mounts = tuple(rest[:given]), tuple(rest[given:])
        self.artifacts: list[str] = fields["artifacts"]
        self.is_streamed: bool = fields["stream"]
        self._timeout_s: float = fields["timeout_s"]
        self._has_inputs = self._may_move = True
        self._is_given = False
        self._has_moved = False
        self.stopped = ""
        self.must_wait = False
        self._told = 0
        self._members = 1
        self._had = (0, 0)  # bytes and entries of a copied folder before the job
        self._jail: Jail | None = None
        self._last = b""
        self._fds: tuple[int, ...] = ()  # artifacts, with the last message
        self._began = self._next_check = self._next_measure = 0.0

    def begin(self, jail: Jail) -> None:
        """It will be done in *jail*. The clock starts; if the jail is known already, so does the job."""
        self._jail, jail.job, self._is_given = jail, self, False
        self._began = self._began or time.monotonic()
        self._next_check, self._next_measure = self._began + _SOON_S, self._began + _CHECK_S
        if jail.pid:
            self.give()

    def give(self) -> None:
        """The jail gets its orders: its process is known, and would be found if it ran away."""
        if self._jail is None or self._is_given or not self._has_inputs:
            return
        if copied := self._copied():
            self._had = folders.use(copied, most=_MOST_COPIED)
        self._jail.give(self._orders, self._inputs)
        self._is_given = True
        if self.mounts:  # are attached by now: no other jail could have them
            self.close_inputs()
        self._say_that_it_has_begun()

    def program(self) -> tuple[bytes, tuple[int, ...]] | None:
        """Its orders and their descriptors, if it is a program."""
        return (self._orders, self._inputs) if self._is_program else None

    def may_move(self) -> bool:
        """True once, if nothing of it has run and nobody wants it stopped: another jail may have it."""
        moves = self._may_move and self._has_inputs and not self.stopped
        self._may_move, self._has_moved = False, moves
        return moves

    def close_inputs(self) -> None:
        """Let go of what the caller sent."""
        if self._has_inputs:
            for fd in (self._setup_fd, *self._inputs, *self.mounts):
                os.close(fd)
        self._has_inputs = False

    def setup(self) -> Setup:
        """What its template is made from."""
        return Setup.read(self._setup_fd, self.template_key)

    def say_that_it_waits(self) -> None:
        """So that the caller knows that nothing is wrong."""
        self.must_wait = True
        self._say({"waiting": True})

    def _say_that_it_has_begun(self) -> None:
        """Once, to who was told that it waits; at the next look if there is no room now."""
        if self.must_wait and self._say({"begun": True}):
            self.must_wait = False

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
        """How long until this job has to be looked at again; when it is stopped, its end is told."""
        if self.stopped:
            return _STOPPED_S
        return max(0.0, min(self._next_check, self._began + self._timeout_s) - now)

    def check(self, now: float, *, running: int = 1) -> None:
        """Deadline at any time; memory and processes every 50 ms, or 10 while more of them is used.

        Later where a look takes long: of so many *running* jobs, each may be looked at as often.
        """
        if self.stopped or self._jail is None:
            return
        if now >= self._began + self._timeout_s:
            self.stop("deadline")
        elif now >= self._next_check:
            self._next_check = now + _CHECK_S
            if self._jail.pid:
                self._say_that_it_has_begun()
                self.pass_on()
                began, pids = time.monotonic(), self._jail.members()
                if self._check_use(pids):
                    pause_s = _PAUSE * running * (time.monotonic() - began)
                    self._next_check = now + min(_CHECK_S, max(_SOON_S, pause_s))
                self._check_disk(self._jail.private_folder or self._copied(), pids, now)

    def _check_use(self, pids: list[int]) -> bool:
        """True if that may be too much soon: there are more processes, or much memory is used."""
        plan = self._jail.plan if self._jail else {}
        most = plan["memory_bytes"]
        if len(pids) > plan["processes"] + 1:
            self.stop("processes")
        used = sum(map(procs.memory_bytes, pids))
        if _holds_more(pids, used, most) or _shares_more(pids, most):
            self.stop("memory")
        had, self._members = self._members, len(pids)
        return self._members > had or used > most // _NEAR

    def _copied(self) -> str:
        """The copy of the caller's folder that was made for this job; "" where there is none."""
        binds = self.plan["binds"] if self.plan else []
        return next((bind["path"] for bind in binds if bind["is_staged"]), "")

    def _check_disk(self, folder: str, pids: list[int], now: float) -> None:
        """A folder on the host's own disk has no size of its own: it is measured, twice a second."""
        if not folder or now < self._next_measure:
            return
        self._next_measure = now + _MEASURE_S
        plan = self._jail.plan if self._jail else {}
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
        self._say({"attempt": [attempt.operation, attempt.target, attempt.verdict]})

    def _say(self, fields: dict[str, Any], part: bytes = b"") -> bool:
        """False if the caller does not keep up; it is never waited for."""
        try:
            wire.send_body(self.reply, wire.joined(wire.encode(fields), part))
        except BlockingIOError:
            return False
        except OSError:  # nobody waits for it any more
            return True
        return True

    def pass_on(self) -> None:
        """Output as it comes, for a caller who wants it. What does not fit now goes at the next look."""
        if not self.is_streamed or self._jail is None:
            return
        for number, stream in enumerate(self._jail.streams):
            while part := stream.kept[stream.told : stream.told + _MOST_TOLD_BYTES]:
                if not self._say({"out": number}, bytes(part)):
                    return
                stream.told += len(part)

    def conclude(self) -> None:
        """Note all that is to be said of it: the jail is about to go."""
        if self._jail:
            if not (self.stopped or self._jail.is_ready or self._jail.unopened):
                self._jail.error = self._jail.error or self._unready(self._jail)
            if self._has_moved and self.mounts and (self._jail.error or {}).get("layer") == "rootfs":
                self._jail.error = KILLED  # which had attached its mounts: nobody can do that twice
            self._last = self._last_words(self._jail)
        self._jail = None

    def report(self, fds: tuple[int, ...] = ()) -> bool:
        """The last message to the caller. False if it has to be said again: the caller does not keep up."""
        self._fds = self._fds or fds
        try:
            wire.send_body(self.reply, self._last, fds=self._fds)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):  # nobody waits for it any more
            pass
        except OSError:  # no memory file can be had for so much output
            if len(self._last) > wire.MOST_INLINE_BYTES:
                self._last = _shortened(self._last)
                return self.report()
        return True

    def hang_up(self) -> None:
        """The caller has been told all."""
        for fd in self._fds:
            os.close(fd)
        self.reply.close()

    def _last_words(self, jail: Jail) -> bytes:
        kind, code = self._exit(jail)
        out, err = (stream.kept for stream in jail.streams)
        said = {
            "exit": [kind, code],
            "stdout": len(out),
            "layers": " ".join(jail.active),
            "duration_s": time.monotonic() - self._began,
            "error": None if self.stopped else jail.error,
        }
        if jail.observer:
            said["refused"] = [[a.operation, a.target, a.verdict] for a in jail.observer.seen]
            said["dropped"] = jail.observer.dropped
        return wire.joined(wire.encode(said), out, err)

    def _unready(self, jail: Jail) -> dict[str, Any]:
        """A process that ended before the last layer was on, and did not say why, has run nothing."""
        kind, code = self._exit(jail)
        why = f"the job's process ended ({kind}, {code}) before its last layer was on"
        return {"layer": "jail", "error": f"{why}; a surrounding sandbox may kill for what it forbids"}

    def _exit(self, jail: Jail) -> tuple[str, int]:
        if self.stopped:
            return self.stopped, 0
        ending = jail.status
        if ending is None and jail.farewell and jail.farewell.status is not None:
            return "exited", jail.farewell.status
        if ending is None:  # somebody else collected it
            return "signal", signal.SIGKILL
        if ending.si_code == os.CLD_EXITED:
            failure = jail.not_started()
            if failure is None:
                return "exited", ending.si_status
            if jail.has_orders:  # it could not say more
                program = wire.decode(self._orders)["argv"][0]
                text = f"fumehood: cannot start {program!r}: {os.strerror(failure)}\n"
                jail.streams[1].kept += text.encode(errors="backslashreplace")
            return "not_started", failure
        return _BY_SIGNAL.get(ending.si_status, "signal"), ending.si_status
