"""The application's end: one spawner per process, started by exec when it is first needed.

Safe from any thread. After a fork the child forgets the parent's spawner and starts its own. Nothing here
waits for a job: see `api`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

from fumehood.confine import folders, wire
from fumehood.confine.again import Again
from fumehood.confine.kept import Kept
from fumehood.confine.layers import missing

_PACKAGE: Final = Path(__file__).resolve().parent
#: The two packages are entered without running their `__init__`: the spawner needs a few of their modules,
#: not the application's end, and every job pays for what is loaded here.
_BOOT: Final = """
import sys, types
for name, path in (("fumehood", sys.argv[1]), ("fumehood.confine", sys.argv[2])):
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [path]
from fumehood.confine.spawner import main
main(int(sys.argv[3]))
"""
_PYTHON: Final = str(Path(sys.executable).absolute())
#: What it would have to compile stays in its memory, and so in that of every job: it keeps it, if we do.
_OPTIONS: Final = ("-I", "-S", *(("-B",) if sys.dont_write_bytecode else ()))
_COMMAND: Final = (_PYTHON, *_OPTIONS, "-c", _BOOT, str(_PACKAGE.parent), str(_PACKAGE))
_HELLO_S: Final = 30.0
_END_S: Final = 5.0


class Spawner:
    """A running spawner: its socket, and what it said about itself."""

    def __init__(self, needed: tuple[str, ...]) -> None:
        self._closing = threading.RLock()  # a signal's handler may come in between
        self.again = Again()
        self._spare: list[tuple[socket.socket, socket.socket]] = []
        self._sock, self._process = _started()
        self._kept = Kept(self._sock.fileno())
        self._is_ours = os.getpid()
        try:
            facts, (self._pidfd, *mapping) = self._greet(needed)
        except BaseException:
            self.close()
            raise
        self.identity: int = facts["identity"]
        self.landlock_abi: int = facts["landlock"]
        self.pid: int = facts["pid"]
        self._folders: str = facts["folders"]
        self.mapping_fd = mapping[0] if mapping else -1

    def _greet(self, needed: tuple[str, ...]) -> tuple[dict[str, Any], list[int]]:
        self._sock.settimeout(_HELLO_S)
        try:
            wire.send(self._sock, {"needed": list(needed)})
            message = wire.receive(self._sock)
        except (TimeoutError, BrokenPipeError, ConnectionResetError) as error:
            raise missing("supervisor", f"it ended or hung while starting ({error})") from error
        if message is None:
            raise missing("supervisor", "it ended while starting")
        self._sock.settimeout(None)  # from now on the kernel counts: that takes no call of its own
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(_HELLO_S), 0))
        fields, fds = message
        if "error" in fields:
            raise missing(fields["layer"], fields["error"])
        return fields, fds

    def send(self, body: bytes, fds: tuple[int, ...]) -> None:
        """Hand over one job. Raises OSError if the spawner is gone."""
        wire.send_body(self._sock, body, fds=fds)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two connected sockets, of which it gets one with a job."""
        try:
            return self._spare.pop()
        except IndexError:
            return wire.pair()

    def make_ready(self) -> None:
        """A job was sent: what the next one needs is made while that runs."""
        if not self._spare:
            with contextlib.suppress(OSError):  # no more files: then the next job says so
                self._spare.append(wire.pair())
        if self.is_closed:
            self._close_spare()

    def _close_spare(self) -> None:
        while self._spare:
            with contextlib.suppress(IndexError):
                for sock in self._spare.pop():
                    sock.close()

    def is_kept(self) -> bool:
        """False once its keeper has ended, or the application has closed our end."""
        return self._kept.is_open() and self._process.poll() is None

    def last_words(self) -> str:
        """What it said when it ended by a fault of its own; empty otherwise."""
        if not self._kept.is_open():  # another thread has ended it already
            return ""
        try:
            self._sock.setblocking(False)
            message = wire.receive(self._sock)
        except OSError:  # nothing is said; or it has been ended meanwhile
            return ""
        return str(message[0].get("crashed", "")) if message else ""

    def forget(self) -> None:
        """In a child after a fork: let go without ending the parent's."""
        self._close_sock()
        self._close_files()
        self._process.returncode = 0  # not this process's child: nothing to wait for

    @property
    def is_closed(self) -> bool:
        """True once `close` was called, by any thread."""
        return self._sock.fileno() < 0

    def _close_sock(self) -> None:
        """If that is what has its number. Else the application has closed whatever is open: our files too."""
        if self.is_closed or self._kept.is_open():
            self._sock.close()
            return
        self._sock.detach()
        while self._spare:
            for sock in self._spare.pop():
                sock.detach()
        self.mapping_fd = self._pidfd = -1

    def close(self) -> None:
        """End it and everything it started. Every thread that waits for it may find out that it has to."""
        self._close_sock()
        with self._closing:
            for end in (self._kill_supervisor, self._process.kill):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_S)
                    break
                end()  # it was stopped, or hangs
            is_tidy = self._process.wait() == 0
            if not is_tidy:
                self._see_it_end_alone()
            self._close_files()
        if not is_tidy and (made := getattr(self, "_folders", "")):
            folders.remove_all(beginning=made)

    def _see_it_end_alone(self) -> None:
        """Its keeper was killed: the supervisor has to do what that would, and is killed if it hangs."""
        pidfd = getattr(self, "_pidfd", -1)
        if pidfd >= 0:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_END_S * 1000):
                self._kill_supervisor()

    def kill(self) -> None:
        """End it at once: it does not answer."""
        with self._closing:
            self._kill_supervisor()
        self.close()

    def _kill_supervisor(self) -> None:
        """Its keeper kills the rest."""
        pidfd = getattr(self, "_pidfd", -1)
        if pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _close_files(self) -> None:
        self._close_spare()
        for name in ("mapping_fd", "_pidfd"):
            fd = getattr(self, name, -1)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)


def _started() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Our end of its socket, and the process."""
    with contextlib.ExitStack() as unless_started:
        try:
            ours, theirs = wire.pair()
            unless_started.callback(ours.close)
            with theirs:
                process = _execute(theirs.fileno())
        except (OSError, RuntimeError) as error:  # RuntimeError: an interpreter that may start no process
            raise missing("supervisor", f"it could not be started ({error})") from error
        unless_started.pop_all()
        return ours, process


def _execute(socket_fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_COMMAND, str(socket_fd)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        pass_fds=(socket_fd,),
        start_new_session=True,
    )


class Client:
    """Holds this process's spawner."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may come in between
        self._spawner: Spawner | None = None
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self.close)

    def spawner(self, needed: tuple[str, ...]) -> Spawner:
        """The spawner, started if there is none or its keeper has died: then it is about to end.

        Raises:
            ConfinementError: it could not be started.
        """
        with self._lock:
            spawner = self._spawner
            if spawner and not spawner.is_kept():
                self._spawner = None
                spawner.close()
            return self._spawner or self._kept(Spawner(needed))

    def _kept(self, spawner: Spawner) -> Spawner:
        """*spawner*, if no signal's handler came first."""
        if self._spawner is not None:
            spawner.close()
            return self._spawner
        self._spawner = spawner
        return spawner

    def current(self) -> Spawner | None:
        """The spawner, if there is one that lives. Waits for no other thread."""
        spawner = self._spawner
        return spawner if spawner and spawner.is_kept() else None

    def drop(self, spawner: Spawner) -> None:
        """*spawner* does not answer any more: end it. The next call starts another."""
        with self._lock:
            if self._spawner is spawner:
                self._spawner = None
        fault = spawner.last_words()
        spawner.kill()
        if fault:
            from fumehood.log import logger

            logger().error("the confinement supervisor failed", trace=fault)

    def close(self) -> None:
        """End the spawner and everything it started. The next call starts another."""
        with self._lock:
            spawner, self._spawner = self._spawner, None
        if spawner:
            spawner.close()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held the old one
        spawner, self._spawner = self._spawner, None
        if spawner:
            spawner.forget()
