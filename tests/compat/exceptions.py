"""What of CPython's own tests does not pass inside, and why. `docs/compatibility.md` publishes this list.

An entry excuses a failure only where its trace says what the reason says, and an entry that excuses nothing
any more fails `test_cpython.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

_NO_SOCKET = (
    "Operation not permitted",
    "Can not create socket",
    "tuple index out of range",  # of a server's sockets, where there are none
    "() is not true",
    "0 != 1",
    "not triggered",
)


@dataclass(frozen=True)
class Exempt:
    """Tests whose names match *pattern*. One that *hangs* is not run with the others."""

    pattern: str
    reason: str
    signs: tuple[str, ...] = _NO_SOCKET
    hangs: bool = False
    tiers: tuple[str, ...] = ("full", "no-userns")

    def excuses(self, name: str, why: str) -> bool:
        return fnmatchcase(name, self.pattern) and any(sign in why for sign in self.signs)


_WITH_SOCKETS = """
base_events buffered_proto events sendfile server sock_lowlevel ssl sslproto streams unix_events
""".split()
_LESSER = ("no-userns",)
EXCEPTIONS = (
    *(
        Exempt(f"test_asyncio.test_{module}.*", "opens a TCP, UDP or Unix socket: there is no network")
        for module in _WITH_SOCKETS
    ),
    Exempt(
        "test_asyncio.test_streams.StreamTests.test_drain_raises",
        "waits for a server that cannot listen",
        hangs=True,
    ),
    Exempt(
        "test_asyncio.test_base_events.*.test_create_connection_service_name",
        "the names of services are not shown",
        ("Servname not supported",),
    ),
    Exempt("test_asyncio.test_events.*pty*", "opens a terminal: there are none", ("os.openpty()",)),
    Exempt(
        "test_subprocess.*.test_pipesizes",
        "makes a pipe larger: the memory behind it would be counted by nobody",
        ("F_SETPIPE_SZ",),
    ),
    Exempt(
        "test_subprocess.*.test_*_string",
        "makes a script executable: modes cannot be changed",
        ("os.chmod",),
        tiers=_LESSER,
    ),
    Exempt("test_subprocess.*.test_*_fd_leak", "reads `/proc`: there is none", ("/proc/",), tiers=_LESSER),
    Exempt(
        "test_subprocess.*.test_restore_signals",
        "reads `/proc`: there is none",
        ("/proc/",),
        tiers=_LESSER,
    ),
)


def excuse(name: str, why: str, tier: str) -> Exempt | None:
    return next((entry for entry in EXCEPTIONS if tier in entry.tiers and entry.excuses(name, why)), None)
