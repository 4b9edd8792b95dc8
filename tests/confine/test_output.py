"""A job's output as it comes: in time, complete, and whatever the caller does or does not do with it."""

from __future__ import annotations

import asyncio
import glob
import os
import tempfile
from collections.abc import Callable

import pytest

from confine.test_lifetime import sleeps_below, wait_until
from fumehood import confine
from fumehood.confine import Outcome, Spec, folders, handle
from fumehood.confine.api import _CLIENT

CAP = 1 << 20
#: Waiting, and awaiting.
WAYS: dict[str, Callable[[confine.Job], Outcome]] = {
    "wait": lambda job: job.wait(),
    "finished": lambda job: asyncio.run(_finished(job)),
}


async def _finished(job: confine.Job) -> Outcome:
    return await job.finished()


def each_way() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


class Listener:
    """Keeps what it is told, and ends *job* when it has been told *enough*."""

    def __init__(self, enough: int = 0) -> None:
        self.pieces: list[tuple[str, bytes]] = []
        self.job: confine.Job | None = None
        self._enough = enough

    def __call__(self, name: str, piece: bytes) -> None:
        self.pieces.append((name, piece))
        if self.job and sum(len(piece) for _, piece in self.pieces) >= self._enough:
            self.job.kill()

    def heard(self, wanted: str) -> bytes:
        return b"".join(piece for name, piece in self.pieces if name == wanted)


def started(listener: Callable[[str, bytes], None], **fields: object) -> confine.Job:
    job = confine.start(Spec(on_output=listener, **fields))  # type: ignore[arg-type]
    if isinstance(listener, Listener):
        listener.job = job
    return job


# --- in time -----------------------------------------------------------------------------------------


@each_way()
def test_a_piece_is_told_while_the_job_runs(way: Callable[[confine.Job], Outcome], tier: str) -> None:
    """The job ends only because its caller has heard of it, and ends it."""
    listener = Listener(enough=6)
    source = "import time; print('first', flush=True); time.sleep(600)"
    outcome = way(started(listener, source=source, tier=tier, timeout_s=20))
    assert (outcome.exit.kind, listener.pieces) == ("stopped", [("stdout", b"first\n")])
    assert outcome.stdout == b"first\n"


@pytest.mark.parametrize("size", [30_000, 300_000])
def test_much_at_once_is_told_in_time(size: int) -> None:
    listener = Listener(enough=size)
    source = f"import os, sys, time; sys.stderr.write('x' * {size}); sys.stderr.flush(); time.sleep(600)"
    outcome = started(listener, source=source, timeout_s=20).wait()
    assert (outcome.exit.kind, len(listener.heard("stderr"))) == ("stopped", size)


def test_what_did_not_fit_is_told_although_nothing_more_is_said() -> None:
    """The caller is slow at first: the socket is full, and the job silent from then on."""
    listener = Listener(enough=CAP - 1)
    source = f"import os, time\nfor _ in range(15): os.write(1, b'x' * {CAP // 15})\ntime.sleep(600)"
    job = started(listener, source=source, timeout_s=20, limits={"output_bytes": 4 * CAP})
    listener._enough = CAP // 15 * 15
    wait_until(lambda: False, seconds=0.5)
    assert job.wait().exit.kind == "stopped"


# --- complete ----------------------------------------------------------------------------------------

SOURCES = {
    "nothing": ("pass", "exited"),
    "one character": ("print('x', end='')", "exited"),
    "every byte": ("import os\nfor fd in (1, 2): os.write(fd, bytes(range(256)) * 300)", "exited"),
    "both in turn": (
        "import os, time\nfor n in range(400): os.write(1 + n % 2, b'%d,' % n); time.sleep(n % 7 / 9000)",
        "exited",
    ),
    "up to the cap": (f"import os\nfor _ in range(16): os.write(1, b'x' * {CAP // 16})", "exited"),
    "one more than the cap": (
        f"import os\nos.write(2, b'e')\nfor _ in range({CAP} + 1): os.write(1, b'x')",
        "output",
    ),
    "without end": ("while True: print('x' * 10_000)", "output"),
    "a closed stream": (
        "import os, sys\nprint('out', flush=True); os.close(1); os.write(2, b'err')",
        "exited",
    ),
    "both closed": (
        "import os, time\nos.write(1, b'o'); os.close(1); os.close(2); time.sleep(0.2)",
        "exited",
    ),
    "what a child says": (
        "import os\nif not os.fork(): os.write(1, b'child'); os._exit(0)\nos.wait()",
        "exited",
    ),
}


@pytest.mark.parametrize(("source", "kind"), SOURCES.values(), ids=SOURCES)
def test_the_pieces_are_the_whole(source: str, kind: str, tier: str) -> None:
    listener = Listener()
    outcome = confine.python(source, tier=tier, on_output=listener)
    assert outcome.exit.kind == kind, outcome
    assert listener.heard("stdout") == outcome.stdout
    assert listener.heard("stderr") == outcome.stderr
    assert all(piece for _, piece in listener.pieces)
    assert len(outcome.stdout) <= CAP
    if kind == "output":
        assert len(outcome.stdout) == CAP


def test_many_jobs_are_told_of_at_once() -> None:
    source = "import sys, time\nfor _ in range(40): print(sys.argv[1], flush=True); time.sleep(0.01)"
    listeners = [Listener() for _ in range(24)]

    async def ask() -> list[Outcome]:
        jobs = (confine.apython(source, argv=[str(n)], on_output=one) for n, one in enumerate(listeners))
        return await asyncio.gather(*jobs)

    for number, (listener, outcome) in enumerate(zip(listeners, asyncio.run(ask()), strict=True)):
        assert listener.heard("stdout") == outcome.stdout == b"%d\n" % number * 40


# --- callers that are slow, fail, or never come -------------------------------------------------------


@each_way()
def test_a_slow_caller_is_told_everything(
    way: Callable[[confine.Job], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long after the job's deadline, when a supervisor that says nothing counts as dead."""
    monkeypatch.setattr(handle, "_GRACE_S", 0.3)
    heard = []

    def listen(_: str, piece: bytes) -> None:
        heard.append(piece)
        wait_until(lambda: False, seconds=0.06)

    pid = _CLIENT.spawner(()).pid
    source = "print('x' * 1_000_000)"
    outcome = way(started(listen, source=source, timeout_s=0.5))
    assert outcome.exit.kind == "exited"
    assert b"".join(heard) == outcome.stdout == b"x" * 1_000_000 + b"\n"
    assert _CLIENT.spawner(()).pid == pid


@each_way()
def test_a_caller_that_comes_late_is_told_everything(
    way: Callable[[confine.Job], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor has more to say than there was room for, and can only say it now."""
    monkeypatch.setattr(handle, "_GRACE_S", 0.3)
    pid = _CLIENT.spawner(()).pid
    listener = Listener()
    source = "import sys\nfor stream in (sys.stdout, sys.stderr): stream.write('x' * 1_000_000)"
    job = confine.start(Spec(source=source, timeout_s=0.5, on_output=listener))
    wait_until(lambda: False, seconds=1.0)
    assert way(job).exit.kind == "exited"
    assert listener.heard("stdout") == listener.heard("stderr") == b"x" * 1_000_000
    assert _CLIENT.spawner(()).pid == pid


@each_way()
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_a_caller_that_fails_ends_its_job(
    way: Callable[[confine.Job], Outcome], error: BaseException, tier: str
) -> None:
    def fail(name: str, piece: bytes) -> None:
        assert wait_until(lambda: sleeps_below(os.getpid()))
        raise error

    with tempfile.TemporaryDirectory() as folder:
        command = ["/bin/sh", "-c", "touch made; sleep 600 & echo a; sleep 600"]
        job = started(fail, argv=command, profile="shell", tier=tier, workdir=folder, timeout_s=60)
        with pytest.raises(type(error)):
            way(job)
        assert not sleeps_below(os.getpid())
        assert copies_of_ours() == []
        assert os.listdir(folder) == ["made"]
        with pytest.raises(type(error)):
            job.wait()
    assert confine.python("print(1)", tier=tier).stdout == b"1\n"


def copies_of_ours() -> list[str]:
    return glob.glob(folders.copies_of(os.getpid()) + "*")


def test_a_caller_that_fails_at_the_last_piece_is_told_so() -> None:
    def fail(name: str, piece: bytes) -> None:
        raise ValueError(piece)

    job = started(fail, source="print(end='\\x1b]end')", strip_ansi=True)
    with pytest.raises(ValueError, match="end"):
        job.wait()
    assert not job._sock.fileno() >= 0


def test_a_caller_that_fails_at_an_attempt_ends_its_job(tier: str) -> None:
    def fail(attempt: object) -> None:
        raise LookupError(attempt)

    source = "import time\ntry: open('/etc/passwd')\nexcept OSError: time.sleep(600)"
    job = confine.start(Spec(source=source, profile="model-loader", on_attempt=fail, tier=tier, timeout_s=20))
    with pytest.raises(LookupError, match="/etc/passwd"):
        job.wait()


def test_jobs_that_nobody_waits_for_cost_the_others_nothing() -> None:
    """Neither while they run, nor when they have ended: their last word waits for room without work."""
    source = "import sys\nfor stream in (sys.stdout, sys.stderr): stream.write('x' * 1_000_000)"
    forgotten = [started(Listener(), source=source) for _ in range(12)]
    held = [started(Listener(), source="while True: print('x' * 1000)") for _ in range(4)]
    pid = _CLIENT.spawner(()).pid
    for number in range(5):
        assert confine.python(f"print({number})").stdout == b"%d\n" % number
    wait_until(lambda: ticks(pid, over_s=0.2) < 5)
    assert sum(ticks(pid, over_s=0.2) for _ in range(5)) < 30  # of a hundred
    for job in forgotten:
        outcome = job.wait()
        assert outcome.stdout == job._spec.on_output.heard("stdout") == b"x" * 1_000_000
        assert outcome.stderr == job._spec.on_output.heard("stderr") == b"x" * 1_000_000
    assert {job.wait().exit.kind for job in held} == {"output"}


def ticks(pid: int, *, over_s: float) -> int:
    """What *pid* uses of the processor, in hundredths of a second."""

    def used() -> int:
        with open(f"/proc/{pid}/stat") as file:
            return sum(map(int, file.read().rsplit(") ", 1)[1].split()[11:13]))

    before = used()
    wait_until(lambda: False, seconds=over_s)
    return used() - before


def test_cancelling_leaves_no_copy_of_a_folder(tier: str) -> None:
    """As root the tier without namespaces works in a copy, which its caller has to bring home."""

    async def ask(folder: str) -> None:
        listening = asyncio.Event()
        command = ["/bin/sh", "-c", "touch made; sleep 600 & echo a; sleep 600"]
        spec = Spec(
            argv=command,
            profile="shell",
            tier=tier,  # type: ignore[arg-type]
            workdir=folder,
            timeout_s=60,
            on_output=lambda *_: listening.set(),
        )
        task = asyncio.create_task((await confine.astart(spec)).finished())
        await listening.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(ask(folder))
        assert wait_until(lambda: not sleeps_below(os.getpid()))
        assert wait_until(lambda: not copies_of_ours())


def test_a_job_that_is_dropped_ends_though_it_was_being_told_of() -> None:
    job = started(
        lambda *_: None,
        argv=["/bin/sh", "-c", "while sleep 0.02; do echo x; done & sleep 600"],
        profile="shell",
    )
    assert wait_until(lambda: sleeps_below(os.getpid()))
    del job
    assert wait_until(lambda: not sleeps_below(os.getpid()))


@each_way()
def test_a_job_that_reads_its_own_output_loses_what_it_has_read_and_no_more(
    way: Callable[[confine.Job], Outcome], tier: str
) -> None:
    """A pipe can be opened anew for reading, and is empty then for who comes to read it."""
    source = (
        "import os\n"
        "again = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)\n"
        "for _ in range(30_000):\n"
        "    os.write(1, b'x')\n"
        "    try: os.read(again, 1 << 16)\n"
        "    except BlockingIOError: pass\n"
        "os.close(again)\n"
        "print('the rest')\n"
    )
    ended = way(confine.start(Spec(source=source, tier=tier, timeout_s=20)))
    assert ended.exit.is_success, ended
    assert ended.stdout.endswith(b"the rest\n")
