"""What is planted: sockets of the harness that wait for somebody."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from escape.scene import Scene, part, secret


def _bound(scene: Scene, family: int, kind: int, address: Any, protocol: int = 0) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    scene.owned.callback(sock.close)
    sock.bind(address)
    sock.setblocking(False)
    if kind != socket.SOCK_DGRAM:
        sock.listen()
    scene.kept["listener"] = sock
    return sock


def arrived(scene: Scene) -> bytes:
    """What came in so far, at the listener of the scene; loopback has no delay."""
    sock = scene.kept["listener"]
    with contextlib.suppress(BlockingIOError):
        if sock.type == socket.SOCK_DGRAM:
            return bytes(sock.recv(4096))
        connection, _ = sock.accept()
        with connection:
            connection.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                return bytes(connection.recv(4096)) or b"(a connection)"
            return b"(a connection)"
    return b""


@part
def tcp(scene: Scene) -> None:
    scene.facts["port"] = _bound(scene, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)).getsockname()[1]


@part
def free_port(scene: Scene) -> None:
    """The number of a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        scene.facts["port"] = sock.getsockname()[1]


@part
def tcp_fast(scene: Scene) -> None:
    tcp(scene)
    scene.kept["listener"].setsockopt(socket.IPPROTO_TCP, 23, 8)  # TCP_FASTOPEN


@part
def mptcp(scene: Scene) -> None:
    sock = _bound(scene, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), 262)
    scene.facts["port"] = sock.getsockname()[1]


@part
def tcp6(scene: Scene) -> None:
    scene.facts["port"] = _bound(scene, socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)).getsockname()[1]


@part
def udp(scene: Scene) -> None:
    scene.facts["port"] = _bound(scene, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)).getsockname()[1]


@part
def udp6(scene: Scene) -> None:
    scene.facts["port"] = _bound(scene, socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0)).getsockname()[1]


@part
def udplite(scene: Scene) -> None:
    sock = _bound(scene, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0), 136)
    scene.facts["port"] = sock.getsockname()[1]


@part
def multicast(scene: Scene) -> None:
    """A member of a group on the loopback interface."""
    sock = _bound(scene, socket.AF_INET, socket.SOCK_DGRAM, ("239.255.7.7", 0))
    where = socket.inet_aton("239.255.7.7") + socket.inet_aton("127.0.0.1")
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, where)
    scene.facts["port"] = sock.getsockname()[1]


@part
def broadcast(scene: Scene) -> None:
    scene.facts["port"] = _bound(scene, socket.AF_INET, socket.SOCK_DGRAM, ("", 0)).getsockname()[1]


def _unix(scene: Scene, kind: int) -> None:
    path = scene.path("socket")
    _bound(scene, socket.AF_UNIX, kind, str(path))
    path.chmod(0o777)
    scene.facts["socket"] = str(path)


@part
def unix(scene: Scene) -> None:
    _unix(scene, socket.SOCK_STREAM)


@part
def unix_datagram(scene: Scene) -> None:
    _unix(scene, socket.SOCK_DGRAM)


@part
def unix_packets(scene: Scene) -> None:
    _unix(scene, socket.SOCK_SEQPACKET)


@part
def abstract(scene: Scene) -> None:
    _bound(scene, socket.AF_UNIX, socket.SOCK_STREAM, "\0" + scene.token)


@part
def abstract_datagram(scene: Scene) -> None:
    _bound(scene, socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + scene.token)


def _serve_nonce(scene: Scene, address: str, *, passing_fd: bool = False) -> None:
    """A service, as an agent for keys is one: whoever connects gets the nonce (or a file that holds it)."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    if passing_fd:
                        with open(scene.path("secret")) as file:
                            socket.send_fds(connection, [b"here"], [file.fileno()])
                    else:
                        connection.sendall(scene.nonce.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    scene.owned.callback(thread.join)
    scene.owned.callback(server.close)
    scene.owned.callback(server.shutdown, socket.SHUT_RDWR)


@part
def agent(scene: Scene) -> None:
    _serve_nonce(scene, str(scene.path("agent")))
    scene.path("agent").chmod(0o777)
    scene.facts["agent"] = str(scene.path("agent"))


@part
def abstract_agent(scene: Scene) -> None:
    _serve_nonce(scene, "\0" + scene.token)


@part
def portal(scene: Scene) -> None:
    """A service that hands out open files."""
    secret(scene)
    _serve_nonce(scene, str(scene.path("portal")), passing_fd=True)
    scene.facts["portal"] = str(scene.path("portal"))


@part
def netlink(scene: Scene) -> None:
    """A netlink socket of the harness that takes messages of other processes."""
    sock = _bound(scene, socket.AF_NETLINK, socket.SOCK_DGRAM, (0, 0), 2)
    scene.facts["port"] = sock.getsockname()[0]


@part
def named_socket(scene: Scene) -> None:
    """A listener whose name is what there is to find out."""
    _bound(scene, socket.AF_UNIX, socket.SOCK_STREAM, "\0" + scene.nonce)


@part
def hidden_tcp(scene: Scene) -> None:
    """A listener of whose port the payload is not told."""
    _bound(scene, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
