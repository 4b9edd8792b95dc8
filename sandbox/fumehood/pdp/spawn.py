"""Starts a process of ours while the other threads go on.

`subprocess.Popen` holds the interpreter until the new process has begun its program, and that may have to
wait for a processor: no thread decides a call meanwhile. What ctypes calls does not hold it. See
posix_spawn(3).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache

__all__ = ["Process", "spawn"]

_SEEN_AS = 3  # behind the standard streams
_OPAQUE = 1024  # more bytes than any libc needs for its attributes, file actions or set of signals
_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 0x02, 0x04, 0x08
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Process:
    """A child of ours. Like `subprocess.Popen` as far as it goes. Thread-safe."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None  # minus the signal, where one ended it
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """How it ended; None: it has not."""
        if self.returncode is None and self._lock.acquire(blocking=False):
            try:
                self._reap(os.WNOHANG)
            finally:
                self._lock.release()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How it ended, once it has, within *timeout* seconds.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        if timeout is None:
            with self._lock:
                self._reap(0)
        until, pause = time.monotonic() + (timeout or 0.0), 0.0005
        while self.poll() is None:
            if timeout is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _reap(self, options: int) -> None:
        if self.returncode is not None:
            return
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:  # somebody else did, or SIGCHLD is ignored
            pid, status = self.pid, 0
        if pid:
            self.returncode = os.waitstatus_to_exitcode(status)


def spawn(argv: Sequence[str], given: int, *, env: Mapping[str, str]) -> Process:
    """Run *argv*, and the number of a descriptor behind it, with *given* as that descriptor, its standard
    streams closed off, and nothing else of ours. It gets a process group of its own (a Ctrl-C is not for it)
    in this session: a kernel that shares out processor time by session lets nobody go first across them.

    Raises:
        OSError: it cannot be run.
    """
    libc = _libc()
    if libc is None:
        return _by_popen(argv, given, env)
    pid = ctypes.c_int()
    arguments = (ctypes.c_char_p * (len(argv) + 2))(*map(os.fsencode, (*argv, str(_SEEN_AS))))
    variables = [os.fsencode(f"{name}={value}") for name, value in env.items()]
    environment = (ctypes.c_char_p * (len(variables) + 1))(*variables)
    with ExitStack() as stack:
        safe = fcntl.fcntl(given, fcntl.F_DUPFD_CLOEXEC, _SEEN_AS + 1)  # so that no action writes over it
        stack.callback(os.close, safe)
        attributes, actions = _attributes(libc, stack), _actions(libc, stack, safe)
        given_all = (arguments[0], actions, attributes, arguments, environment)
        _check(libc.posix_spawn(ctypes.byref(pid), *given_all))
    return Process(pid.value)


def _by_popen(argv: Sequence[str], given: int, env: Mapping[str, str]) -> Process:
    """With a libc that cannot close the rest."""
    with subprocess.Popen(
        [*argv, str(given)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=env,
        pass_fds=[given],
        process_group=0,
    ) as process:
        process.returncode = 0  # ours to wait for
    return Process(process.pid)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "posix_spawn_file_actions_addclosefrom_np") else None


def _attributes(libc: ctypes.CDLL, stack: ExitStack) -> ctypes.Array[ctypes.c_char]:
    attributes = ctypes.create_string_buffer(_OPAQUE)
    _check(libc.posix_spawnattr_init(attributes))
    stack.callback(libc.posix_spawnattr_destroy, attributes)
    usual, none = (ctypes.create_string_buffer(_OPAQUE) for _ in range(2))
    libc.sigemptyset(usual)
    libc.sigemptyset(none)
    for number in _IGNORED_BY_PYTHON:
        libc.sigaddset(usual, number)
    _check(libc.posix_spawnattr_setsigdefault(attributes, usual))
    _check(libc.posix_spawnattr_setsigmask(attributes, none))
    _check(libc.posix_spawnattr_setpgroup(attributes, 0))
    _check(libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETPGROUP | _SETSIGDEF | _SETSIGMASK)))
    return attributes


def _actions(libc: ctypes.CDLL, stack: ExitStack, given: int) -> ctypes.Array[ctypes.c_char]:
    actions = ctypes.create_string_buffer(_OPAQUE)
    _check(libc.posix_spawn_file_actions_init(actions))
    stack.callback(libc.posix_spawn_file_actions_destroy, actions)
    _check(libc.posix_spawn_file_actions_adddup2(actions, given, _SEEN_AS))
    for stream in range(_SEEN_AS):
        _check(libc.posix_spawn_file_actions_addopen(actions, stream, b"/dev/null", os.O_RDWR, 0))
    _check(libc.posix_spawn_file_actions_addclosefrom_np(actions, _SEEN_AS + 1))
    return actions


def _check(error: int) -> None:
    if error:
        raise OSError(error, os.strerror(error))
