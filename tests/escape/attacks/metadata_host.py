"""Learning about the host: its name, its users, its network."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from escape.model import Attack
from escape.oracles import leaks, mentions, says
from escape.scene import Scene

_attack = partial(Attack, kind="metadata", oracle=leaks)


def _host(path: str) -> Callable[[Scene], str]:
    """The first line of a file of the host."""
    return lambda scene: next(iter(Path(path).read_text().splitlines()), "")


def _address_of_a_card(scene: Scene) -> str:
    for card in sorted(os.listdir("/sys/class/net")):
        address = Path(f"/sys/class/net/{card}/address").read_text().strip()
        if address.strip("0:"):
            return address
    return ""


def _outer_address(scene: Scene) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))  # sends nothing
        return str(sock.getsockname()[0])


def _users(scene: Scene) -> str:
    return pwd.getpwall()[-1].pw_dir


def _port(scene: Scene) -> str:
    return f":{scene.kept['listener'].getsockname()[1]:04X}"


ATTACKS: Final = (
    _attack(
        id="meta-host-name",
        tries="asks for the host's name (uname)",
        oracle=says(lambda scene: os.uname().nodename),
        reaches={"no-userns": "the name belongs to a namespace, and uname cannot be filtered by its answer"},
        payload="say(os.uname().nodename)",
    ),
    _attack(
        id="meta-host-name-file",
        tries="reads the host's name (/etc/hostname)",
        oracle=says(_host("/etc/hostname")),
        payload="say(open('/etc/hostname').read().strip())",
    ),
    _attack(
        id="meta-machine-id",
        tries="reads the machine's id",
        oracle=says(_host("/etc/machine-id")),
        payload="say(open('/etc/machine-id').read().strip())",
    ),
    _attack(
        id="meta-boot-id",
        tries="reads the id of this boot",
        oracle=says(_host("/proc/sys/kernel/random/boot_id")),
        payload="say(open('/proc/sys/kernel/random/boot_id').read().strip())",
    ),
    _attack(
        id="meta-boot-words",
        tries="reads the words that the kernel was started with",
        oracle=says(_host("/proc/cmdline")),
        payload="say(open('/proc/cmdline').read().strip())",
    ),
    _attack(
        id="meta-users",
        tries="lists the host's users",
        oracle=mentions(_users),
        payload="say(open('/etc/passwd').read())",
    ),
    _attack(
        id="meta-kernel-symbols",
        tries="reads the kernel's symbols",
        oracle=lambda scene, run: run.stdout.count(b"\n") > 1000,
        payload="say(open('/proc/kallsyms', 'rb').read(1 << 20))",
    ),
    _attack(
        id="meta-memory-of-host",
        tries="asks how much memory the host has (/proc/meminfo)",
        oracle=says(_host("/proc/meminfo")),
        payload="say(open('/proc/meminfo').readline().strip())",
    ),
    _attack(
        id="meta-connections",
        tries="reads which ports are listened on (/proc/net/tcp)",
        needs=("hidden_tcp",),
        oracle=mentions(_port),
        payload="say(open('/proc/net/tcp').read())",
    ),
    _attack(
        id="meta-unix-sockets",
        tries="reads the names of Unix sockets (/proc/net/unix)",
        needs=("named_socket",),
        payload="say(open('/proc/net/unix', 'rb').read())",
    ),
    _attack(
        id="meta-socket-diagnosis",
        tries="asks the kernel for the names of Unix sockets (netlink, sock_diag)",
        needs=("named_socket",),
        payload="""
s = socket.socket(16, socket.SOCK_RAW, 4)
s.send(struct.pack('=IHHIIBBHIIIII', 40, 20, 0x301, 1, 0, 1, 0, 0, 0xffffffff, 0, 1, 0, 0))
s.settimeout(0.5)
for _ in range(40): say(s.recv(65536))
""",
    ),
    _attack(
        id="meta-network-cards",
        tries="asks the kernel for the network cards (netlink, route)",
        oracle=lambda scene, run: bytes.fromhex(_address_of_a_card(scene).replace(":", "")) in run.stdout,
        payload="""
s = socket.socket(16, socket.SOCK_RAW, 0)
s.send(struct.pack('=IHHIIBBHiII', 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0, 0))
s.settimeout(0.3)
for _ in range(4): say(s.recv(65536))
""",
    ),
    _attack(
        id="meta-network-addresses",
        tries="asks a socket for the host's addresses (SIOCGIFCONF)",
        oracle=lambda scene, run: socket.inet_aton(_outer_address(scene)) in run.stdout,
        payload="""
room = ctypes.create_string_buffer(4096)
want = struct.pack('=iiQ', 4096, 0, ctypes.addressof(room))
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8912, want)
say(room.raw)
""",
    ),
    _attack(
        id="meta-hardware",
        tries="reads the addresses of network cards (/sys)",
        oracle=mentions(_address_of_a_card),
        payload="for c in os.listdir('/sys/class/net'): say(open(f'/sys/class/net/{c}/address').read())",
    ),
)
