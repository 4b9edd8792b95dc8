"""Jobs that take all they can get: the host stays responsive, the reason is the kernel's or the supervisor's
own word, and everything is gone afterwards.

While a bomb goes off, a thread measures how late it is woken, and a second small job how long it takes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fumehood import confine
from fumehood.confine import Spec, procs
from fumehood.confine.api import _CLIENT

MIB = 1 << 20
LIMITS = {
    "memory_bytes": 256 * MIB,
    "disk_bytes": 32 * MIB,
    "file_bytes": 8 * MIB,
    "inodes": 2000,
    "processes": 32,
}
#: Without namespaces the kernel counts all of the user's: also jails that wait, which may become fewer.
MORE_PROCESSES = 16
#: On a busy machine; a host that is brought down answers in minutes, or never.
LATE_S, SLOW_S = 3.0, 10.0
#: How a bomb may end that only runs into limits of the kernel's, which it may survive until the deadline.
HELD = {"exited", "deadline"}


@dataclass(frozen=True)
class Bomb:
    """One bomb. `full` and `other` are how it may end in the two tiers."""

    name: str
    source: str
    full: set[str]
    other: set[str] | None = None
    timeout_s: float = 1.0
    limits: dict[str, int] = field(default_factory=dict)

    def endings(self, tier: str) -> set[str]:
        return self.full if tier == "full" or self.other is None else self.other


FORKS = """
import os
while True:
    try: os.fork()
    except OSError: pass
"""
COMETS = """
import os
while True:
    try:
        if os.fork(): os._exit(0)
        os.setsid()
    except OSError: pass
"""
SHELL_FORKS = "import os; os.execvp('sh', ['sh', '-c', 'b() { b | b & }; b; sleep 60'])"
ANONYMOUS = "kept = []\nwhile True: kept.append(b'x' * (1 << 20))"
OF_MANY = """
import os, time
for _ in range(20):
    if not os.fork(): break
kept = os.urandom(1 << 20) * 60
time.sleep(60)
"""
SHARED = """
import mmap, os, time
for _ in range(20):
    if not os.fork(): break
kept = mmap.mmap(-1, 60 << 20)
for page in range(0, len(kept), 4096): kept[page] = 1
time.sleep(60)
"""
MEMFD = """
import os, time
kept = []
while True:
    fd = os.memfd_create("x")
    kept.append(fd)
    os.write(fd, bytes(4 << 20))
"""
PIPES = """
import os, time
kept = []
while True:
    try: read, write = os.pipe()
    except OSError: break
    os.set_blocking(write, False)
    kept.append(os.write(write, bytes(1 << 20)))
print(len(kept))
"""
DISK = """
n = 0
while True:
    with open(f"f{n}", "wb") as file:
        for _ in range(7): file.write(bytes(1 << 20))
    n += 1
"""
INODES = "n = 0\nwhile True:\n    open(f'f{n}', 'w').close()\n    n += 1"
FOLDERS = """
import os
for n in range(1500):
    os.mkdir("d" * 50)
    os.chdir("d" * 50)
print("deep")
"""
OUTPUT = """
import os
if os.fork(): fd = 1
else: fd = 2
for _ in range(1024): os.write(fd, bytes(1 << 20))
"""
THREADS = """
import threading, time
count = 0
for _ in range(10**6):
    try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    except RuntimeError: break
    count += 1
import os
os.write(1, str(count).encode())
os._exit(0)
"""
FILE = "with open('f', 'wb') as file:\n    while True: file.write(bytes(1 << 20))"
SPARSE = "with open('f', 'wb') as file: file.truncate(1 << 40)"
FILES = """
import os
count = 0
try:
    while True:
        os.open('.', os.O_RDONLY)
        count += 1
except OSError: pass
os.write(1, str(count).encode())
"""
DEAF = """
import signal, time
for number in signal.valid_signals() - {9, 19}: signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True: time.sleep(60)
"""
ZOMBIES = """
import os, time
while True:
    try:
        if not os.fork(): os._exit(0)
    except OSError: time.sleep(0.01)
"""
TIMERS = """
import signal
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)
while True: pass
"""
BOMBS = (
    Bomb("forks", FORKS, {"deadline", "processes"}),
    Bomb("forks and leaves", COMETS, {"exited"}, timeout_s=10),
    Bomb("forks in a shell", SHELL_FORKS, {"deadline", "processes"}),
    Bomb("anonymous memory", ANONYMOUS, {"exited", "memory"}, timeout_s=10),
    Bomb("memory of many", OF_MANY, {"memory"}, timeout_s=10),
    Bomb("shared memory", SHARED, {"memory"}, timeout_s=10),
    Bomb("memory files", MEMFD, {"exited", "memory"}, timeout_s=10),
    Bomb("pipes", PIPES, {"exited"}, timeout_s=10),
    Bomb("disk", DISK, {"exited"}, {"disk"}, timeout_s=10),
    Bomb("inodes", INODES, {"exited"}, {"disk"}, timeout_s=10),
    Bomb("folders in folders", FOLDERS, {"exited"}, {"exited", "disk"}, timeout_s=10),
    Bomb("output", OUTPUT, {"output"}, timeout_s=20),
    Bomb("threads", THREADS, {"exited"}, timeout_s=20),
    Bomb("one large file", FILE, {"exited", "signal"}, timeout_s=10),
    Bomb("one sparse file", SPARSE, {"exited", "signal"}, timeout_s=10),
    Bomb("open files", FILES, {"exited"}, timeout_s=10),
    Bomb("spins", "while True: pass", {"deadline"}),
    Bomb("spins beyond its time", "while True: pass", {"cpu"}, timeout_s=20, limits={"cpu_s": 1}),
    Bomb("hears no signal", DEAF, {"deadline"}),
    Bomb("zombies", ZOMBIES, {"deadline"}, {"deadline", "processes"}),
    Bomb("timers", TIMERS, {"deadline"}),
)


class Watch:
    """A thread that sleeps for 10 ms again and again, and notes how late it was woken."""

    def __init__(self) -> None:
        self.latest_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            time.sleep(0.01)
            self.latest_s = max(self.latest_s, time.monotonic() - began - 0.01)


def go_off(spec: Spec) -> confine.Outcome:
    """The outcome of a bomb during which the host stayed responsive."""
    with Watch() as watch:
        job = confine.start(spec)
        time.sleep(0.2)
        began = time.monotonic()
        small = confine.python("print(1)", tier=spec.tier, timeout_s=SLOW_S)
        took_s = time.monotonic() - began
        outcome = job.wait()
    assert (small.stdout, took_s < SLOW_S) == (b"1\n", True), (small, took_s)
    assert watch.latest_s < LATE_S
    return outcome


def of_jobs() -> list[int]:
    """Whoever is below the supervisor and not of its session, as all jobs are once they run, and zombies."""
    assert _CLIENT._spawner
    supervisor = _CLIENT._spawner.pid
    found = []
    for pid in procs.descendants(supervisor):
        with contextlib.suppress(ProcessLookupError):
            found += [pid] if os.getsid(pid) != os.getsid(supervisor) or procs.is_zombie(pid) else []
    return found


#: As `folders.make` names them; the demo has folders of its own there.
PRIVATE = f"fumehood-{'[0-9a-f]' * 16}-{'[0-9a-f]' * 8}"


def left_on_disk() -> list[Path]:
    """Private folders that hold something."""
    assert _CLIENT._spawner
    found = []
    for path in Path("/tmp").glob(PRIVATE):
        with contextlib.suppress(OSError):
            found += [path] if path.stat().st_uid == _CLIENT._spawner.identity and any(path.iterdir()) else []
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    end = time.monotonic() + 10
    while of_jobs() or left_on_disk():
        assert time.monotonic() < end, (of_jobs(), left_on_disk())
        time.sleep(0.02)


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
def test_a_bomb_is_held_and_says_why(bomb: Bomb, tier: str) -> None:
    limits = {**LIMITS, **bomb.limits}
    outcome = go_off(Spec(source=bomb.source, tier=tier, timeout_s=bomb.timeout_s, limits=limits))
    assert outcome.exit.kind in bomb.endings(tier), outcome
    assert outcome.duration_s < bomb.timeout_s + 5


def test_no_more_threads_than_processes(tier: str) -> None:
    outcome = go_off(Spec(source=THREADS, tier=tier, timeout_s=20, limits=LIMITS))
    assert 0 < int(outcome.stdout) <= LIMITS["processes"] + (MORE_PROCESSES if tier != "full" else 0)


def test_no_more_output_than_is_kept(tier: str) -> None:
    outcome = go_off(Spec(source=OUTPUT, tier=tier, timeout_s=20, limits={**LIMITS, "output_bytes": 2 * MIB}))
    assert outcome.exit.kind == "output"
    assert len(outcome.stdout) <= 2 * MIB
    assert len(outcome.stderr) <= 2 * MIB


@pytest.mark.parametrize("words", [["x" * (1 << 18)], ["x" * 1000] * 5000], ids=["one", "many"])
def test_words_that_are_too_long_are_the_kernels_refusal(words: list[str], tier: str) -> None:
    outcome = confine.run(["/bin/echo", *words], profile="shell", tier=tier)
    assert (outcome.exit.kind, outcome.exit.code) == ("not_started", 7)  # E2BIG


def test_variables_that_are_too_long_are_the_kernels_refusal(tier: str) -> None:
    outcome = confine.run(["/bin/true"], env={"X": "x" * (1 << 18)}, profile="shell", tier=tier)
    assert (outcome.exit.kind, outcome.exit.code) == ("not_started", 7)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
def test_four_bombs_at_once_for_longer(bomb: Bomb, tier: str) -> None:
    spec = Spec(source=bomb.source, tier=tier, timeout_s=max(8.0, bomb.timeout_s))
    jobs = [confine.start(spec) for _ in range(3)]
    outcomes = [go_off(spec), *(job.wait() for job in jobs)]
    assert {outcome.exit.kind for outcome in outcomes} <= bomb.endings(tier) | HELD, outcomes
