"""Who dies with whom; threads, forks, event loops; nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fumehood import confine
from fumehood.confine import Spec, procs

SLEEPER = (
    "import os, time\nfor _ in range(2):\n    os.fork()\n"
    "os.setsid() if os.getpid() != os.getsid(0) else 0\ntime.sleep(600)"
)


def wait_until(condition: object, *, seconds: float = 20.0) -> bool:
    """True as soon as it holds; generous, since the machine may be busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_below(pid: int) -> list[int]:
    return procs.descendants(pid)


def sleeps_below(pid: int) -> bool:
    """True if a `sleep` runs below *pid*; jails that wait for the next job do not count."""
    for found in all_below(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{found}/comm") as file:
            if file.read() == "sleep\n":
                return True
    return False


CALLER = textwrap.dedent(
    """
    import sys, threading
    from fumehood import confine
    from fumehood.confine.api import _CLIENT
    job = confine.start(confine.Spec(source=sys.argv[2], tier=sys.argv[1], timeout_s=300))
    print(_CLIENT._spawner.pid, flush=True)
    outcome = job.wait()
    print(outcome.exit.kind, flush=True)
    print(confine.python("print('again')", tier=sys.argv[1]).stdout.decode(), end="", flush=True)
    """
)


@contextlib.contextmanager
def caller(tier: str, source: str = SLEEPER) -> Iterator[tuple[subprocess.Popen[str], int, list[int]]]:
    """A process that runs one job: itself, its spawner, and every process below that."""
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, tier, source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    spawner = int(process.stdout.readline())
    grown = {"full": 9, "no-userns": 6}[tier]
    assert wait_until(lambda: len(all_below(spawner)) >= grown), "the job did not come up"
    assert wait_until(lambda: 3 in [len(all_below(pid)) for pid in procs.children(spawner)]), (
        "it has not forked"
    )
    below = all_below(spawner)
    try:
        yield process, spawner, below
    finally:
        process.kill()
        process.communicate()
        for pid in (spawner, *below):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL) if is_alive(pid) else None


@pytest.mark.parametrize("round_", range(3))
def test_nobody_survives_the_caller(tier: str, round_: int) -> None:
    with caller(tier) as (process, spawner, below):
        process.kill()
        assert wait_until(lambda: not any(map(is_alive, (spawner, *below))))


@pytest.mark.parametrize("round_", range(3))
def test_nobody_survives_the_spawner_and_the_caller_is_told(tier: str, round_: int) -> None:
    with caller(tier) as (process, spawner, below):
        os.kill(spawner, signal.SIGKILL)
        assert process.stdout
        assert process.stdout.readline() == "spawner\n"
        assert process.stdout.readline() == "again\n"
        assert wait_until(lambda: not any(map(is_alive, below)))


@pytest.mark.parametrize("round_", range(4))
def test_nobody_survives_any_one_process_of_a_job(tier: str, round_: int) -> None:
    with caller(tier) as (process, _, below):
        victim = random.Random(round_).choice(below)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        process.kill()
        assert wait_until(lambda: not any(map(is_alive, below)))


def test_the_first_process_of_a_jail_takes_all_with_it(tier: str) -> None:
    with caller(tier) as (process, spawner, below):
        first = next(pid for pid in procs.children(spawner) if procs.children(pid))
        rest = [first, *all_below(first)]
        os.kill(first, signal.SIGKILL)
        assert process.stdout
        assert process.stdout.readline() == "signal\n"
        assert set(rest) <= set(below)
        assert wait_until(lambda: not any(map(is_alive, rest)))


def test_a_job_that_ends_takes_its_children_with_it(tier: str) -> None:
    source = (
        "import os, time\nif not os.fork():\n    os.setsid()\n"
        "    if not os.fork(): time.sleep(600)\n    os._exit(0)\ntime.sleep(0.1)"
    )
    before = set(_mine())
    assert confine.python(source, tier=tier).exit.is_success
    confine.close()
    assert wait_until(lambda: set(_mine()) <= before)


def _mine() -> list[int]:
    return all_below(os.getpid())


def test_a_job_is_killed_from_another_thread(tier: str) -> None:
    job = confine.start(Spec(source="import time; time.sleep(600)", tier=tier, timeout_s=600))
    threading.Timer(0.2, job.kill).start()
    assert job.wait().exit.kind == "stopped"
    job.kill()  # nothing happens
    assert job.wait().exit.kind == "stopped"


def test_waiting_can_time_out_and_go_on(tier: str) -> None:
    confine.python("1", tier=tier)
    os.kill(_spawner_pid(), signal.SIGSTOP)  # so that there is nothing to hear, however slow we are
    try:
        job = confine.start(Spec(source="print(1)", tier=tier))
        with pytest.raises(TimeoutError):
            job.wait(0.01)
    finally:
        os.kill(_spawner_pid(), signal.SIGCONT)
    assert job.wait().stdout == b"1\n"


def test_a_job_nobody_waits_for_is_ended(tier: str) -> None:
    confine.close()
    job = confine.start(Spec(argv=["sleep", "600"], profile="shell", tier=tier, timeout_s=600))
    spawner = _spawner_pid()
    assert wait_until(lambda: sleeps_below(spawner))
    del job
    assert wait_until(lambda: not sleeps_below(spawner))


def _spawner_pid() -> int:
    from fumehood.confine.api import _CLIENT

    assert _CLIENT._spawner
    return _CLIENT._spawner.pid


def test_the_thread_that_started_the_spawner_may_end(tier: str) -> None:
    """PR_SET_PDEATHSIG fires when the starting thread ends: nothing here may hang on that."""
    confine.close()
    found: list[confine.Outcome] = []
    thread = threading.Thread(target=lambda: found.append(confine.python("print(1)", tier=tier)))
    thread.start()
    thread.join()
    job = confine.start(Spec(source="import time; time.sleep(0.3); print(2)", tier=tier))
    assert (found[0].stdout, job.wait().stdout) == (b"1\n", b"2\n")


def test_many_threads_at_once(tier: str) -> None:
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(confine.python(f"print({n})", tier=tier).stdout))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(f"{n}\n".encode() for n in range(12))


def test_a_forked_child_has_a_spawner_of_its_own(tier: str) -> None:
    confine.python("1", tier=tier)
    ours = _spawner_pid()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            out = confine.python("print('child')", tier=tier).stdout
            os.write(write, b"ok" if out == b"child\n" and _spawner_pid() != ours else b"no")
            confine.close()
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 2) == b"ok"
    os.close(read)
    os.waitpid(child, 0)
    assert _spawner_pid() == ours
    assert confine.python("print('parent')", tier=tier).stdout == b"parent\n"


async def test_the_loop_goes_on_while_jobs_run(tier: str) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    source = "import time; time.sleep(0.3); print('done')"
    outcomes = await asyncio.gather(*(confine.apython(source, tier=tier) for _ in range(4)))
    ticking.cancel()
    assert [outcome.stdout for outcome in outcomes] == [b"done\n"] * 4
    assert ticks > 5
    outcome = await confine.arun(["/bin/sh", "-c", "echo $1", "-", "x"], profile="shell", tier=tier)
    assert outcome.stdout == b"x\n"


async def test_a_cancelled_call_ends_its_job(tier: str) -> None:
    confine.close()
    await confine.arun(["true"], profile="shell", tier=tier)
    spawner = _spawner_pid()
    task = asyncio.create_task(confine.arun(["sleep", "600"], profile="shell", tier=tier, timeout_s=600))
    assert await asyncio.to_thread(wait_until, lambda: sleeps_below(spawner))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(wait_until, lambda: not sleeps_below(spawner))


def _settled() -> int:
    """The spawner's descriptors, once all the jails wait that ever do."""
    seen = [-1]
    while len(set(seen[-5:])) > 1 or len(seen) < 6:
        time.sleep(0.1)
        seen.append(len(_fds(_spawner_pid())))
    return seen[-1]


def test_no_descriptor_is_left_open(tier: str, tmp_path: Path) -> None:
    confine.python("print(1)", tier=tier)
    confine.python("print(1)", tier=tier, profile="model-loader")
    confine.run(["python3", "-c", ""], tier=tier)
    gc.collect()  # what earlier tests have left may go at any time
    before = len(os.listdir("/proc/self/fd"))  # one is kept for each kind of job
    most = _settled()
    for n in range(6):
        confine.python(f"print({n})", tier=tier, stdin=b"x", artifacts=["*"])
        confine.run(["python3", "-c", ""], tier=tier)
        confine.python("open('/etc/hosts')", tier=tier, profile="model-loader")
    assert len(os.listdir("/proc/self/fd")) == before
    assert _settled() < most + 6  # of eighteen jobs


def _fds(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except PermissionError:  # it is not dumpable: only root may count
        return []


def test_nothing_of_the_callers_descriptors_is_inside(tier: str, tmp_path: Path) -> None:
    secret = os.open(tmp_path / "secret", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    source = (
        "import os\nfor fd in range(3, 2000):\n    try: os.fstat(fd); print(fd)\n    except OSError: pass"
    )
    try:
        assert confine.python(source, tier=tier).stdout == b""
        assert confine.run(["python3", "-c", source], tier=tier).stdout == b""
    finally:
        os.close(secret)


def test_private_folders_are_removed(tmp_path: Path) -> None:
    outcome = confine.python("import os; open('x', 'w'); print(os.getcwd())", tier="no-userns")
    assert not os.path.exists(outcome.stdout.decode().strip())


def test_private_folders_are_removed_when_the_spawner_is_killed() -> None:
    source = "import os, time\nopen('x', 'w'); os.makedirs('a/b'); os.symlink('/usr', 'a/l')\ntime.sleep(600)"
    job = confine.start(Spec(source=source, tier="no-userns", timeout_s=600))
    assert wait_until(lambda: any((folder / "a/l").is_symlink() for folder in _private_folders()))
    (ours,) = [folder for folder in _private_folders() if (folder / "a/l").is_symlink()]
    os.kill(_spawner_pid(), signal.SIGKILL)
    assert job.wait().exit.kind == "spawner"
    assert wait_until(lambda: not ours.exists())
    assert Path("/usr/bin").exists()


def _private_folders() -> list[Path]:
    owner = _owner()
    found = []
    for path in Path("/tmp").glob("fumehood-*"):
        with contextlib.suppress(FileNotFoundError):
            found += [path] if path.stat().st_uid == owner else []
    return found


def _owner() -> int:
    from fumehood.confine.api import _CLIENT

    assert _CLIENT._spawner
    return _CLIENT._spawner.identity


_LEADER_ENDS = """
import ctypes, threading, time
print("here", flush=True)
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_a_living_process_that_proc_hides_is_not_ending(
    error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a /proc that is mounted with hidepid does for other users."""

    def hidden(path: str) -> list[str]:
        raise error(path)

    monkeypatch.setattr(os, "listdir", hidden)
    assert not procs.is_ending(os.getpid())
    assert not procs.is_ending(1)
    assert procs.is_ending(1 << 22)


def test_a_process_is_ending_when_each_of_its_threads_is() -> None:
    """By then it is still the parent of its children, and its files are closed."""
    assert not procs.is_ending(os.getpid())
    with subprocess.Popen([sys.executable, "-c", _LEADER_ENDS], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert wait_until(lambda: procs.is_zombie(process.pid))  # its leader, and one thread lives
        assert not procs.is_ending(process.pid)
        process.kill()
        wait_until(lambda: procs.is_ending(process.pid))
        assert procs.is_ending(process.pid)
        process.wait()
        assert procs.is_ending(process.pid)
