"""Taking more processes and memory than the limits say. Limits are small here, so that tries are short."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Oracle, Run
from escape.scene import Scene

_attack = partial(Attack, kind="resources", live=True)


_MIB: Final = 1 << 20


_SMALL_MEMORY: Final = {"memory_bytes": 64 * _MIB}


_SMALL_DISK: Final = {"disk_bytes": 8 * _MIB, "file_bytes": 64 * _MIB}


def _many(least: int) -> Oracle:
    return lambda scene, run: len(witness.named(scene.tag)) >= least


def _threads(scene: Scene, run: Run) -> bool:
    return any(int(witness.field(pid, "Threads") or 0) >= 300 for pid in witness.named(scene.tag))


def _resident(least_mib: int) -> Oracle:
    """All its processes together, as the kernel counts them."""

    def seen(scene: Scene, run: Run) -> bool:
        return sum(witness.kib(pid, "VmRSS") for pid in witness.named(scene.tag)) >= least_mib * 1024

    return seen


def _status_kib(name: str, least_kib: int) -> Oracle:
    return lambda scene, run: any(witness.kib(pid, name) >= least_kib for pid in witness.named(scene.tag))


def _held_bytes(scene: Scene) -> int:
    """What its open files take on disk, with a name or without."""
    total = 0
    for pid in witness.named(scene.tag):
        for fd in witness.numbers(pid):
            with contextlib.suppress(OSError):
                total += os.stat(f"/proc/{pid}/fd/{fd}").st_blocks * 512
    return total


def _shared_file(scene: Scene, run: Run) -> bool:
    """Seen through its own root."""
    for pid in witness.named(scene.tag):
        with contextlib.suppress(OSError):
            return os.stat(f"/proc/{pid}/root/dev/shm/{scene.tag}").st_blocks * 512 >= 32 * _MIB
    return False


_TOUCH: Final = "m = bytearray(256 << 20)\nhold()"


ATTACKS: Final = (
    _attack(
        id="resource-processes",
        tries="starts processes without end",
        limits={"processes": 16},
        oracle=_many(100),
        payload="""
for _ in range(150):
    if os.fork() == 0: hold()
hold()
""",
    ),
    _attack(
        id="resource-processes-by-vfork",
        tries="starts programs without end",
        limits={"processes": 16},
        oracle=lambda scene, run: len(witness.with_word(scene.tag)) >= 100,
        payload="""
import subprocess
ps = [subprocess.Popen(['sh', '-c', 'sleep 2', F['tag']]) for _ in range(120)]
hold()
""",
    ),
    _attack(
        id="resource-threads",
        tries="starts threads without end",
        oracle=_threads,
        payload="""
import threading
threading.stack_size(65536)
for _ in range(400): threading.Thread(target=hold, daemon=True).start()
hold()
""",
    ),
    _attack(
        id="resource-memory",
        tries="takes memory",
        limits=_SMALL_MEMORY,
        oracle=_resident(250),
        payload=_TOUCH,
    ),
    _attack(
        id="resource-memory-strictest",
        tries="takes memory in small pieces (brk)",
        profile="strictest",
        limits=_SMALL_MEMORY,
        oracle=_resident(250),
        payload="""
libc.mallopt(-3, 1 << 30)
libc.malloc.restype = ctypes.c_void_p
for _ in range(256):
    at = libc.malloc(ctypes.c_size_t(1 << 20))
    if not at: raise MemoryError
    ctypes.memset(at, 1, 1 << 20)
hold()
""",
    ),
    _attack(
        id="resource-memory-shared",
        tries="takes shared memory, which no limit on data counts",
        limits=_SMALL_MEMORY,
        oracle=_resident(250),
        payload="""
m = mmap.mmap(-1, 256 << 20)
for at in range(0, 256 << 20, 4096): m[at] = 1
hold()
""",
    ),
    _attack(
        id="resource-memory-of-many",
        tries="takes memory in many processes, each below the limit",
        limits=_SMALL_MEMORY,
        oracle=_resident(350),
        payload="""
for _ in range(8):
    if os.fork() == 0:
        m = bytearray(48 << 20)
        hold()
hold()
""",
    ),
    _attack(
        id="resource-memory-of-files",
        tries="takes memory as files in /dev/shm",
        limits=_SMALL_DISK,
        oracle=_shared_file,
        payload="""
name = '/dev/shm/' + F['tag']
try:
    with open(name, 'wb') as f: f.write(bytes(40 << 20))
    hold(0.5)
finally: os.unlink(name)
""",
    ),
    _attack(
        id="resource-memory-file",
        tries="takes memory as a file in no file system (memfd_create)",
        oracle=lambda scene, run: _held_bytes(scene) >= 32 * _MIB,
        payload="""
fd = sc('memfd_create', b'x', 0)
os.write(fd, bytes(40 << 20))
hold()
""",
    ),
    _attack(
        id="resource-memory-locked",
        tries="keeps memory from being swapped out (mlock)",
        oracle=_status_kib("VmLck", 1024),
        payload="""
m = mmap.mmap(-1, 2 << 20)
checked(libc.mlock(ctypes.c_void_p(address(m)), ctypes.c_size_t(2 << 20)))
hold()
""",
    ),
    _attack(
        id="resource-address-space",
        tries="takes addresses without memory behind them",
        oracle=_status_kib("VmSize", 60 << 20),
        payload="""
raw_mmap(64 << 30, 0, 0x4022)
hold()
""",
    ),
    _attack(
        id="resource-page-tables",
        tries="has page tables made for memory that it does not have",
        limits={"memory_bytes": 512 * _MIB},
        oracle=_status_kib("VmPTE", 40 << 10),
        payload="""
at = raw_mmap(32 << 30, 1, 0x4022)
checked(libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(32 << 30), 15))
for n in range(0, 32 << 30, 2 << 20): ctypes.c_char.from_address(at + n).value
hold()
""",
    ),
)
