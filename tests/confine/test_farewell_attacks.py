"""Attacks on the end of a job's source, as the supervisor hears it before the kernel has completed it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from host import require

from confine.test_farewell import held, idle, is_called, leave
from fumehood import confine
from fumehood.confine import listener

__all__ = ["idle"]


def test_no_call_is_asked_for_where_nobody_is_left_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.11 that waits for ever, and with it everybody whose job is watched."""
    with held(leave) as (pid, _, farewell):
        assert is_called(farewell)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        asked = _watched(monkeypatch)
        with pytest.raises(OSError, match="No such"):
            listener.receive(farewell.fd)
        assert asked == []


def test_no_call_is_asked_for_where_none_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    with held(signal.pause) as (_, _, farewell):
        asked = _watched(monkeypatch)
        assert listener.receive(farewell.fd) is None
        assert asked == []


def test_a_process_that_has_said_farewell_is_never_let_go(idle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.18 a signal that was there first makes an answered call return, to code of the job."""
    answered: list[int] = []
    monkeypatch.setattr(listener, "answer", lambda _, ticket, *__: bool(answered.append(ticket)) or True)
    with held(leave) as (pid, pidfd, farewell):
        farewell.know(pid, pidfd, idle)
        assert is_called(farewell)
        assert farewell.hear(counts=True)
        assert farewell.status == 7
        farewell.release()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert answered == []


def test_what_it_has_looked_at_can_be_closed_before_its_process_has_ended(idle: int) -> None:
    """That may take long: what is held open until then counts for no job that runs."""
    with held(leave) as (pid, pidfd, farewell):
        before = len(os.listdir("/proc/self/fd"))
        farewell.know(pid, pidfd, idle)
        assert is_called(farewell)
        assert farewell.hear(counts=True)
        farewell.close_looks()
        assert len(os.listdir("/proc/self/fd")) == before


_FEW_FILES = """
import resource, threading
from fumehood import confine
resource.setrlimit(resource.RLIMIT_NOFILE, (122, 122))
ends = []
def work():
    for number in range(40):
        outcome = confine.python("open('a', 'w').write('x')" + "#" * 17000, artifacts=["a"] * (number % 2))
        ends.append((outcome.exit.kind, outcome.exit.code, len(outcome.artifacts) == number % 2))
confine.python("1")
threads = [threading.Thread(target=work) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(ends), set(ends))
"""


def test_jobs_that_take_long_to_end_leave_files_for_those_that_follow() -> None:
    """Callers who were answered begin the next: the supervisor has all its files in use, and no more."""
    require("userns")
    done = subprocess.run(
        [sys.executable, "-c", _FEW_FILES], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == f"240 {{{('exited', 0, True)}}}\n", done.stderr


def _watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []

    def ioctl(fd: int, *_: Any) -> int:
        asked.append(fd)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return asked


def test_what_a_job_has_locked_in_a_folder_of_the_host_is_free_when_its_caller_is_answered(
    tmp_path: Path,
) -> None:
    """There the end of the process is waited for: it holds its locks until then."""
    require("userns")
    source = "import fcntl, os\nfcntl.flock(os.open('lock', os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)"
    for _ in range(10):
        assert confine.python(source, workdir=tmp_path).exit.is_success
        with (tmp_path / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
