"""A real OPA server: on a free loopback port, with TLS, or on a Unix socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from host import opa_binary


@dataclass
class Running:
    """A server that was started: where it is, and its process."""

    url: str
    process: subprocess.Popen[bytes]
    log: int

    def pause(self) -> None:
        """Stop it, until `resume`: it hangs, and all that it has open stays open."""
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def said(self) -> str:
        """What it has logged."""
        return os.pread(self.log, 1 << 22, 0).decode(errors="replace")


@contextmanager
def running_opa(address: str = "127.0.0.1:0", *options: str | Path) -> Iterator[str]:
    """The URL of a server that ends with the block."""
    with started_opa(address, *options) as running:
        yield running.url


@contextmanager
def started_opa(address: str = "127.0.0.1:0", *options: str | Path) -> Iterator[Running]:
    """A server that ends with the block."""
    command = [str(opa_binary()), "run", "--server", "--addr", address, "--log-level", "info"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, *map(str, options)],
            stdout=log,
            stderr=log,
            env={"HOME": os.environ.get("HOME", "/")},
        )
        try:
            yield Running(_url(server, log.fileno(), address), server, log.fileno())
        finally:
            server.kill()
            server.wait()


def _url(server: subprocess.Popen[bytes], log: int, address: str) -> str:
    """Where it listens, once it does."""
    for _ in range(2400):  # a minute
        said = os.pread(log, 1 << 20, 0).decode(errors="replace")
        if "Initializing server" in said and re.search(r'"addrs":\["([^"]+)"\]', said):
            if address.startswith("unix://"):
                if _listens(address.removeprefix("unix://")):
                    return address
            elif port := _listening_port(server.pid):
                return f"{'https' if address.startswith('https') else 'http'}://127.0.0.1:{port}"
        assert server.poll() is None, said
        os.sched_yield()
        try:
            server.wait(0.025)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail("the OPA server did not start")


def _listens(path: str) -> bool:
    """True if somebody listens on the socket; its file may be left from somebody who did."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _listening_port(pid: int) -> int | None:
    """The loopback port on which the process listens, from /proc."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    with open("/proc/net/tcp") as table:
        for row in table.readlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                return int(fields[1].split(":")[1], 16)
    return None
