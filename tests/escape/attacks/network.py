"""Reaching anything by an Internet socket."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from pathlib import Path
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import connected, got_through
from escape.scene import Scene

_attack = partial(Attack, kind="network", oracle=got_through)


def _listens(scene: Scene, run: Run) -> bool:
    """Somebody listens now on the port that was free, and says the token to whoever comes."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", scene.facts["port"]), 0.2) as sock,
    ):
        return scene.token.encode() in sock.recv(100)
    return False


def _listens_somewhere(scene: Scene, run: Run) -> bool:
    """The port is not known: the kernel lists it under the inode of the attack's own socket."""
    own = {link for pid in witness.named(scene.tag) for link in witness.links(pid)}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and f"socket:[{words[9]}]" in own:
            with contextlib.suppress(OSError):
                port = int(words[1].split(":")[1], 16)
                with socket.create_connection(("127.0.0.1", port), 0.05) as sock:
                    sock.settimeout(0.05)
                    if scene.token.encode() in sock.recv(100):
                        return True
    return False


def _answers_datagrams(scene: Scene, run: Run) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.05)
        with contextlib.suppress(OSError):
            sock.sendto(b"?", ("127.0.0.1", scene.facts["port"]))
            return scene.token.encode() in sock.recv(100)
    return False


_TCP: Final = "s = socket.socket()\ns.connect(('127.0.0.1', F['port']))\n"


_SEND: Final = "s.sendall(F['token'].encode())"


_DATAGRAM: Final = "F['token'].encode()"


ATTACKS: Final = (
    _attack(id="net-tcp", tries="connects by TCP over IPv4", needs=("tcp",), payload=_TCP + _SEND),
    _attack(
        id="net-tcp6",
        tries="connects by TCP over IPv6",
        needs=("tcp6",),
        payload="s = socket.socket(socket.AF_INET6)\ns.connect(('::1', F['port']))\n" + _SEND,
    ),
    _attack(
        id="net-tcp-mapped",
        tries="reaches IPv4 by an IPv6 socket (::ffff:127.0.0.1)",
        needs=("tcp",),
        payload="s = socket.socket(socket.AF_INET6)\ns.connect(('::ffff:127.0.0.1', F['port']))\n" + _SEND,
    ),
    _attack(
        id="net-tcp-other-program",
        tries="lets a program of the system connect",
        needs=("tcp",),
        profile="shell",
        payload=("bash", "-c", "echo {token} > /dev/tcp/127.0.0.1/{port}"),
    ),
    _attack(
        id="net-tcp-from-thread",
        tries="connects from a thread other than the first",
        needs=("tcp",),
        payload="""
import threading
def work():
    s = socket.socket()
    s.connect(('127.0.0.1', F['port']))
    s.sendall(F['token'].encode())
t = threading.Thread(target=work)
t.start()
t.join()
""",
    ),
    _attack(
        id="net-fast-open",
        tries="sends data with the first packet, without connect (TCP Fast Open)",
        needs=("tcp_fast",),
        payload="""
s = socket.socket()
s.sendto(F['token'].encode(), 0x20000000, ('127.0.0.1', F['port']))
time.sleep(0.05)
""",
    ),
    _attack(
        id="net-fast-open-connect",
        tries="delays the connection to the first write (TCP_FASTOPEN_CONNECT)",
        needs=("tcp_fast",),
        payload="s = socket.socket()\ns.setsockopt(6, 30, 1)\ns.connect(('127.0.0.1', F['port']))\n" + _SEND,
    ),
    _attack(
        id="net-mptcp",
        tries="connects by multipath TCP, which Landlock does not know",
        needs=("tcp",),
        payload="s = socket.socket(2, 1, 262)\ns.connect(('127.0.0.1', F['port']))\n" + _SEND,
    ),
    _attack(
        id="net-udp",
        tries="sends a datagram over IPv4",
        needs=("udp",),
        payload=f"socket.socket(2, 2).sendto({_DATAGRAM}, ('127.0.0.1', F['port']))",
    ),
    _attack(
        id="net-udp6",
        tries="sends a datagram over IPv6",
        needs=("udp6",),
        payload=f"socket.socket(10, 2).sendto({_DATAGRAM}, ('::1', F['port']))",
    ),
    _attack(
        id="net-udp-many",
        tries="sends datagrams by the call for several (sendmmsg)",
        needs=("udp",),
        payload="""
s = socket.socket(2, 2)
body = ctypes.create_string_buffer(F['token'].encode())
address = struct.pack('=H', 2) + struct.pack('>H', F['port']) + bytes([127, 0, 0, 1]) + bytes(8)
to = ctypes.create_string_buffer(address)
vec = ctypes.create_string_buffer(struct.pack('=QQ', ctypes.addressof(body), 16))
head = struct.pack('=QQQQQQII', ctypes.addressof(to), 16, ctypes.addressof(vec), 1, 0, 0, 0, 0) + bytes(8)
sc(307, s.fileno(), ctypes.create_string_buffer(head), 1, 0)
""",
    ),
    _attack(
        id="net-udp-lite",
        tries="sends a datagram by UDP-Lite",
        needs=("udplite",),
        payload=f"socket.socket(2, 2, 136).sendto({_DATAGRAM}, ('127.0.0.1', F['port']))",
    ),
    _attack(
        id="net-multicast",
        tries="sends to a multicast group",
        needs=("multicast",),
        payload="s = socket.socket(2, 2)\ns.setsockopt(0, 32, socket.inet_aton('127.0.0.1'))\n"
        f"s.sendto({_DATAGRAM}, ('239.255.7.7', F['port']))",
    ),
    _attack(
        id="net-broadcast",
        tries="sends to everybody on the loopback network",
        needs=("broadcast",),
        payload="s = socket.socket(2, 2)\ns.setsockopt(1, 6, 1)\n"
        f"s.sendto({_DATAGRAM}, ('127.255.255.255', F['port']))",
    ),
    _attack(
        id="net-listen",
        tries="listens on a port, so that the host comes in",
        needs=("free_port",),
        live=True,
        oracle=_listens,
        payload="""
s = socket.socket()
s.setsockopt(1, 2, 1)
s.bind(('127.0.0.1', F['port']))
s.listen()
s.settimeout(2)
c, _ = s.accept()
c.sendall(F['token'].encode())
hold()
""",
    ),
    _attack(
        id="net-listen-unbound",
        tries="listens without having bound a port, which Landlock does not see",
        live=True,
        oracle=_listens_somewhere,
        payload="""
s = socket.socket()
s.listen()
s.settimeout(2)
c, _ = s.accept()
c.sendall(F['token'].encode())
hold()
""",
    ),
    _attack(
        id="net-udp-bind",
        tries="takes datagrams of the host",
        needs=("free_port",),
        live=True,
        oracle=_answers_datagrams,
        payload="""
s = socket.socket(2, 2)
s.bind(('127.0.0.1', F['port']))
s.settimeout(2)
while True: s.sendto(F['token'].encode(), s.recvfrom(10)[1])
""",
    ),
    _attack(
        id="net-io-uring",
        tries="makes a socket and connects by io_uring, which no filter on calls sees",
        needs=("tcp",),
        oracle=connected,
        payload="""
r = Ring()
fd = r.do(45, 2, length=0, offset=1)
address = struct.pack('=H', 2) + struct.pack('>H', F['port']) + bytes([127, 0, 0, 1]) + bytes(8)
to = ctypes.create_string_buffer(address)
r.do(16, fd, addr=ctypes.addressof(to), offset=16)
""",
    ),
    _attack(
        id="net-int-0x80",
        tries="makes a socket and connects by the 32-bit table of calls",
        needs=("tcp",),
        oracle=connected,
        payload="""
low = raw_mmap(8192, 7, 0x62)
data = low + 4096
to = struct.pack('=H', 2) + struct.pack('>H', F['port']) + bytes([127, 0, 0, 1]) + bytes(8)
ctypes.memmove(data, to, 16)
def call(number, b, c, d):
    words = b'\\x53\\xb8' + struct.pack('=I', number) + b'\\xbb' + struct.pack('=I', b)
    words += b'\\xb9' + struct.pack('=I', c) + b'\\xba' + struct.pack('=I', d) + b'\\xcd\\x80\\x5b\\xc3'
    ctypes.memmove(low, words, len(words))
    return ctypes.CFUNCTYPE(ctypes.c_int)(low)()
fd = call(359, 2, 1, 0)
call(362, fd, data, 16)
""",
    ),
    _attack(
        id="net-entered-namespace",
        tries="enters the network of another process",
        needs=("jailed_decoy",),
        live=True,
        oracle=lambda scene, run: any(
            witness.namespace(pid, "net") == witness.namespace(scene.kept["decoy"].pid, "net")
            for pid in witness.named(scene.tag)
        ),
        payload="""
for kind in ('user', 'net'): checked(libc.setns(os.open(f"/proc/{F['decoy']}/ns/{kind}", 0), 0))
hold()
""",
    ),
    _attack(
        id="net-tcp-from-program-of-its-own",
        tries="connects from a program that a child executes anew",
        needs=("tcp",),
        payload="""
import subprocess
program = f"import socket as s; s.create_connection(('127.0.0.1', {F['port']})).sendall(b'{F['token']}')"
subprocess.run(['/usr/bin/python3', '-I', '-c', program])
""",
    ),
)
