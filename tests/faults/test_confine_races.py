"""Moments that go wrong once in a thousand, made to happen every time; processes that are stopped rather than
killed; and a user who may have no more processes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host import require

from faults import watching
from faults.watching import below, wait_until
from fumehood import confine
from fumehood.confine import Spec, client, handle, prepare, procs
from fumehood.confine.api import _CLIENT

MOST_TEMPLATES = 6


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    """Each test has a supervisor of its own, with which all that is below it ends."""
    confine.close()
    before = set(below(os.getpid()))
    yield
    ours = set(below(os.getpid())) - before
    confine.close()
    assert wait_until(lambda: not [p for p in watching.table().values() if p.pid in ours and p.state != "Z"])


def _supervisor() -> int:
    assert _CLIENT._spawner
    return _CLIENT._spawner.pid


def test_what_a_job_is_made_from_stays_open_until_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that make the same one at once keep only one of both in the cache."""
    monkeypatch.setattr(prepare, "_made_kind", prepare._made_kind.__wrapped__)
    for _ in range(3):
        assert confine.python("print(1)", tier="no-userns").stdout == b"1\n"


def test_a_template_that_makes_room_before_it_has_spoken_ends(tier: str) -> None:
    """More kinds of jobs at once than templates are kept: no job is lost, and each that goes takes its
    namespace along."""
    specs = [Spec(source="print(1)", tier=tier, limits={"processes": 20 + n}) for n in range(21)]
    jobs = [confine.start(spec) for spec in specs[1:]]
    assert [job.wait().stdout for job in jobs] == [b"1\n"] * 20
    assert confine.start(specs[0]).wait().exit.is_success
    assert wait_until(lambda: len(_named("fumehood-anchor")) <= MOST_TEMPLATES), _named("fumehood-anchor")
    assert wait_until(lambda: not [pid for pid in procs.descendants(_supervisor()) if procs.is_zombie(pid)])


def _named(name: str) -> list[int]:
    """Those of that name below the supervisor, the oldest child first: numbers begin anew at some time."""
    there = below(_supervisor())
    return [pid for pid in procs.descendants(_supervisor()) if pid in there and there[pid].name == name]


def test_threads_that_lose_their_supervisor_at_once_close_it_once(tier: str) -> None:
    jobs = [confine.start(Spec(source="import time; time.sleep(60)", tier=tier)) for _ in range(24)]
    ended: list[object] = []

    def wait(job: confine.Job) -> None:
        try:
            ended.append(job.wait().exit.kind)
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=wait, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    os.kill(_supervisor(), signal.SIGKILL)
    for thread in threads:
        thread.join(30)
    assert ended == ["spawner"] * 24


def test_a_caller_that_does_not_read_holds_up_nobody(tier: str) -> None:
    source = "for _ in range(900): print('x' * 999)"
    pieces: list[bytes] = []
    told = Spec(source=source, tier=tier, on_output=lambda _, piece: pieces.append(piece))
    jobs = [confine.start(told) for _ in range(4)]
    time.sleep(0.5)
    for _ in range(5):
        assert confine.python("print(1)", tier=tier, timeout_s=10).stdout == b"1\n"
    outcomes = [job.wait() for job in jobs]
    assert [len(outcome.stdout) for outcome in outcomes] == [900_000] * 4
    assert sum(map(len, pieces)) == 3_600_000


# --- stopped -----------------------------------------------------------------------------------------


def _keeper() -> list[int]:
    return [watching.table()[_supervisor()].parent]


def _template() -> list[int]:
    """What it has is that it is no jail: the oldest of its name, and of the supervisor's own session."""
    return _named("fumehood-jail")[:1]


WHO: dict[str, Callable[[], list[int]]] = {
    "keeper": _keeper,
    "supervisor": lambda: [_supervisor()],
    "zygote": lambda: _named("fumehood-zygote"),
    "template": _template,
    "anchor": lambda: _named("fumehood-anchor"),
    "every process": lambda: procs.descendants(_keeper()[0]),
}


@pytest.mark.parametrize("who", WHO)
def test_a_process_that_is_stopped_holds_up_nobody_for_ever(
    who: str, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "_GRACE_S", 0.5)
    monkeypatch.setattr(client, "_END_S", 0.3)
    assert confine.python("print(1)", tier=tier).stdout == b"1\n"
    job = confine.start(Spec(source="import time; time.sleep(60)", tier=tier, timeout_s=0.6))
    time.sleep(0.1)
    everybody = [*_keeper(), *procs.descendants(_keeper()[0])]
    for pid in WHO[who]():
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    assert job.wait().exit.kind in ("deadline", "spawner")
    for n in range(4):  # more than wait ahead: the last ones need the template
        confine.python("print(1)", tier=tier, timeout_s=0.4, limits={"processes": 30 + n // 2})
    assert time.monotonic() - began < 30
    made = Path(_CLIENT._spawner._folders)
    confine.close()
    assert wait_until(lambda: not [pid for pid in everybody if _runs(pid)]), [
        p for p in everybody if _runs(p)
    ]
    assert not list(made.parent.glob(f"{made.name}*"))
    assert confine.python("print(1)", tier=tier).stdout == b"1\n"


def test_a_template_that_is_killed_costs_no_job_that_it_was_making(tier: str) -> None:
    limits = {"processes": 40}  # a kind of its own, of which none waits
    assert confine.python("print(1)", tier=tier, limits=limits).stdout == b"1\n"
    (template,) = _template()
    os.kill(template, signal.SIGSTOP)
    jobs = [
        confine.start(Spec(source=f"print({n})", tier=tier, limits=limits, timeout_s=20)) for n in range(8)
    ]
    time.sleep(0.3)
    os.kill(template, signal.SIGKILL)
    assert [job.wait().stdout for job in jobs] == [b"%d\n" % n for n in range(8)]


def test_a_template_that_hangs_costs_only_the_jobs_that_need_it(tier: str) -> None:
    """They end at their deadline, and the next one gets another template. No other job notices."""
    assert confine.python("print(1)", tier=tier).stdout == b"1\n"
    for pid in _template():
        os.kill(pid, signal.SIGSTOP)
    other = confine.start(Spec(argv=["sleep", "2.5"], profile="shell", tier=tier, timeout_s=30))
    kinds = []
    for _ in range(6):  # the first ones find what was made ahead
        began = time.monotonic()
        kinds.append(confine.python("print(1)", tier=tier, timeout_s=2.0).exit.kind)
        assert time.monotonic() - began < 8
    assert kinds.count("deadline") == 1
    assert kinds[-1] == "exited"
    assert other.wait().exit.is_success


def test_jobs_with_hardly_any_time_take_no_template_from_others(tier: str) -> None:
    """A template that is slow, as the host is, makes jails all the same."""
    limits = {"processes": 41}  # a kind of its own
    assert confine.python("print(1)", tier=tier, limits=limits).stdout == b"1\n"
    for _ in range(3):
        short = [Spec(source="", tier=tier, limits=limits, timeout_s=0.004 * n) for n in range(1, 31)]
        usual = [Spec(source="print(2)", tier=tier, limits=limits, timeout_s=30) for _ in range(30)]
        jobs = [confine.start(spec) for pair in zip(short, usual, strict=True) for spec in pair]
        ended = [job.wait() for job in jobs]
        assert [job.stdout for job in ended[1::2]] == [b"2\n"] * 30
        assert {job.exit.kind for job in ended[0::2]} <= {"deadline", "exited"}


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and not procs.is_zombie(pid)


# --- no more processes -------------------------------------------------------------------------------

NO_MORE = """
import os, resource, sys, time
from fumehood import confine
from fumehood.errors import ConfinementError

def tasks():
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == os.getuid(): found += len(os.listdir(f"/proc/{name}/task"))
        except OSError: pass
    return found

def ask(tier, more):
    limit = tasks() + more
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
    for _ in range(2):
        began = time.monotonic()
        try: ended = confine.python("print(1)", tier=tier, artifacts=["*"], timeout_s=3).exit.kind
        except ConfinementError as error: ended = error.layer
        print(more, ended, time.monotonic() - began, flush=True)
    confine.close()

for more in range(1, 13):  # each in a process of its own, which has loaded everything
    pid = os.fork()
    if not pid:
        try: ask(sys.argv[1], more)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally: os._exit(0)
    os.waitpid(pid, 0)
"""


def test_a_user_with_too_few_processes_is_told_at_once(
    tier: str, as_ordinary_user: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Wherever on the way the first process fails that is one too many."""
    done = as_ordinary_user(NO_MORE, tier)
    assert (done.returncode, done.stderr) == (0, "")
    answers = [line.split() for line in done.stdout.splitlines()]
    assert [int(more) for more, _, _ in answers] == [n // 2 + 1 for n in range(24)]
    endings = [ended for _, ended, _ in answers]
    assert set(endings) <= {"exited", "supervisor", "seccomp", "processes", "spawner"}, done
    assert {endings[0], endings[-1]} == {"supervisor", "exited"}  # none is enough, and there are enough
    assert max(float(took_s) for _, _, took_s in answers) < 10, done


def _in_jails(*, first: bool) -> list[int]:
    """Idle first processes, or those that wait for a job or do one."""
    there = below(_supervisor())
    jailed = [there[p] for p in procs.descendants(_supervisor()) if p in there and there[p].levels == 3]
    return [process.pid for process in jailed if (process.inner == 1) == first]


def _settled(count: int, *, first: bool) -> list[int]:
    """As `_in_jails`, once there are so many, and the same for two looks: who was done has been collected."""
    found: list[int] = []

    def is_settled() -> bool:
        before, found[:] = found[:], _in_jails(first=first)
        return len(found) == count and found == before

    assert wait_until(is_settled), found
    return found


def test_a_job_whose_process_is_killed_before_it_has_its_orders_is_done_by_another() -> None:
    """A process that is stopped reads nothing. What one has read that was killed then, nobody can know."""
    require("userns")
    for _ in range(3):
        assert confine.python("print(1)").stdout == b"1\n"
        waiting = _settled(3, first=False)
        for pid in waiting:
            os.kill(pid, signal.SIGSTOP)
        assert wait_until(
            lambda: {p.state for p in below(_supervisor()).values() if p.pid in waiting} == {"T"}
        )
        job = confine.start(Spec(source="print(2)"))
        with pytest.raises(TimeoutError):
            job.wait(0.1)
        first, *others = waiting  # the oldest gets it
        os.kill(first, signal.SIGKILL)
        for pid in others:
            os.kill(pid, signal.SIGCONT)
        outcome = job.wait()
        assert (outcome.exit.kind, outcome.stdout) == ("exited", b"2\n"), outcome


def test_an_idle_process_that_was_killed_before_it_had_a_job_costs_none_and_is_collected() -> None:
    require("userns")
    argv = ["/bin/echo", "2"]
    for _ in range(3):
        assert confine.run(argv, profile="shell").stdout == b"2\n"
        killed = _settled(4, first=True)[-1]
        os.kill(killed, signal.SIGKILL)
        assert wait_until(lambda: not _runs(killed))  # and who was in there: a job would have had it
        jobs = [confine.start(Spec(argv=argv, profile="shell")) for _ in range(5)]
        ended = [job.wait() for job in jobs]
        assert [job.stdout for job in ended] == [b"2\n"] * 5, ended
        assert wait_until(lambda: not [p for p in procs.descendants(_supervisor()) if procs.is_zombie(p)])


def test_a_supervisor_that_has_lost_its_keeper_gets_no_job_any_more(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still be busy with the end of what it has started; if it hangs there it is killed."""
    monkeypatch.setattr(client, "_END_S", 0.5)
    assert confine.python("print(1)", tier=tier).stdout == b"1\n"
    supervisor, (keeper,) = _supervisor(), _keeper()
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(keeper, signal.SIGKILL)
    assert wait_until(lambda: procs.is_zombie(keeper))
    outcome = confine.python("print(2)", tier=tier)
    assert (outcome.exit.kind, outcome.stdout) == ("exited", b"2\n")
    assert wait_until(lambda: not _runs(supervisor))
