"""What is planted around one attack: secrets, listeners, other processes. All of it the harness's own.

A part is a function that adds to the scene and says in `facts` what the payload may know. What it should find
out, it is not told: it has to bring the `nonce` home, which only what was planted holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_DECOY = Path(__file__).with_name("decoy.py").read_text()
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *words: Any) -> int:
    """The raw system call, made by the harness. Raises OSError."""
    result = _libc.syscall(
        ctypes.c_long(number), *[ctypes.c_long(w) if isinstance(w, int) else w for w in words]
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _quietly(number: int, *words: Any) -> None:
    """For what an attack may have taken away already."""
    with contextlib.suppress(OSError):
        syscall(number, *words)


class Scene:
    """One attack's surroundings; closed after it."""

    def __init__(self, needs: tuple[str, ...], *, terminal: int, master: int) -> None:
        self.nonce = secrets.token_hex(12)
        self.tag = "fh" + secrets.token_hex(6)
        self.token = secrets.token_hex(8)
        self.facts: dict[str, Any] = {
            "tag": self.tag,
            "ran": "fr" + secrets.token_hex(6),
            "hello": "h" + secrets.token_hex(6),
            "token": self.token,
        }
        self.terminal, self.master = terminal, master
        self.inherited: list[int] = []
        self.env: dict[str, str] = {}
        self.read: tuple[str, ...] = ()
        self.kept: dict[str, Any] = {}
        self.owned = contextlib.ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="fh-scene-"))
        self.owned.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self.work: Path | None = None
        self.facts["folder"] = str(self.folder)
        try:
            for need in needs:
                PARTS[need](self)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.owned.close()

    def path(self, name: str) -> Path:
        return self.folder / name

    def inherit(self, fd: int) -> int:
        """Let *fd* be inherited by whatever is started; closed with the scene."""
        self.inherited.append(fd)
        self.owned.callback(os.close, fd)
        os.set_inheritable(fd, True)
        return fd


PARTS: dict[str, Callable[[Scene], None]] = {}


def part(make: Callable[[Scene], None]) -> Callable[[Scene], None]:
    PARTS[make.__name__] = make
    return make


# --- files -------------------------------------------------------------------------------------------


@part
def secret(scene: Scene) -> None:
    """A file of the same user that holds the nonce, beside the working folder."""
    file = scene.path("secret")
    file.write_text(scene.nonce)
    scene.facts["secret"] = str(file)


@part
def work(scene: Scene) -> None:
    """A working folder on the host."""
    scene.work = scene.path("work")
    scene.work.mkdir()
    scene.work.chmod(0o777)
    scene.facts["work"] = str(scene.work)


@part
def git(scene: Scene) -> None:
    """The working folder is a repository."""
    hooks = scene.path("work") / ".git" / "hooks"
    hooks.mkdir(parents=True)
    (hooks.parent / "config").write_text("[core]\n")
    scene.kept["git"] = hooks.parent.stat().st_ino


@part
def outside(scene: Scene) -> None:
    """A folder that anybody may write, and a file in it."""
    folder = scene.path("outside")
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "victim").write_text("untouched")
    scene.facts["outside"] = str(folder)


@part
def layers(scene: Scene) -> None:
    """Two folders outside that an overlay could use."""
    outside(scene)
    for name in ("upper", "changes"):
        scene.path(f"outside/{name}").mkdir(mode=0o777)


@part
def shown(scene: Scene) -> None:
    """A folder that the job is shown read-only."""
    folder = scene.path("shown")
    folder.mkdir()
    (folder / "file").write_text("untouched")
    scene.read = (str(folder),)
    scene.facts["shown"] = str(folder)


@part
def many(scene: Scene) -> None:
    """One of 4096 names exists. Which one is what an attack finds out."""
    scene.kept["which"] = secrets.randbelow(4096)
    folder = scene.path("many")
    folder.mkdir()
    (folder / f"n{scene.kept['which']}").mkdir()
    scene.facts["many"] = str(folder)


@part
def marked(scene: Scene) -> None:
    """A file whose attributes hold what there is to find out."""
    file = scene.path("marked")
    file.write_text("x")
    scene.kept["time"] = secrets.randbelow(10**9)
    os.utime(file, ns=(10**18, 10**18 + scene.kept["time"]))
    os.setxattr(file, "user.note", scene.nonce.encode())
    os.setxattr(file, f"user.{scene.nonce}", b"x")
    scene.path("link").symlink_to("/" + scene.nonce)
    scene.facts |= {"marked": str(file), "link": str(scene.path("link"))}


@part
def busy(scene: Scene) -> None:
    """A folder in which a file with the nonce for its name is made over and over."""
    folder = scene.path("busy")
    folder.mkdir()
    scene.facts["busy"] = str(folder)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.01):
            (folder / scene.nonce).write_text("x")
            (folder / scene.nonce).unlink()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    scene.owned.callback(thread.join)
    scene.owned.callback(stop.set)


@part
def telling(scene: Scene) -> None:
    """A folder with a file whose name is what there is to find out."""
    folder = scene.path("telling")
    folder.mkdir()
    (folder / scene.nonce).write_text("x")
    scene.facts["telling"] = str(folder)


@part
def fifo(scene: Scene) -> None:
    """A named pipe that the harness reads."""
    file = scene.path("fifo")
    os.mkfifo(file, 0o666)
    scene.kept["fifo"] = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    scene.owned.callback(os.close, scene.kept["fifo"])
    scene.facts["fifo"] = str(file)


# --- descriptors -------------------------------------------------------------------------------------


@part
def inherited_secret(scene: Scene) -> None:
    """A descriptor of the secret that the caller forgot to close."""
    secret(scene)
    scene.facts["fd"] = scene.inherit(os.open(scene.path("secret"), os.O_RDONLY))


@part
def inherited_folder(scene: Scene) -> None:
    secret(scene)
    scene.facts["fd"] = scene.inherit(os.open(scene.folder, os.O_RDONLY | os.O_DIRECTORY))


@part
def inherited_pipe(scene: Scene) -> None:
    """A pipe with the nonce in it."""
    r, w = os.pipe()
    os.write(w, scene.nonce.encode())
    os.close(w)
    scene.facts["fd"] = scene.inherit(r)


@part
def inherited_writer(scene: Scene) -> None:
    outside(scene)
    scene.facts["fd"] = scene.inherit(os.open(scene.path("outside") / "victim", os.O_WRONLY))


@part
def inherited_socket(scene: Scene) -> None:
    ours, theirs = socket.socketpair()
    scene.owned.callback(ours.close)
    scene.kept["socket"] = ours
    scene.facts["fd"] = scene.inherit(theirs.detach())


# --- secrets of the caller ---------------------------------------------------------------------------


@part
def env(scene: Scene) -> None:
    """The caller holds a secret in its environment."""
    scene.env["FH_CALLERS_SECRET"] = scene.nonce


def _key(scene: Scene, ring: int) -> None:
    number = syscall(248, b"user", scene.token.encode(), scene.nonce.encode(), len(scene.nonce), ring)
    syscall(250, 5, number, 0x3F3F0000)  # KEYCTL_SETPERM: possessor and user, everything
    scene.kept["key"] = number
    scene.owned.callback(_quietly, 250, 9, number, ring)  # KEYCTL_UNLINK


@part
def session_key(scene: Scene) -> None:
    _key(scene, -3)


@part
def user_key(scene: Scene) -> None:
    _key(scene, -4)


@part
def shm(scene: Scene) -> None:
    """A System V segment that holds the nonce."""
    number = syscall(29, 0, 4096, 0o1666)
    scene.owned.callback(_quietly, 31, number, 0, 0)
    _libc.shmat.restype = ctypes.c_void_p
    at = _libc.shmat(number, None, 0)
    scene.owned.callback(_libc.shmdt, ctypes.c_void_p(at))
    ctypes.memmove(at, scene.nonce.encode(), 24)
    scene.facts["shm"], scene.kept["shm"] = number, at


@part
def keyed_shm(scene: Scene) -> None:
    """A segment whose key is what there is to find out."""
    scene.kept["ipc_key"] = secrets.randbelow(2**30) + 2**20
    number = syscall(29, scene.kept["ipc_key"], 4096, 0o1666)
    scene.owned.callback(_quietly, 31, number, 0, 0)
    scene.facts["shm"] = number


@part
def sem(scene: Scene) -> None:
    """A System V semaphore with a value to find out."""
    number = syscall(64, 0, 1, 0o1666)
    scene.owned.callback(_quietly, 66, number, 0, 0)
    scene.kept["value"] = 1000 + secrets.randbelow(30_000)
    syscall(66, number, 0, 16, scene.kept["value"])
    scene.facts["sem"] = number


@part
def queue(scene: Scene) -> None:
    """A System V message queue that holds the nonce."""
    number = syscall(68, 0, 0o1666)
    scene.owned.callback(_quietly, 71, number, 0, 0)
    body = struct.pack("=q", 1) + scene.nonce.encode()
    syscall(69, number, body, len(scene.nonce), 0)
    scene.facts["queue"] = number


@part
def posix_queue(scene: Scene) -> None:
    """A POSIX message queue that holds the nonce."""
    name = scene.token.encode()
    fd = syscall(240, name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666, 0)
    scene.owned.callback(_quietly, 241, name)
    scene.owned.callback(os.close, fd)
    syscall(242, fd, scene.nonce.encode(), 24, 1, 0)
    scene.kept["mq"] = fd
    scene.facts["mq"] = scene.token


@part
def posix_shm(scene: Scene) -> None:
    """A file in the host's /dev/shm."""
    file = Path("/dev/shm") / scene.token
    file.write_text(scene.nonce)
    scene.owned.callback(file.unlink, missing_ok=True)
    scene.kept["shm_file"] = file
    scene.facts["shm_name"] = str(file)


# --- other processes ---------------------------------------------------------------------------------


def _decoy(scene: Scene, *words: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", _DECOY, str(scene.folder), *words]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"DECOY_SECRET": scene.nonce},
        start_new_session=True,
        text=True,
    )
    scene.owned.callback(_ended, process)
    assert process.stdin and process.stdout
    process.stdin.write(f"{scene.nonce}\n")
    process.stdin.flush()
    fields = process.stdout.readline().split()
    if not fields:
        raise RuntimeError("the decoy did not start")
    scene.kept |= {"decoy": process, "buffer": int(fields[0]), "decoy_fd": int(fields[1])}


def _ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


def ask(scene: Scene, question: str) -> str:
    """What the decoy answers."""
    process = scene.kept["decoy"]
    process.stdin.write(question + "\n")
    process.stdin.flush()
    return str(process.stdout.readline().strip())


@part
def decoy(scene: Scene) -> None:
    """Another process of the same user, with the nonce in its memory and environment."""
    _decoy(scene)
    scene.facts |= {
        "decoy": scene.kept["decoy"].pid,
        "buffer": scene.kept["buffer"],
        "decoy_fd": scene.kept["decoy_fd"],
    }


@part
def hidden_decoy(scene: Scene) -> None:
    """A decoy of which the payload is told only in which thousand its number lies."""
    _decoy(scene)
    scene.facts["from"] = scene.kept["decoy"].pid // 1000 * 1000


@part
def argument_decoy(scene: Scene) -> None:
    """A decoy that was given the nonce as an argument."""
    _decoy(scene, scene.nonce)
    scene.facts["decoy"] = scene.kept["decoy"].pid


@part
def jailed_decoy(scene: Scene) -> None:
    """A decoy in namespaces of its own, with a memory file system that holds the nonce, and a listener."""
    scene.path("inner").mkdir()
    _decoy(scene, "namespaces")
    scene.facts |= {"decoy": scene.kept["decoy"].pid, "inner": str(scene.path("inner"))}


# --- listeners ---------------------------------------------------------------------------------------


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


@part
def locked(scene: Scene) -> None:
    """A file that the harness holds a lock on."""
    file = os.open(scene.path("locked"), os.O_RDWR | os.O_CREAT, 0o644)
    scene.owned.callback(os.close, file)
    fcntl.lockf(file, fcntl.LOCK_EX)
    scene.kept["inode"] = os.fstat(file).st_ino


@part
def tty(scene: Scene) -> None:
    """The caller has a terminal."""
    scene.facts["tty"] = os.ttyname(scene.terminal)


@part
def typing(scene: Scene) -> None:
    """The user has typed something ahead."""
    os.write(scene.master, scene.nonce.encode() + b"\n")
    time.sleep(0.01)


@contextlib.contextmanager
def made(needs: tuple[str, ...], *, terminal: int, master: int) -> Iterator[Scene]:
    scene = Scene(needs, terminal=terminal, master=master)
    try:
        yield scene
    finally:
        scene.close()
