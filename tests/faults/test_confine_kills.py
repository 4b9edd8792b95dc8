"""SIGKILL at a random moment to the application or to any process of the sandbox: nobody survives, nothing is
left behind, every call ends, and the next one works.

Judged from outside: the process table, the mounts, the temporary folder, and how long each call took.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest
from host import require

from faults import watching
from faults.watching import Process, below, wait_until

CALLER = Path(__file__).with_name("confining.py")
KINDS = ("caller", "keeper", "supervisor", "zygote", "template", "anchor", "init", "job", "child")
#: How a call may end when something of it was killed. Not among them: a wrong answer.
ENDINGS = {"exited", "signal", "spawner", "refused", "stopped", "deadline"}
#: The longest that a call may take on a busy machine: its own time, and the patience with a dead supervisor.
LONGEST_S = 30.0


GONE = Process(pid=0, parent=0, state="Z", name="", levels=0, inner=0, command="")


class Application:
    """One application that runs jobs, and what is below it."""

    def __init__(self, tier: str, mark: str, folder: Path) -> None:
        command = [sys.executable, str(CALLER), tier, mark, str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.supervisor = 0
        self.endings: Counter[str] = Counter()

    def ask(self, what: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def hear(self) -> bool:
        """All that a batch says. False if the application died meanwhile."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line == "\n":
                return True
            self.note(json.loads(line))
        return False

    def note(self, fields: dict) -> None:
        if "supervisor" in fields:
            self.supervisor = fields["supervisor"]
            return
        kind, code = fields["ended"]
        assert fields["is_right"], fields
        assert kind in ENDINGS, fields
        assert (kind, code) != ("exited", 125), (
            f"an end before the job began counts as the job's own: {fields}"
        )
        assert fields["took_s"] < LONGEST_S, fields
        self.endings[kind] += 1

    def by_kind(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {kind: [] for kind in KINDS}
        found["caller"] = [self.process.pid]
        there = below(self.process.pid).values()
        named = [p.pid for p in there if (p.parent, p.name) == (self.supervisor, "fumehood-zygote")]
        for process in there:
            if process.state != "Z":  # as a keeper is, until the application's next call
                found[self._kind(process, zygote=min(named, default=0))].append(process.pid)
        return found

    def _kind(self, process: Process, *, zygote: int) -> str:
        if process.pid == self.supervisor:
            return "supervisor"
        if process.parent == self.process.pid:
            return "keeper"
        if process.name == "fumehood-zygote":  # its children have its name until they have their own
            return "zygote" if process.pid == zygote else "child"
        if process.name == "fumehood-anchor":
            return "anchor"
        if process.parent != self.supervisor:
            return "child"
        if process.levels == 3:
            return "init" if process.inner == 1 else "job"
        return "template" if process.name == "fumehood-jail" else "job"

    def end(self) -> str:
        self.process.kill()
        _, errors = self.process.communicate()
        return errors


class Fire:
    """Batches of jobs, one kill in each."""

    def __init__(self, tier: str, folder: Path, *, kills: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.tier, self.folder, self.kills = tier, folder, kills
        self.mark = f"300.{random.SystemRandom().randrange(10**12):012}"
        self.killed: Counter[str] = Counter()
        self.prefixes: set[str] = set()
        self.there: set[int] = set()  # below the application, at the last kill
        self.application = self._started()

    def _started(self) -> Application:
        application = Application(self.tier, self.mark, self.folder)
        application.ask("begin")
        assert application.hear(), application.end()
        assert application.endings == {"exited": 1}, f"the next call does not work: {application.endings}"
        return application

    def run(self) -> None:
        while sum(self.killed.values()) < self.kills:
            self.application.ask("crowd" if self.random.random() < 0.05 else "batch")
            time.sleep(self.random.uniform(0.0, 0.3))
            victim = self.kill_one()
            if self.application.hear() and victim != "caller":
                self.settle(victim)
            else:
                self.bury()
                self.application = self._started()
        self.bury()
        assert wait_until(lambda: not watching.left_of(self.prefixes)), watching.left_of(self.prefixes)

    def kill_one(self) -> str:
        there = {kind: pids for kind, pids in self.application.by_kind().items() if pids}
        self.prefixes |= watching.private_folders(pid for pids in there.values() for pid in pids)
        self.there = {pid for kind, pids in there.items() if kind != "caller" for pid in pids}
        kind = self.random.choice(sorted(there))
        self.victim = self.random.choice(there[kind])
        try:
            os.kill(self.victim, signal.SIGKILL)
        except ProcessLookupError:
            return ""
        self.killed[kind] += 1
        return kind

    def settle(self, victim: str) -> None:
        """The application lives: the next call works, and no zombie and nobody of the jobs is left."""
        if victim in ("keeper", "supervisor", "zygote"):  # all of them end: a call until then may be lost
            assert wait_until(lambda: not self._still_there()), f"left by {victim}: {self._still_there()}"
        # one that is about to die may yet be given a job, and read it
        assert wait_until(lambda: watching.table().get(self.victim, GONE).state == "Z"), f"{victim} lives"
        assert wait_until(lambda: not self._of_jobs()), f"{victim} was killed, left: {self._of_jobs()}"
        self.application.endings.clear()
        self.application.ask("begin")
        assert self.application.hear(), self.application.end()
        assert self.application.endings == {"exited": 1}, (
            f"no next call after {victim}: {self.application.endings}"
        )
        assert wait_until(self._is_quiet), f"left of the jobs by {victim}: {self._unquiet()}"

    def _of_jobs(self) -> list[Process]:
        return watching.marked(self.mark, but=self.application.process.pid)

    def _still_there(self) -> list[Process]:
        """Of those that were there at the kill; the keeper is collected by the application's next call."""
        now = below(self.application.process.pid)
        return [now[pid] for pid in self.there & set(now) if now[pid].state != "Z"]

    def _is_quiet(self) -> bool:
        _reap_orphans(self.application.process.pid)
        return not self._unquiet()

    def _unquiet(self) -> list[Process]:
        ours = below(os.getpid()).values()
        lost = [p for p in ours if p.parent == os.getpid() or p.state == "Z"]
        known = self.application.process.pid
        return [*(p for p in lost if p.pid != known), *self._of_jobs()]

    def bury(self) -> None:
        """The application is dead: so is everybody below it, and nothing is left of what they had."""
        errors = self.application.end()
        assert "Traceback" not in errors, errors
        assert wait_until(self._is_empty), f"survivors: {below(os.getpid())} {watching.marked(self.mark)}"

    def _is_empty(self) -> bool:
        _reap_orphans(0)
        return not below(os.getpid()) and not watching.marked(self.mark)


def _reap_orphans(keep: int) -> None:
    """As the first process of a machine does with what has no parent any more."""
    for process in below(os.getpid()).values():
        if process.parent == os.getpid() and process.state == "Z" and process.pid != keep:
            os.waitpid(process.pid, os.WNOHANG)


def fire(tier: str, folder: Path, *, kills: int, seed: int) -> Counter[str]:
    """In a process of its own, which is the subreaper of everything that is started."""
    (folder / "work").mkdir()
    temporary, before = {path.name for path in folder.iterdir()}, watching.mounts()
    child = os.fork()
    if not child:
        status = 1
        try:
            watching.become_subreaper()
            burning = Fire(tier, folder / "work", kills=kills, seed=seed)
            burning.run()
            (folder / "killed").write_text(json.dumps(burning.killed))
            status = 0
        except BaseException:
            (folder / "failed").write_text(traceback.format_exc())
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    failed = folder / "failed"
    said = failed.read_text() if failed.exists() else f"status {status}"
    assert status == 0, f"seed {seed}: {said}"
    assert watching.mounts() == before
    assert {path.name for path in folder.iterdir()} == temporary | {"killed"}
    return Counter(json.loads((folder / "killed").read_text()))


@pytest.fixture(params=["full", "no-userns"])
def tier(request: pytest.FixtureRequest) -> str:
    require("userns" if request.param == "full" else "landlock")
    return str(request.param)


def test_fifteen_kills_leave_nobody_and_nothing(tier: str, tmp_path: Path) -> None:
    seed = int(time.time())
    killed = fire(tier, tmp_path, kills=15, seed=seed)
    assert sum(killed.values()) == 15, f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_five_hundred_kills_leave_nobody_and_nothing(tier: str, seed: int, tmp_path: Path) -> None:
    killed = fire(tier, tmp_path, kills=25, seed=seed)
    assert len(killed) >= 4, f"few kinds were hit: {killed}"
