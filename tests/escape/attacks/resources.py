"""Taking more files, time and output than the limits say, or what its user has only once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Oracle, Run
from escape.scene import Scene

_attack = partial(Attack, kind="resources", live=True)


_MIB: Final = 1 << 20


_SMALL_DISK: Final = {"disk_bytes": 8 * _MIB, "file_bytes": 64 * _MIB}


def _bytes_below(scene: Scene) -> int:
    """What lies in its working folder."""
    total = 0
    for pid in witness.named(scene.tag)[:1]:
        for folder, _, names in os.walk(f"/proc/{pid}/cwd"):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(f"{folder}/{name}").st_blocks * 512
    return total


def _held_bytes(scene: Scene) -> int:
    """What its open files take on disk, with a name or without."""
    total = 0
    for pid in witness.named(scene.tag):
        for fd in witness.numbers(pid):
            with contextlib.suppress(OSError):
                total += os.stat(f"/proc/{pid}/fd/{fd}").st_blocks * 512
    return total


def _mapped_bytes(scene: Scene) -> int:
    """What is there of files without a name that are mapped."""
    total, counts = 0, False
    for line in [
        line for pid in witness.named(scene.tag) for line in witness.text(pid, "smaps").splitlines()
    ]:
        if "-" in line.split()[0]:
            counts = line.endswith("(deleted)")
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def _files_below(scene: Scene) -> int:
    pids = witness.named(scene.tag)
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pids[0]}/cwd")) if pids else 0
    return 0


def _lasting(amount: Callable[[Scene], int], least: int) -> Oracle:
    """It holds *least* or more, and still does when two looks of the supervisor have passed."""
    begun: dict[str, float] = {}

    def seen(scene: Scene, run: Run) -> bool:
        if amount(scene) < least:
            return False
        return time.monotonic() - begun.setdefault(scene.tag, time.monotonic()) > 1.2

    return seen


_disk = _lasting(_bytes_below, 32 * _MIB)


def _still_alive(after_s: float) -> Oracle:
    """It runs although its time is long over."""
    begun: dict[str, float] = {}

    def seen(scene: Scene, run: Run) -> bool:
        pids = [pid for pid in witness.named(scene.tag) if witness.is_alive(pid)]
        if not pids:
            return False
        return time.monotonic() - begun.setdefault(scene.tag, time.monotonic()) > after_s

    return seen


def _processor_s(least: float) -> Oracle:
    return lambda scene, run: any(witness.processor_s(pid) >= least for pid in witness.named(scene.tag))


def _inotify_is_used_up(scene: Scene, run: Run) -> bool:
    """The harness, who is the same user, gets none any more."""
    fd = ctypes.CDLL(None).inotify_init1(0)
    if fd < 0:
        return True
    os.close(fd)
    return False


def _signals_pend(scene: Scene, run: Run) -> bool:
    """So many signals pend for the user that others of his programs will soon get none."""
    return int(witness.field(os.getpid(), "SigQ").split("/")[0]) >= 20_000


def _user_has_no_pipes(scene: Scene, run: Run) -> bool:
    """New pipes of the same user are small, because his share is used up."""
    import fcntl

    r, w = os.pipe()
    size = fcntl.fcntl(r, 1032)
    os.close(r)
    os.close(w)
    return size < 65536


def _lease_is_held(scene: Scene, run: Run) -> bool:
    """The host cannot open its own file for writing."""
    try:
        os.close(os.open(scene.path("shown") / "file", os.O_WRONLY | os.O_NONBLOCK))
    except BlockingIOError:
        return True
    return False


ATTACKS: Final = (
    _attack(
        id="resource-open-files",
        tries="opens files without end",
        oracle=lambda scene, run: any(len(witness.numbers(pid)) >= 1100 for pid in witness.named(scene.tag)),
        payload="""
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
fds = [os.open('/dev/null', os.O_RDONLY) for _ in range(1200)]
hold()
""",
    ),
    _attack(
        id="resource-raise-limit",
        tries="raises a limit of its own (setrlimit)",
        oracle=lambda scene, run: any(
            "Max core file size        unlimited" in witness.limits(pid) for pid in witness.named(scene.tag)
        ),
        payload="""
import resource
resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
hold()
""",
    ),
    _attack(
        id="resource-disk",
        tries="fills its folder with files",
        limits=_SMALL_DISK,
        oracle=_disk,
        payload="""
for n in range(10):
    with open(str(n), 'wb') as f: f.write(bytes(4 << 20))
hold()
""",
    ),
    _attack(
        id="resource-disk-deleted",
        tries="fills its folder with a file that has no name any more",
        limits=_SMALL_DISK,
        oracle=_lasting(_held_bytes, 32 * _MIB),
        payload="""
fd = os.open('x', os.O_RDWR | os.O_CREAT)
os.unlink('x')
if os.write(fd, bytes(40 << 20)) < 40 << 20: raise OSError(errno.ENOSPC, 'cut')
hold()
""",
    ),
    _attack(
        id="resource-disk-nameless",
        tries="fills its folder with a file that never had a name (O_TMPFILE)",
        limits=_SMALL_DISK,
        oracle=_lasting(_held_bytes, 32 * _MIB),
        payload="""
fd = os.open('.', os.O_RDWR | os.O_TMPFILE, 0o600)
if os.write(fd, bytes(40 << 20)) < 40 << 20: raise OSError(errno.ENOSPC, 'cut')
hold()
""",
    ),
    _attack(
        id="resource-disk-mapped",
        tries="fills its folder with a file that has no name and is only mapped, not open",
        limits=_SMALL_DISK,
        oracle=_lasting(_mapped_bytes, 32 * _MIB),
        payload="""
fd = os.open('x', os.O_RDWR | os.O_CREAT)
os.unlink('x')
os.posix_fallocate(fd, 0, 40 << 20)
at = raw_mmap(40 << 20, 3, 1, fd)
os.close(fd)
ctypes.memset(at, 1, 40 << 20)
hold()
""",
    ),
    _attack(
        id="resource-disk-reserved",
        tries="reserves space without writing (fallocate)",
        limits=_SMALL_DISK,
        oracle=_disk,
        payload="""
fd = os.open('x', os.O_RDWR | os.O_CREAT)
os.posix_fallocate(fd, 0, 40 << 20)
hold()
""",
    ),
    _attack(
        id="resource-file-size",
        tries="makes one huge file in a folder of the host",
        needs=("work",),
        live=False,
        oracle=lambda scene, run: (scene.path("work") / "x").stat().st_size >= 1 << 40,
        payload="""
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
open('x', 'wb').truncate(1 << 40)
""",
    ),
    _attack(
        id="resource-inodes",
        tries="makes files without end",
        limits={"inodes": 100},
        oracle=_lasting(_files_below, 2000),
        payload="""
for n in range(2500): os.close(os.open(f'f{n}', os.O_CREAT))
hold()
""",
    ),
    _attack(
        id="resource-folders",
        tries="makes folders without end",
        limits={"inodes": 100},
        oracle=_lasting(_files_below, 2000),
        payload="""
for n in range(2500): os.mkdir(f'f{n}')
hold()
""",
    ),
    _attack(
        id="resource-links",
        tries="makes symbolic links without end",
        limits={"inodes": 100},
        oracle=_lasting(_files_below, 2000),
        payload="""
for n in range(2500): os.symlink('x', f'f{n}')
hold()
""",
    ),
    _attack(
        id="resource-output",
        tries="prints without end",
        live=False,
        limits={"output_bytes": 65536},
        oracle=lambda scene, run: len(run.stdout) >= 4 * _MIB,
        payload="""
for _ in range(64): os.write(1, bytes(65536))
os.write(1, bytes(65536))
""",
    ),
    _attack(
        id="resource-errors",
        tries="prints to its other stream without end",
        live=False,
        limits={"output_bytes": 65536},
        oracle=lambda scene, run: len(run.stderr) >= 4 * _MIB,
        payload="""
for _ in range(64): os.write(2, bytes(65536))
os.write(2, bytes(65536))
""",
    ),
    _attack(
        id="resource-time",
        tries="sleeps longer than it may run",
        limits={"timeout_s": 0.3},
        oracle=_still_alive(1.0),
        payload="hold(3)",
    ),
    _attack(
        id="resource-time-stopped",
        tries="stops itself, so that it does not see its time end",
        limits={"timeout_s": 0.3},
        oracle=_still_alive(1.0),
        payload="os.kill(os.getpid(), signal.SIGSTOP)",
    ),
    _attack(
        id="resource-time-of-child",
        tries="lets a child with a session of its own run on",
        limits={"timeout_s": 0.3},
        oracle=_still_alive(1.0),
        payload="""
if os.fork() == 0: os.setsid()
hold(3)
""",
    ),
    _attack(
        id="resource-processor",
        tries="computes for longer than its processor time",
        limits={"cpu_s": 1},
        timeout_s=20.0,
        oracle=_processor_s(2.6),
        payload="""
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while time.process_time() < 3: pass
""",
    ),
    _attack(
        id="resource-inotify",
        tries="takes all queues of file events that its user may have",
        oracle=_inotify_is_used_up,
        payload="""
for _ in range(200):
    try: checked(libc.inotify_init1(0))
    except OSError as error:
        if error.errno != errno.EMFILE: raise
hold()
""",
    ),
    _attack(
        id="resource-signals",
        tries="has so many signals queued that its user's other programs get none",
        oracle=_signals_pend,
        payload="""
signal.pthread_sigmask(0, [40])
info = struct.pack('=iii', 40, 0, -1) + bytes(116)
for _ in range(30_000): sc('rt_sigqueueinfo', os.getpid(), 40, info)
hold()
""",
    ),
    _attack(
        id="resource-timers",
        tries="makes timers without end, each of which keeps a signal ready",
        oracle=_signals_pend,
        payload="""
for _ in range(30_000):
    sc(222, 0, struct.pack('=QiiQ', 0, 40, 0, 0) + bytes(40), ctypes.byref(ctypes.c_int()))
hold()
""",
    ),
    _attack(
        id="resource-pipes",
        tries="uses up the memory for pipes that its user may have, by enlarging a few",
        profile="strictest",
        oracle=_user_has_no_pipes,
        payload="""
kept = []
for _ in range(80):
    r, w = os.pipe()
    kept.append((r, w))
    try: fcntl.fcntl(w, 1031, 1 << 20)
    except PermissionError: break
kept += [os.pipe() for _ in range(40)]
hold()
""",
    ),
    _attack(
        id="resource-lease",
        tries="takes a lease on a file that it may read, which keeps the host from writing it",
        needs=("shown",),
        oracle=_lease_is_held,
        payload="""
fcntl.fcntl(os.open(F['shown'] + '/file', os.O_RDONLY), 1024, 0)
hold()
""",
    ),
)
