"""Twenty thousand jobs: what the application, its supervisor and the processes below hold stays flat."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from fumehood import confine
from fumehood.confine import procs
from fumehood.confine.api import _CLIENT

JOBS = 20_000
WARM = 1_500
THREADS = 4
#: What may be more at the end than after the first jobs. A leak of one for each job would be 18,500. The
#: application's threads come and go, and their memory is given back late.
MORE_KB, MORE_FDS, MORE_PROCESSES = 3_000, 45, 6  # of hundreds of jobs; a jail that waits has eleven
MORE_OF_THREADS_KB = 9_000
DAEMONS = """
import os
for _ in range(3):
    if not os.fork():
        os.setsid()
        os.execlp("sleep", "sleep", "99")
"""


@dataclass(frozen=True)
class Held:
    """What is held at one moment. Memory is what is nobody else's."""

    jobs: int
    application_kb: int
    supervisor_kb: int
    keeper_kb: int
    template_kb: int
    application_fds: int
    supervisor_fds: int
    processes: int
    mounts: int
    folders: int


def held(jobs: int) -> Held:
    supervisor = _CLIENT._spawner.pid
    below = procs.descendants(supervisor)
    templates = [pid for pid in procs.children(supervisor) if _is_template(pid)]
    return Held(
        jobs=jobs,
        application_kb=own_kb(os.getpid()),
        supervisor_kb=own_kb(supervisor),
        keeper_kb=own_kb(_parent(supervisor)),
        template_kb=max((own_kb(pid) for pid in templates), default=0),
        application_fds=len(os.listdir("/proc/self/fd")),
        supervisor_fds=_fds(supervisor),
        processes=len(below),
        mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
        folders=sum(_is_ours(path) for path in Path("/tmp").glob(f"fumehood-{'[0-9a-f]' * 16}-*")),
    )


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == _CLIENT._spawner.identity
    except FileNotFoundError:
        return False


def own_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # not dumpable: only root may look
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _fds(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return 0


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is_template(pid: int) -> bool:
    """Two levels of pid namespaces: that of the host and that of its jails."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = next(line for line in text.splitlines() if line.startswith("NSpid:")).split()[1:]
    return len(numbers) == 2 and numbers[1] != "1"


def one(tier: str, folder: str, dice: random.Random) -> None:
    """Mostly what is prepared ahead; sometimes something else."""
    roll = dice.random()
    if roll < 0.9:
        assert confine.python("print(6 * 7)", tier=tier).stdout == b"42\n"
    elif roll < 0.93:
        assert confine.run(["true"], profile="shell", tier=tier).exit.is_success
    elif roll < 0.95:
        outcome = confine.python("open('a', 'w').write('x')", tier=tier, artifacts=["*"], stdin=b"in")
        assert [artifact.body for artifact in outcome.artifacts] == [b"x"]
    elif roll < 0.96:
        assert confine.python("open('a', 'w')", tier=tier, workdir=folder).exit.is_success
    elif roll < 0.97:
        assert confine.python("import os; os.kill(os.getpid(), 9)", tier=tier).exit.kind == "signal"
    elif roll < 0.98:
        told: list[bytes] = []
        confine.python("print('x' * 9999)", tier=tier, on_output=lambda _, piece: told.append(piece))
        assert len(b"".join(told)) == 10_000
    elif roll < 0.99:
        assert confine.python(DAEMONS, tier=tier).exit.is_success
    else:
        confine.python("open('/etc/shadow')", tier=tier, profile="model-loader")


def run(tier: str, folder: str, jobs: int) -> None:
    left = list(range(jobs))
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        try:
            while left and not failed:
                try:
                    left.pop()
                except IndexError:
                    return
                one(tier, folder, dice)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(random.randrange(10**9),)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def settled(jobs: int) -> Held:
    """When the pool is full again and what was killed is gone: nothing changes for a second and a half."""
    seen = [held(jobs)]
    for _ in range(40):
        time.sleep(0.5)
        seen.append(held(jobs))
        if len({(moment.processes, moment.supervisor_fds, moment.folders) for moment in seen[-4:]}) == 1:
            break
    return seen[-1]


def soak(tier: str, folder: str, jobs: int, warm: int, looks: int) -> dict[str, object]:
    run(tier, folder, warm)
    first = settled(warm)
    seen, took_s = [first], 0.0
    for part in range(looks):
        began = time.monotonic()
        run(tier, folder, (jobs - warm) // looks)
        took_s += time.monotonic() - began
        seen.append(settled(warm + (part + 1) * (jobs - warm) // looks))
    return {"jobs_per_s": round((jobs - warm) / took_s, 1), "seen": [asdict(moment) for moment in seen]}


def check(first: Held, last: Held) -> None:
    assert last.application_kb <= first.application_kb + MORE_OF_THREADS_KB, (first, last)
    for name in ("supervisor_kb", "keeper_kb", "template_kb"):
        assert getattr(last, name) <= getattr(first, name) + MORE_KB, (name, first, last)
    assert last.application_fds <= first.application_fds + MORE_FDS, (first, last)
    assert last.supervisor_fds <= first.supervisor_fds + MORE_FDS, (first, last)
    assert last.processes <= first.processes + MORE_PROCESSES, (first, last)
    assert last.folders <= first.folders + MORE_PROCESSES, (first, last)
    assert last.mounts == first.mounts


def in_its_own_process(tier: str, folder: Path, jobs: int, warm: int, *, looks: int) -> list[Held]:
    """Nothing of the test's own, so that the application's memory is that of its calls."""
    command = [sys.executable, __file__, tier, str(folder), str(jobs), str(warm), str(looks)]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return [Held(**moment) for moment in json.loads(done.stdout)["seen"]]


def test_six_hundred_jobs_leave_nothing_behind(tier: str, tmp_path: Path) -> None:
    seen = in_its_own_process(tier, tmp_path, 600, 300, looks=1)
    check(seen[0], seen[-1])


@pytest.mark.slow
def test_twenty_thousand_jobs_leave_nothing_behind(tier: str, tmp_path: Path) -> None:
    seen = in_its_own_process(tier, tmp_path, JOBS, WARM, looks=4)
    check(seen[0], seen[-1])


if __name__ == "__main__":
    print(json.dumps(soak(*sys.argv[1:3], *map(int, sys.argv[3:]))))
    confine.close()
