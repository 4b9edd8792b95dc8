"""What is planted: what the caller keeps to itself, in its environment, its keys and its shared memory."""

from __future__ import annotations

import ctypes
import os
import secrets
import struct
from pathlib import Path

from escape.scene import LIBC, Scene, part, quietly, syscall


@part
def env(scene: Scene) -> None:
    """The caller holds a secret in its environment."""
    scene.env["FH_CALLERS_SECRET"] = scene.nonce


def _key(scene: Scene, ring: int) -> None:
    number = syscall(248, b"user", scene.token.encode(), scene.nonce.encode(), len(scene.nonce), ring)
    syscall(250, 5, number, 0x3F3F0000)  # KEYCTL_SETPERM: possessor and user, everything
    scene.kept["key"] = number
    scene.owned.callback(quietly, 250, 9, number, ring)  # KEYCTL_UNLINK


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
    scene.owned.callback(quietly, 31, number, 0, 0)
    LIBC.shmat.restype = ctypes.c_void_p
    at = LIBC.shmat(number, None, 0)
    scene.owned.callback(LIBC.shmdt, ctypes.c_void_p(at))
    ctypes.memmove(at, scene.nonce.encode(), 24)
    scene.facts["shm"], scene.kept["shm"] = number, at


@part
def keyed_shm(scene: Scene) -> None:
    """A segment whose key is what there is to find out."""
    scene.kept["ipc_key"] = secrets.randbelow(2**30) + 2**20
    number = syscall(29, scene.kept["ipc_key"], 4096, 0o1666)
    scene.owned.callback(quietly, 31, number, 0, 0)
    scene.facts["shm"] = number


@part
def sem(scene: Scene) -> None:
    """A System V semaphore with a value to find out."""
    number = syscall(64, 0, 1, 0o1666)
    scene.owned.callback(quietly, 66, number, 0, 0)
    scene.kept["value"] = 1000 + secrets.randbelow(30_000)
    syscall(66, number, 0, 16, scene.kept["value"])
    scene.facts["sem"] = number


@part
def queue(scene: Scene) -> None:
    """A System V message queue that holds the nonce."""
    number = syscall(68, 0, 0o1666)
    scene.owned.callback(quietly, 71, number, 0, 0)
    body = struct.pack("=q", 1) + scene.nonce.encode()
    syscall(69, number, body, len(scene.nonce), 0)
    scene.facts["queue"] = number


@part
def posix_queue(scene: Scene) -> None:
    """A POSIX message queue that holds the nonce."""
    name = scene.token.encode()
    fd = syscall(240, name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666, 0)
    scene.owned.callback(quietly, 241, name)
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
