"""SIGKILL at a random moment to the agent, a policy worker, the supervisor, a confined process or the
terminal UI: nothing runs twice, nothing runs without a committed decision, nothing is lost, nothing survives.

Judged from outside: by the ledger, by the file that the tool writes, and by the process table.
"""

from __future__ import annotations

import ctypes
import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from host import PARTS

from fumehood.ledger import Event, Ledger, open_ledger

AGENT = Path(__file__).with_name("agent.py")
POLICY = """
package policies.kill

import data.fumehood.call

permit if call.tool in {"append", "compute"}

confine contains "python-offline" if call.tool == "compute"
"""
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Run:
    """One run of the agent under fire, restarted as often as it is killed."""

    folder: Path
    count: int
    kills: int
    seed: int
    tier: str
    killed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.ledger = self.folder / "ledger.db"
        self.effects = self.folder / "effects"
        (self.folder / "policies").mkdir()
        (self.folder / "policies" / "kill.rego").write_text(POLICY)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(AGENT), str(self.folder / "policies"), str(self.ledger)]
        command += [str(self.effects), str(self.count), self.tier]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def under_fire(self) -> None:
        agent = self.start()
        while sum(self.killed.values()) < self.kills:
            if self.random.random() < 0.8:
                wait_for_ready(agent)
            time.sleep(self.random.uniform(0.0, 0.15))
            if agent.poll() is not None:
                agent.wait()
                agent = self.start()
                continue
            self.kill_one(agent)
        agent.wait(60)
        last = self.start()  # in peace, to the end
        out, _ = last.communicate(timeout=120)
        assert b"finished" in out

    def kill_one(self, agent: subprocess.Popen[bytes]) -> None:
        """One of the kinds that are there to be killed; the terminal UI once in a while."""
        if self.random.random() < 0.1:
            self.kill_tui()
            return
        targets = {kind: pids for kind, pids in by_kind(agent.pid).items() if pids}
        if not targets or self.random.random() < 0.3:
            targets = {"agent": [agent.pid]}
        kind = self.random.choice(sorted(targets))
        signal_quietly(self.random.choice(targets[kind]))
        self.killed[kind] += 1

    def kill_tui(self) -> None:
        """A terminal UI of its own on the same ledger, killed while it reads."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(
                sys.executable, [sys.executable, "-m", "fumehood.cli", "tui", "--ledger", str(self.ledger)]
            )
        time.sleep(self.random.uniform(0.0, 0.4))
        signal_quietly(pid)
        os.waitpid(pid, 0)
        os.close(terminal)
        self.killed["tui"] += 1


def wait_for_ready(agent: subprocess.Popen[bytes]) -> None:
    """Until it makes calls (it says so once; later there is nothing to wait for)."""
    assert agent.stdout is not None
    if not getattr(agent, "is_ready", False):
        agent.stdout.readline()
        agent.is_ready = True  # type: ignore[attr-defined]


def signal_quietly(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def processes() -> dict[int, tuple[int, str]]:
    """pid → (parent, command line)."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            stat = (entry / "stat").read_bytes()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(entry.name)] = (int(stat.rpartition(b")")[2].split()[1]), command)
    return found


def descendants(root: int) -> dict[int, str]:
    table = processes()
    inside = {root}
    for _ in range(len(table)):
        more = {pid for pid, (parent, _) in table.items() if parent in inside} - inside
        if not more:
            break
        inside |= more
    return {pid: table[pid][1] for pid in inside - {root} if pid in table}


def by_kind(agent: int) -> dict[str, list[int]]:
    """The agent's policy workers, its supervisor, and what runs confined below that."""
    table = processes()
    children = [pid for pid, (parent, _) in table.items() if parent == agent]
    workers = [pid for pid in children if "pdp" in table[pid][1]]
    supervisors = [pid for pid in children if pid not in workers]
    confined = [pid for s in supervisors for pid in descendants(s)]
    return {"worker": workers, "supervisor": supervisors, "confined": confined}


def check(run: Run) -> None:
    """The checker over the ledger and the side effects."""
    with_ledger = open_ledger(run.ledger)
    try:
        events = every_event(with_ledger)
    finally:
        with_ledger.close()
    lines = [line.split() for line in run.effects.read_text().splitlines()]
    numbers = Counter(int(n) for n, _ in lines)
    assert [n for n, times in numbers.items() if times > 1] == [], "a tool ran twice"
    permitted = {e.attempt_id: e.seq for e in events if e.kind == "decision" and e.effect == "permit"}
    claimed = {e.attempt_id for e in events if e.kind == "claim"}
    for n, attempt in lines:
        assert attempt in permitted, f"call {n} ran without a committed decision"
        assert attempt in claimed, f"call {n} ran without a claim"
    ended = {e.attempt_id for e in events if e.kind == "outcome" or b"outcome_unknown" in e.attributes}
    assert claimed <= ended, "a claim is still open although everybody is dead"
    assert [e.seq for e in events] == sorted({e.seq for e in events})
    unknown = {e.attempt_id for e in events if e.tool == "append" and b"outcome_unknown" in e.attributes}
    missing = set(range(run.count)) - set(numbers)
    assert len(missing) <= len(unknown), "a call was lost that nobody knows of"


def every_event(ledger: Ledger) -> list[Event]:
    ledger.reap()
    ledger.flush()
    found: list[Event] = []
    while batch := ledger.events(found[-1].seq if found else 0, limit=1000):
        found += batch
    return found


def no_survivor() -> None:
    """We are the subreaper: whatever outlives its parent becomes our child."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        reap_children()
        left = descendants(os.getpid())
        if not left:
            return
        time.sleep(0.05)
    pytest.fail(f"survivors: {left}")


def reap_children() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def fire(tmp_path: Path, kills: int, seed: int) -> Counter[str]:
    """In a process of its own, which is the subreaper of everything that is started."""
    tier = "full" if PARTS["userns"]() else "no-userns"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            run = Run(tmp_path, count=30, kills=kills, seed=seed, tier=tier)
            run.under_fire()
            no_survivor()
            check(run)
            (tmp_path / "killed").write_text(repr(dict(run.killed)))
            status = 0
        except BaseException:
            import traceback

            (tmp_path / "failed").write_text(traceback.format_exc())
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    failed = tmp_path / "failed"
    assert status == 0, f"seed {seed}: {failed.read_text() if failed.exists() else status}"
    return Counter(eval((tmp_path / "killed").read_text()))


def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    killed = fire(tmp_path, kills=20, seed=int(time.time()))
    assert sum(killed.values()) == 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_kills_lose_nothing_and_repeat_nothing(tmp_path: Path, seed: int) -> None:
    fire(tmp_path, kills=20, seed=seed)
