"""Attacks on the end of a job's source, as the supervisor hears it before the kernel has completed it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from typing import Any

import pytest

from confine.test_farewell import held, idle, is_called, leave
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


def _watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []

    def ioctl(fd: int, *_: Any) -> int:
        asked.append(fd)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return asked
