"""A process is started with what it is given and nothing else, and its end is seen."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import pytest

from fumehood.pdp import spawn as module
from fumehood.pdp.spawn import Process, spawn

SAYS = """
import json, os, signal, sys
said = {
    "open": [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)],
    "streams": [os.readlink(f"/proc/self/fd/{n}") for n in range(3)],
    "environment": sorted(set(os.environ) - {"LC_CTYPE"}),
    "leads": os.getpgrp() == os.getpid(),
    "session": os.getsid(0),
    "ignored": signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN,
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
}
os.write(int(sys.argv[-1]), json.dumps(said).encode())
raise SystemExit(7)
"""
Spawn = Callable[[Sequence[str], int, Mapping[str, str]], Process]


def by_libc(argv: Sequence[str], given: int, env: Mapping[str, str]) -> Process:
    return spawn(argv, given, env=env)


@pytest.mark.parametrize("spawning", [by_libc, module._by_popen])
def test_new_process_has_what_it_is_given_and_nothing_else(spawning: Spawn) -> None:
    ours, theirs = socket.socketpair()
    leak = os.dup(0)
    os.set_inheritable(leak, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        with ours, theirs:
            process = spawning([sys.executable, "-I", "-S", "-c", SAYS], theirs.fileno(), {"A": "1"})
            theirs.close()
            said = json.loads(ours.recv(4096))
            assert ours.recv(1) == b""
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        os.close(leak)
    assert process.wait() == process.poll() == 7
    assert said["streams"] == ["/dev/null"] * 3
    assert len(said["open"]) == 4
    assert leak not in said["open"]
    assert said["environment"] == ["A"]
    assert said["leads"]
    assert said["session"] == os.getsid(0)
    assert spawning is module._by_popen or said["blocked"] == []


def test_what_cannot_be_run_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        spawn(["/nowhere/at-all"], 0, env={})
    with pytest.raises(OSError, match="Bad file descriptor"):
        spawn([sys.executable], 9999, env={})


def test_process_goes_on_until_it_is_killed() -> None:
    process = spawn(["/bin/sleep"], 0, env={})  # for as many seconds as the number of a descriptor says
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(5.0) == -signal.SIGKILL
    process.kill()  # no other process that has its number by now
    assert process.poll() == -signal.SIGKILL


def test_process_that_somebody_else_waited_for_has_ended() -> None:
    process = spawn(["/bin/true"], 0, env={})
    os.waitpid(process.pid, 0)
    assert process.wait() == 0
