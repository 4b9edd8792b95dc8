"""The process in which attacks are tried: an ordinary user's, with a terminal and secrets of its own.

Started by `Lab`; answers one JSON line for each JSON line. Started by root it gives up root first, so that
what is attacked belongs to the very user as whom the attack runs: nothing but the sandbox is in the way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import resource
import secrets
import signal
import subprocess
import sys
import termios
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import IO, Final

from escape.model import Verdict

#: Each lab is a user of its own, so that none uses up what another's user may have.
_FIRST_USER: Final = 48_000
_TESTS: Final = str(Path(__file__).resolve().parents[1])
_BECOME: Final = (
    "import os,sys; i=int(sys.argv[1]); os.setgroups([]); os.setresgid(i,i,i); os.setresuid(i,i,i);"
    "os.execve(sys.argv[2], sys.argv[2:], dict(os.environ))"
)


class Unusable(Exception):
    """No ordinary user can run this interpreter and these packages: why."""


def command(*, as_root: bool = False) -> list[str]:
    """How to start a lab as an ordinary user, unless it shall stay root.

    Raises:
        Unusable: this is root, and others cannot reach the interpreter or its packages.
    """
    start = ["-W", "error", "-m", "escape.lab"]
    if as_root or os.geteuid() != 0:
        return [sys.executable, *start]
    python = os.path.realpath(sys.executable)
    from fumehood.confine.root import barring_folder

    for path in (python, *python_path()):
        if barring_folder(path):
            raise Unusable(f"an ordinary user cannot reach {path}")
    return [sys.executable, "-c", _BECOME, str(_FIRST_USER + secrets.randbelow(10_000)), python, *start]


def python_path() -> list[str]:
    """Of this process: the tests, the package, and where what it needs is installed."""
    import pydantic

    import fumehood

    packages = (fumehood, pydantic)
    return [_TESTS, *(str(Path(str(package.__file__)).parents[1]) for package in packages)]


class Lab:
    """A lab, from the side of whoever asks. Used as a context.

    With *as_root* it stays root, and what is attacked is root's: in the open it would prove nothing.
    """

    def __init__(self, *, as_root: bool = False) -> None:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(python_path()), "LANG": "C.UTF-8"}
        self._process = subprocess.Popen(
            command(as_root=as_root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            cwd="/",
            text=True,
        )

    def attempt(self, attack: str, place: str) -> Verdict:
        """Try the attack of that id.

        Raises:
            RuntimeError: the harness itself failed, or the lab has died.
        """
        assert self._process.stdin and self._process.stdout
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([attack, place]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the lab died: {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return Verdict(**answer)

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


# --- inside the lab ------------------------------------------------------------------------------------


def _terminal() -> tuple[int, int]:
    """A terminal that controls this session; its other end."""
    os.setsid()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in (signal.SIGTTOU, signal.SIGTTIN, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(master, False)
    return slave, master


def _own_session_ring() -> None:
    from escape.scene import syscall

    with contextlib.suppress(OSError):  # a kernel without keys: the attacks on them say so
        syscall(250, 1, 0)  # KEYCTL_JOIN_SESSION_KEYRING
        syscall(250, 8, -4, -3)  # KEYCTL_LINK: the user's ring into it, as a login does


def _serve(answers: IO[str], terminals: _Terminals) -> None:
    from escape.catalogue import BY_ID
    from escape.places import attempt

    for line in sys.stdin:
        attack, place = json.loads(line)
        terminal, master = terminals.fresh()
        try:
            verdict = asdict(attempt(BY_ID[attack], place, terminal=terminal, master=master))
        except BaseException:
            verdict = {"error": traceback.format_exc()}
        answers.write(json.dumps(verdict) + "\n")
        answers.flush()


class _Terminals:
    """The session's one terminal, in its first state before every attack."""

    def __init__(self) -> None:
        self.slave, self.master = _terminal()
        self._first = termios.tcgetattr(self.slave)

    def fresh(self) -> tuple[int, int]:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(self.slave, os.getpgrp())
        fcntl.ioctl(self.slave, termios.TIOCNXCL)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, bytes([24, 0, 80, 0, 0, 0, 0, 0]))
        fcntl.ioctl(self.slave, termios.TIOCSETD, bytes(4))
        os.set_blocking(self.slave, True)
        termios.tcsetattr(self.slave, termios.TCSANOW, self._first)
        termios.tcflush(self.slave, termios.TCIOFLUSH)
        with contextlib.suppress(BlockingIOError):
            while os.read(self.master, 65536):
                pass
        return self.slave, self.master


def main() -> None:
    from escape.places import bubblewrap  # noqa: F401 — what is imported late would be imported as a job waits

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    terminals = _Terminals()
    _own_session_ring()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    threading.stack_size(1 << 20)
    _serve(answers, terminals)
    from fumehood import confine

    confine.close()
    answers.close()


if __name__ == "__main__":
    main()
