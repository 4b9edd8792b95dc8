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
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long


def syscall(number: int, *words: Any) -> int:
    """The raw system call, made by the harness. Raises OSError."""
    result = LIBC.syscall(
        ctypes.c_long(number), *[ctypes.c_long(w) if isinstance(w, int) else w for w in words]
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def quietly(number: int, *words: Any) -> None:
    """For what an attack may have taken away already."""
    with contextlib.suppress(OSError):
        syscall(number, *words)


def _remove(folder: Path) -> None:
    """Whatever modes an attack has left: a folder is opened before it is looked into."""
    for path, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(inner := os.path.join(path, name)):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


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
        self.owned.callback(_remove, self.folder)
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
