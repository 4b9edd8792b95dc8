"""What an attack is: data, and a predicate that somebody outside evaluates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from escape.scene import Scene

KINDS: Final = (
    "file read",
    "metadata",
    "write",
    "secrets",
    "process",
    "network",
    "kernel surface",
    "write-xor-execute",
    "resources",
    "terminal",
)


_NOT_EVERYWHERE: Final = {
    "userns(": "user namespaces for ordinary users",
    "jailed_decoy": "user namespaces for ordinary users",
    "Ring()": "io_uring",
    "sc(101, ": "tracing of other processes of the same user",
    "process_vm_": "tracing of other processes of the same user",
    "pidfd_getfd": "tracing of other processes of the same user",
    "/mem": "tracing of other processes of the same user",
    "get_robust_list": "tracing of other processes of the same user",
    "kcmp": "kcmp",
    "userfaultfd": "userfaultfd",
    "perf_event_open": "performance counters for ordinary users",
    "fanotify": "fanotify for ordinary users (Linux 5.13)",
    "memfd_secret": "memfd_secret",
    "mempolicy": "NUMA",
    "0x5412": "a terminal that takes TIOCSTI",
    "x54": "a terminal that takes TIOCSTI and 32-bit calls",
    "x80": "32-bit calls",
    "keyctl": "keys in the kernel",
    "_key": "keys in the kernel",
    "posix_queue": "POSIX message queues",
    "mq_open": "POSIX message queues",
    "262": "multipath TCP",
    "udplite": "UDP-Lite",
    "tcp6": "IPv6",
    "udp6": "IPv6",
    "AF_INET6": "IPv6",
    "socket(40": "virtual machine sockets",
    "tcp_fast": "TCP Fast Open",
    "16, socket.SOCK_RAW": "netlink diagnosis",
    "fchmodat2": "Linux 6.6",
    "shm_name": "/dev/shm",
    "/usr/bin/su": "su",
    "pkey_": "protection keys",
    "setxattr": "extended attributes",
    "marked": "extended attributes",
    "RLIMIT_CORE": "core files, and in the working folder",
    "machine-id": "a machine id",
    "/etc/hostname": "a file with the host's name",
    "/sys/class/net": "a network card",
    "SIOCGIFCONF": "a network card",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What is left of one try, seen from outside. `tag` is the name that its processes bear."""

    stdout: bytes = b""
    stderr: bytes = b""
    collected: bytes = b""  # the bodies of the files that were collected from its folder afterwards
    ended: str = ""  # "" while it runs
    refused: str = ""  # the sandbox would not even start it: why


Oracle = Callable[["Scene", Run], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One way out.

    `payload` is Python source, run after `inside.py`, or the words of a command in which `{fact}` stands for
    a fact of the scene. `needs` are parts of the scene. `reaches` says which tier does not stop it, and why.
    With `live` the oracle is asked while the attack runs, otherwise once it has ended. `before` is run ahead
    of the payload, in a job of its own.
    """

    id: str
    kind: str
    tries: str
    payload: str | tuple[str, ...]
    oracle: Oracle
    needs: tuple[str, ...] = ()
    profile: str = "python-offline"
    live: bool = False
    before: str = ""
    reaches: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 4.0
    collect: tuple[str, ...] = ()  # patterns of files that the caller takes home afterwards
    on_terminal: bool = False  # unconfined, its three streams are the caller's terminal

    @property
    def needs_of_host(self) -> str:
        """What of its means not every host has, "" if every one does. Without it, it works nowhere."""
        text = " ".join((*self.needs, *([self.payload] if isinstance(self.payload, str) else self.payload)))
        return ", ".join(part for word, part in _NOT_EVERYWHERE.items() if word in text)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one attack in one place."""

    through: bool
    started: bool
    detail: str
    seconds: float
