"""Reaching other programs by sockets of this machine alone."""

from __future__ import annotations

import contextlib
import stat
from functools import partial
from typing import Final

from escape.model import Attack, Run
from escape.oracles import got_through, holds_socket
from escape.scene import Scene

_attack = partial(Attack, kind="network", oracle=got_through)


def _made_socket(scene: Scene, run: Run) -> bool:
    path = scene.path("work") / "s"
    return path.exists() and stat.S_ISSOCK(path.lstat().st_mode)


def _on_inherited(scene: Scene, run: Run) -> bool:
    scene.kept["socket"].setblocking(False)
    with contextlib.suppress(BlockingIOError):
        return scene.token.encode() in scene.kept["socket"].recv(100)
    return False


_SEND: Final = "s.sendall(F['token'].encode())"


_DATAGRAM: Final = "F['token'].encode()"


ATTACKS: Final = (
    _attack(
        id="net-unix",
        tries="connects to a Unix socket of the host by its path",
        needs=("unix",),
        payload="s = socket.socket(socket.AF_UNIX)\ns.connect(F['socket'])\n" + _SEND,
    ),
    _attack(
        id="net-unix-datagram",
        tries="sends to a Unix socket of the host",
        needs=("unix_datagram",),
        payload=f"socket.socket(socket.AF_UNIX, 2).sendto({_DATAGRAM}, F['socket'])",
    ),
    _attack(
        id="net-unix-packets",
        tries="connects to a Unix socket that keeps messages apart",
        needs=("unix_packets",),
        payload="s = socket.socket(socket.AF_UNIX, 5)\ns.connect(F['socket'])\n" + _SEND,
    ),
    _attack(
        id="net-unix-by-descriptor",
        tries="connects through /proc/self/fd of a socket file opened with O_PATH",
        needs=("unix",),
        payload="fd = os.open(F['socket'], os.O_PATH)\ns = socket.socket(socket.AF_UNIX)\n"
        "s.connect(f'/proc/self/fd/{fd}')\n" + _SEND,
    ),
    _attack(
        id="net-unix-hard-link",
        tries="gives a socket of the host a name in its working folder and connects there",
        needs=("unix", "work"),
        payload="os.link(F['socket'], 'mine')\ns = socket.socket(socket.AF_UNIX)\ns.connect('mine')\n"
        + _SEND,
    ),
    _attack(
        id="net-abstract",
        tries="connects to a Unix socket that has a name without a file",
        needs=("abstract",),
        payload="s = socket.socket(socket.AF_UNIX)\ns.connect('\\0' + F['token'])\n" + _SEND,
    ),
    _attack(
        id="net-abstract-datagram",
        tries="sends to a Unix socket that has a name without a file",
        needs=("abstract_datagram",),
        payload=f"socket.socket(socket.AF_UNIX, 2).sendto({_DATAGRAM}, '\\0' + F['token'])",
    ),
    _attack(
        id="net-pair-abstract",
        tries="points one of a pair of datagram sockets at a socket of the host",
        needs=("abstract_datagram",),
        payload=f"socket.socketpair(socket.AF_UNIX, 2)[0].sendto({_DATAGRAM}, '\\0' + F['token'])",
    ),
    _attack(
        id="net-pair-path",
        tries="the same by a path",
        needs=("unix_datagram",),
        payload=f"socket.socketpair(socket.AF_UNIX, 2)[0].sendto({_DATAGRAM}, F['socket'])",
    ),
    _attack(
        id="net-pair-reconnect",
        tries="connects one of a pair of datagram sockets anew",
        needs=("abstract_datagram",),
        payload="s = socket.socketpair(socket.AF_UNIX, 2)[0]\ns.connect('\\0' + F['token'])\n" + _SEND,
    ),
    _attack(
        id="net-unix-bind",
        tries="leaves a socket in its working folder for programs of the host to connect to",
        needs=("work",),
        oracle=_made_socket,
        payload="""
s = socket.socket(socket.AF_UNIX)
s.bind('s')
""",
    ),
    _attack(
        id="net-netlink",
        tries="sends a netlink message to a program of the host",
        needs=("netlink",),
        payload="""
message = struct.pack('=IHHII', 32, 99, 0, 0, 0) + F['token'].encode()
socket.socket(16, 2, 2).sendto(message, (F['port'], 0))
""",
    ),
    _attack(
        id="net-vsock",
        tries="makes a socket to the machine that this one runs in",
        live=True,
        oracle=holds_socket("AF_VSOCK"),
        payload="""
s = socket.socket(40, 1)
hold()
""",
    ),
    _attack(
        id="net-inherited-socket",
        tries="sends on a connected socket that the caller forgot to close",
        needs=("inherited_socket",),
        oracle=_on_inherited,
        payload="os.write(F['fd'], F['token'].encode())",
    ),
)
