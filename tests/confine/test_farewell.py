"""The end of a job's source as the supervisor hears it, while the kernel still takes the process apart.

A farewell counts only if nothing of the job can run any more. Everything else waits for the process's end.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from host import require

from confine.bpf import ALLOW, NOTIFY, simulate
from fumehood import confine
from fumehood.confine import syscalls
from fumehood.confine.listener import Farewell
from fumehood.confine.seccomp import compile_farewell
from fumehood.confine.syscalls import FAREWELL

EXIT_GROUP = syscalls.number("exit_group")
_libc = ctypes.CDLL(None, use_errno=True)


def leave(status: int = 7, mark: int = FAREWELL) -> None:
    _libc.syscall(ctypes.c_long(EXIT_GROUP), ctypes.c_long(status), ctypes.c_ulong(mark))


@contextmanager
def held(act: Callable[[], object]) -> Iterator[tuple[int, int, Farewell]]:
    """A process of ours that has the filter and does *act*; its farewell, by a handle of its listener."""
    require("killable-notify")
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        with suppress(BaseException):
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            fd = _listener()
            os.write(tell, b"%d" % fd)
            act()
        os._exit(99)
    pidfd = os.pidfd_open(pid)
    fd = syscalls.call("pidfd_getfd", pidfd, int(os.read(told, 16)), 0)
    farewell = Farewell(fd)
    try:
        yield pid, pidfd, farewell
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        farewell.close()
        for end in (pidfd, told, tell):
            os.close(end)


def _listener() -> int:
    body = compile_farewell()
    program = syscalls._Program(len(body) // 8, body)
    flags = syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER | syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    return syscalls.call("seccomp", syscalls.SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(program))


@pytest.fixture
def idle() -> Iterator[int]:
    """A process with no children, as the first one of a jail is."""
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def is_called(farewell: Farewell) -> bool:
    poll = select.poll()
    poll.register(farewell.fd, select.POLLIN)
    return bool(poll.poll(10_000))


def has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_the_filter_holds_that_one_call_and_no_other() -> None:
    program = compile_farewell()
    for number in range(1024):
        assert simulate(program, number, (0, 0)) == ALLOW
        assert simulate(program, number, (7, FAREWELL)) == (NOTIFY if number == EXIT_GROUP else ALLOW)
    for near in (0, 1, FAREWELL - 1, FAREWELL + 1, FAREWELL & 0xFFFF_FFFF, FAREWELL >> 32 << 32):
        assert simulate(program, EXIT_GROUP, (7, near)) == ALLOW


def test_it_is_heard_before_the_process_has_ended(idle: int) -> None:
    with held(leave) as (pid, pidfd, farewell):
        farewell.know(pid, pidfd, idle)
        assert is_called(farewell)
        assert not has_ended(pid)
        assert farewell.hear(counts=True)
        assert farewell.status == 7
        assert not has_ended(pid)
        farewell.release()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("status", [0, 1, 255, 256, 511, -1])
def test_its_status_has_eight_bits_as_that_of_every_process(idle: int, status: int) -> None:
    with held(partial(leave, status)) as (pid, pidfd, farewell):
        farewell.know(pid, pidfd, idle)
        assert is_called(farewell)
        assert farewell.hear(counts=True)
    with held(partial(leave, status)) as (pid, _, unheard):
        assert is_called(unheard)
        assert not unheard.hear(counts=False)
        assert farewell.status == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _with_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    leave()


def _from_a_thread() -> None:
    threading.Thread(target=leave).start()
    time.sleep(60)


def _with_a_child() -> None:
    if not _forked():
        time.sleep(60)
        os._exit(0)  # its call would be held for ever: by then the listener is its own
    leave()


def _from_a_child() -> None:
    if not _forked():
        leave()
    time.sleep(60)


def _forked() -> int:
    pid = os.fork()
    if not pid:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    return pid


@pytest.mark.parametrize("act", [_with_a_thread, _from_a_thread, _with_a_child, _from_a_child])
def test_it_does_not_count_while_somebody_else_of_the_job_could_run(
    idle: int, act: Callable[[], None]
) -> None:
    with held(act) as (pid, pidfd, farewell):
        farewell.know(pid, pidfd, idle)
        assert is_called(farewell)
        assert not farewell.hear(counts=True)
        assert farewell.status is None
        if act not in (_from_a_child,):  # it goes on to its end as if nobody had looked
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_it_does_not_count_while_there_are_orphans_of_the_job(idle: int) -> None:
    with held(leave) as (pid, pidfd, farewell):
        farewell.know(pid, pidfd, os.getpid())  # which has children
        assert is_called(farewell)
        assert not farewell.hear(counts=True)


@pytest.mark.parametrize("known", [True, False])
def test_it_does_not_count_unasked_or_where_nothing_is_known_of_its_process(idle: int, known: bool) -> None:
    with held(leave) as (pid, pidfd, farewell):
        farewell.know(pid, pidfd, idle if known else 2**22 + 1)
        assert is_called(farewell)
        assert not farewell.hear(counts=not known)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_process_that_was_killed_in_it_has_said_nothing(idle: int) -> None:
    with held(leave) as (pid, pidfd, farewell):
        farewell.know(pid, pidfd, idle)
        assert is_called(farewell)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with suppress(OSError):  # nobody is left who could call, says the kernel since Linux 6.11
            assert not farewell.hear(counts=True)
        assert farewell.status is None


def test_no_handler_of_a_signal_runs_once_it_is_heard(idle: int) -> None:
    """Nor does the call return: it is held as a process is that only a kill can wake."""
    told, tell = os.pipe()

    def act() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: os.write(tell, b"ran"))
        leave()

    with held(act) as (pid, pidfd, farewell):
        os.close(tell)
        farewell.know(pid, pidfd, idle)
        assert is_called(farewell)
        assert farewell.hear(counts=True)
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.05)
        farewell.release()
        os.waitpid(pid, 0)
        assert os.read(told, 8) == b""
    os.close(told)


# --- in a jail ------------------------------------------------------------------------------------------


_MARK = f"""
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None)
def leave(status):
    libc.syscall(ctypes.c_long({EXIT_GROUP}), ctypes.c_long(status), ctypes.c_ulong({FAREWELL}))
"""


@pytest.mark.parametrize(
    ("source", "code", "out"),
    [
        ("print(1)", 0, b"1\n"),
        ("raise SystemExit(3)", 3, b""),
        ("import os; os._exit(4)", 4, b""),
        (_MARK + "print(1, flush=True); leave(5)", 5, b"1\n"),
        (_MARK + "threading.Thread(target=leave, args=(6,)).start(); time.sleep(60)", 6, b""),
        (_MARK + "os.fork() or leave(7)\nos.wait(); print(2)", 0, b"2\n"),
        (_MARK + "os.fork() or (time.sleep(60), print(9))\nprint(3)", 0, b"3\n"),
        (_MARK + "os.fork() or os.fork() or time.sleep(60)\nos._exit(0)", 0, b""),
        (
            _MARK + "threading.Thread(target=lambda: [os.write(1, b'.') for _ in range(9)]).start()",
            0,
            b"." * 9,
        ),
    ],
)
def test_every_end_of_source_is_told_as_it_is(source: str, code: int, out: bytes) -> None:
    outcome = confine.python(source, timeout_s=20)
    assert (outcome.exit.kind, outcome.exit.code, outcome.stdout) == ("exited", code, out), outcome
    assert outcome.duration_s < 10


@pytest.mark.parametrize("left", ["os.fork() or go()", "threading.Thread(target=go, daemon=True).start()"])
def test_nothing_of_a_job_runs_when_its_caller_is_answered(left: str) -> None:
    """A child or a thread that goes on for ever, while the main thread says farewell."""
    require("userns")
    name = f"goes-on-{os.getpid()}"  # it has room for 15 bytes
    source = _MARK + (
        f'libc.prctl(15, b"{name}")\ndef go():\n    while True: pass\n{left}\ntime.sleep(0.02)\nleave(0)'
    )
    for _ in range(5):
        assert confine.python(source).exit.kind == "exited"
        assert not list(_running(name))


def _running(name: str) -> Iterator[Path]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "comm").read_text().strip() == name:
                state = (folder / "stat").read_text().rpartition(") ")[2][:1]
                if state not in "ZX":
                    yield folder


def test_where_somebody_listens_already_a_job_ends_as_its_parent_hears_it() -> None:
    """Of the filters around a process only one can have a listener."""
    require("userns")
    text = """
import sys
from fumehood import confine
from fumehood.confine import syscalls
from fumehood.confine.seccomp import Answer, Rule, compile_rules
program = compile_rules((Rule("acct", Answer.NOTIFY),), default=Answer.ALLOW)
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
kept = syscalls.load_filter(program, listener=True)
outcomes = [confine.python("print(1 + 1); raise SystemExit(3)") for _ in range(3)]
print([(o.exit.kind, o.exit.code, o.stdout) for o in outcomes])
"""
    told = [("exited", 3, b"2\n")] * 3
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"{told}\n", done.stderr
