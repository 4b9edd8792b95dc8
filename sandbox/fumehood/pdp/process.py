"""One process of ours as its parent sees it: start, ask, find out how it ended. See worker.py for the wire,
and apart_child.py."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fumehood.errors import ConfinementError, PdpError
from fumehood.pdp.spawn import spawn

__all__ = ["Child", "Gone", "Worker", "WorkerLimits"]

# regorus' allocator would reserve 1 GiB of addresses at once, and no limit below that could hold.
_ENVIRONMENT = {"MIMALLOC_ARENA_RESERVE": "0"}
_HEADER = struct.Struct("!I")
_REQUEST = struct.Struct("!IH")
_TICK = struct.pack("@ll", 0, 25_000)  # how often a waiting call looks at its deadline: 25 ms
START_S = 20.0
_MAX_ANSWER = 16 << 20


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """`deadline_s` is CPU time of one decision, `wall_s` its wall clock, `memory_bytes` address space."""

    workers: int = 2
    deadline_s: float = 0.25
    wall_s: float = 2.0
    memory_bytes: int = 512 << 20


class Gone(Exception):
    """The process had ended before it got the request."""


class Child:
    """One process and the parent's end of its socket. Used by one thread at a time."""

    script = ""  # the file beside this one that it runs
    called = "the process"  # in messages

    def __init__(self, greeting: bytes) -> None:
        """Start it; *greeting* is its first message."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        script = str(Path(__file__).with_name(self.script))
        with theirs:
            argv = [sys.executable, "-I", "-S", script]
            self.process = spawn(argv, theirs.fileno(), env=_ENVIRONMENT)
        self.link = ours
        self._rest = b""
        self.clock = (~self.process.pid << 3) | 2  # its CPU clock, as clock_getcpuclockid(3) computes it
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TICK)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TICK)
        with suppress(Gone):  # whoever asks it something finds out, and says why
            self.tell(greeting, time.monotonic() + START_S)

    def tell(self, message: bytes, until: float) -> None:
        """Send one message. Raises Gone, or PdpError where it is too late."""
        self._send(_HEADER.pack(len(message)) + message, until)

    def hear(self, until: float, *, cpu_until: float | None) -> bytes:
        """The next message; *until* is of the monotonic clock, *cpu_until* of the process' CPU clock.

        Raises:
            PdpError: `pdp_timeout`, `pdp_crashed` or `pdp_malformed`; end this process.
        """
        self._check(until, cpu_until)  # answers that come at once would never be late otherwise
        return self._receive(until, cpu_until=cpu_until)

    def cpu_s(self) -> float:
        """The CPU time that it has used so far. Raises Gone."""
        try:
            return time.clock_gettime(self.clock)
        except OSError:
            raise Gone from None

    def ended(self) -> PdpError:
        """Why it is no longer there."""
        try:
            status = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            status = 0
        self.end()
        if status in (-signal.SIGALRM, -signal.SIGXCPU):
            return PdpError(f"{self.called} ran into its own limit of time", code="pdp_timeout")
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return PdpError(f"{self.called} ended ({how})", code="pdp_crashed")

    def end(self) -> None:
        """Kill and reap it."""
        self.link.close()
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """In a forked child: drop our copy of the socket, leave the parent's process alone."""
        self.link.close()
        self.process.returncode = 0

    def _send(self, message: bytes, until: float) -> None:
        view = memoryview(message)
        while view:
            try:
                view = view[self.link.send(view) :]
            except BlockingIOError:
                self._check(until, None)
            except OSError:
                raise Gone from None

    def _receive(self, until: float, *, cpu_until: float | None) -> bytes:
        """The next message. What came behind it is left in `_rest`."""
        data, self._rest = self._rest, b""
        while len(data) < _HEADER.size:
            data += self._more(65536, until, cpu_until)
        wanted = _HEADER.unpack_from(data)[0] + _HEADER.size
        if not _HEADER.size < wanted <= _MAX_ANSWER:
            raise PdpError(f"the answer of {self.called} is empty or too long", code="pdp_malformed")
        parts, got = [data], len(data)
        while got < wanted:
            parts.append(self._more(min(wanted - got, 1 << 20), until, cpu_until))
            got += len(parts[-1])
        whole = b"".join(parts)
        self._rest = whole[wanted:]
        return whole[_HEADER.size : wanted]

    def _more(self, size: int, until: float, cpu_until: float | None) -> bytes:
        while True:
            try:
                data = self.link.recv(size)
            except BlockingIOError:
                self._check(until, cpu_until)
                continue
            except OSError:
                data = b""
            if not data:
                raise self.ended()
            return data

    def _check(self, until: float, cpu_until: float | None) -> None:
        if time.monotonic() > until:
            raise PdpError(f"{self.called} did not answer in time", code="pdp_timeout")
        try:
            is_late = cpu_until is not None and time.clock_gettime(self.clock) > cpu_until
        except OSError:
            raise self.ended() from None
        if is_late:
            raise PdpError("the policies took more CPU time than the deadline", code="pdp_timeout")


class Worker(Child):
    """A process that decides; see worker.py."""

    script = "worker.py"
    called = "the policy worker"

    def ready(self, hello: bytes) -> None:
        """Hand over the policies and wait until the worker has locked itself in.

        Raises:
            ConfinementError: it could not.
            PdpError: it ended, or did not answer in time.
        """
        until = time.monotonic() + START_S
        try:
            self.tell(hello, until)
            said = json.loads(self._receive(until, cpu_until=None))
        except Gone:
            raise self.ended() from None
        if "layer" in said:
            raise ConfinementError(said["error"], layer=said["layer"], remedy=said.get("remedy", ""))
        if "error" in said:
            raise PdpError(f"the policy worker could not start: {said['error']}", code="pdp_unreachable")

    def ask(self, number: int, body: bytes, limits: WorkerLimits) -> bytes:
        """Status byte and text. *number* is the place of the rule in the hello.

        Raises:
            Gone: nothing was asked.
            PdpError: `pdp_timeout`, `pdp_crashed` or `pdp_malformed`; end this worker.
        """
        until = time.monotonic() + limits.wall_s
        cpu_until = self.cpu_s() + limits.deadline_s
        self._send(_REQUEST.pack(len(body) + 2, number) + body, until)
        answer = self._receive(until, cpu_until=cpu_until)
        if self._rest:
            raise PdpError("the policy worker answers what it was not asked", code="pdp_malformed")
        return answer
