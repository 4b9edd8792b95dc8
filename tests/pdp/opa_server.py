"""A real OPA server on a free loopback port."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from host import opa_binary


@contextmanager
def running_opa(address: str = "127.0.0.1:0") -> Iterator[str]:
    """The URL of a server that ends with the block."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [str(opa_binary()), "run", "--server", "--addr", address, "--log-level", "info"],
            stdout=log,
            stderr=log,
            env={"HOME": os.environ.get("HOME", "/")},
        )
        try:
            yield f"http://{_address(server, log.fileno())}"
        finally:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen[bytes], log: int) -> str:
    """Where it listens, as it says itself."""
    for _ in range(400):
        said = os.pread(log, 1 << 20, 0).decode(errors="replace")
        found = re.search(r'"addrs":\["([^"]+)"\]', said)
        ready = "Initializing server" in said and found
        port = _listening_port(server.pid) if ready else None
        if port:
            return f"127.0.0.1:{port}"
        assert server.poll() is None, said
        os.sched_yield()
        try:
            server.wait(0.025)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail("the OPA server did not start")


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
