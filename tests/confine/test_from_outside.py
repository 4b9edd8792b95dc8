"""What the kernel says of a running job, read from outside; and what is left when it has ended."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from host import require

from confine.test_lifetime import is_alive, wait_until
from fumehood import confine
from fumehood.confine import Job, Spec, artifacts, procs, wire
from fumehood.confine.api import _CLIENT
from fumehood.confine.jails import Jail
from fumehood.confine.jobs import Job as Record
from fumehood.confine.supervisor import Supervisor

STAY = "import sys, time; print('up', flush=True); time.sleep(600)"
DAEMON = """
import os, time
if not os.fork():
    os.setsid()
    if not os.fork():
        for fd in range(3): os.close(fd)
        time.sleep(600)
    os._exit(0)
os.wait()
print('left', flush=True)
"""


def _spawner() -> int:
    assert _CLIENT._spawner
    return _CLIENT._spawner.pid


def _not_of_our_session(pids: list[int]) -> list[int]:
    """Those of *pids* that are of another session than the supervisor, as a job is. Not who has ended."""
    ours, found = os.getsid(_spawner()), []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found += [pid] if os.getsid(pid) != ours else []
    return found


@pytest.fixture
def running(tier: str) -> Iterator[int]:
    """The number of a job's process, once it runs."""
    with started(source=STAY, tier=tier):
        (pid,) = _not_of_our_session(procs.children(_spawner()))
        yield pid


@contextlib.contextmanager
def started(**options: Any) -> Iterator[bytes]:
    """A job that stays; what it says first."""
    told: list[bytes] = []
    job: Job = confine.start(Spec(on_output=lambda _, part: told.append(part), **options))
    end = time.monotonic() + 20
    while not told and time.monotonic() < end:
        try:
            job.wait(0.05)
        except TimeoutError:
            continue
    try:
        yield told[0]
    finally:
        job.kill()
        job.wait()


def test_no_capability_is_left_nor_can_be_had(running: int, tier: str) -> None:
    lines = Path(f"/proc/{running}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    held = [int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
    assert held == [0, 0, 0, 0]
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]
    if tier == "full":  # without a namespace of its own an ordinary process may not touch that set
        assert int(status["CapBnd"][0], 16) == 0


def test_limits_are_on(running: int) -> None:
    rows = {
        line[:25].strip(): line[25:].split()[:2]
        for line in Path(f"/proc/{running}/limits").read_text().splitlines()
    }
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max locked memory"] == ["0", "0"]
    assert rows["Max open files"] == ["256", "256"]
    assert rows["Max file size"] == [str(128 << 20)] * 2


def test_what_a_job_leaves_is_gone_when_it_is_answered(tier: str) -> None:
    """Not only when the supervisor ends: it goes on here."""
    outcome = confine.python(DAEMON, tier=tier)
    assert outcome.stdout == b"left\n"
    left = _not_of_our_session(procs.descendants(_spawner()))
    assert [pid for pid in left if is_alive(pid)] == []


FOLDERS = pytest.mark.parametrize("in_a_folder", [False, True], ids=["alone", "in a folder"])


@FOLDERS
def test_a_program_leads_a_session_and_a_group_of_its_own(
    in_a_folder: bool, tier: str, tmp_path: Path
) -> None:
    """A signal to its group would otherwise reach the supervisor, whatever the namespace."""
    argv = ["/bin/sh", "-c", "echo up; exec sleep 600"]
    where = tmp_path if in_a_folder else None
    with started(argv=argv, profile="shell", tier=tier, workdir=where):
        assert wait_until(lambda: _sleeping_children()), "it never became `sleep`"
        (pid,) = _sleeping_children()
        assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)


def _sleeping_children() -> list[int]:
    return [pid for pid in procs.children(_spawner()) if _name(pid) == "sleep\n"]


def _name(pid: int) -> str:
    """What the kernel calls it; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@FOLDERS
@pytest.mark.parametrize("profile", ["python-offline", "strictest", "model-loader"])
def test_a_program_has_its_streams_and_nothing_else_open(
    profile: str, in_a_folder: bool, tier: str, tmp_path: Path
) -> None:
    source = """
import os
for number in range(1100):
    try:
        os.fstat(number)
    except OSError:
        continue
    print(number)
"""
    where = tmp_path if in_a_folder else None
    argv = ["python3", "-I", "-S", "-c", source]
    outcome = confine.run(argv, profile=profile, tier=tier, workdir=where, artifacts=["*"], stdin=b"x")
    assert outcome.stdout.split() == [b"0", b"1", b"2"], outcome


def test_without_namespaces_what_a_job_orphans_stays_below_it() -> None:
    """So it is counted with the job."""
    source = """
import os, time
if not os.fork():
    os.setsid()
    if not os.fork():
        while os.getppid() == os.getsid(0): time.sleep(0.01)
        print("up", flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""
    require("landlock")
    with started(source=source, tier="no-userns") as said:
        assert said == b"up\n"
        (pid,) = _not_of_our_session(procs.children(_spawner()))
        # the one between them has ended, and the job may not have collected it yet
        assert wait_until(lambda: len(procs.descendants(pid)) == 1), procs.descendants(pid)


def test_the_sum_of_processes_is_bounded_whatever_the_kernel_counts() -> None:
    """The kernel refuses most of them first (RLIMIT_NPROC), and then a fork fails and the job goes on."""
    record = object.__new__(Record)
    record.stopped, record._jail, record._members = "", None, 1
    record._jail = _Plan({"processes": 4, "memory_bytes": 1 << 40})  # type: ignore[assignment]
    record._check_use([os.getpid()] * 5)
    assert record.stopped == ""
    record._check_use([os.getpid()] * 6)
    assert record.stopped == "processes"


class _Plan:
    def __init__(self, plan: dict[str, int]) -> None:
        self.plan = plan

    def kill(self) -> None:
        pass


def test_a_link_is_not_followed_even_where_it_took_a_files_place_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job of the same folder may be at work while the artifacts of this one are read."""
    (tmp_path / "secret").write_text("s3cret")
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.txt").symlink_to(tmp_path / "secret")
    monkeypatch.setattr(artifacts, "_kind", lambda folder, name: stat.S_IFREG)
    folder = os.open(work, os.O_RDONLY)
    assert artifacts.read(artifacts.collect(folder, ["*"])) == ()
    os.close(folder)


class _Loser(Supervisor):
    def __init__(self, jail: Jail) -> None:
        self._jails, self.ended = [jail], 0
        nothing: Any = SimpleNamespace(drop=lambda _: None, end_unused=lambda _: None)
        self._templates = nothing

    def _end_jail(self, jail: Jail) -> None:
        self.ended += 1


def test_a_killed_template_is_not_waited_for() -> None:
    """It would have said why a process that it waited for has ended; whoever holds its descriptors still."""
    template: Any = SimpleNamespace(pid=1, error=None)
    jail = object.__new__(Jail)
    jail.template, jail.pid, jail.has_orders, jail.hung_up, jail.has_ended = template, 2, True, False, True
    jail.job, jail.active, jail.status = cast("Record", object()), [], None
    supervisor = _Loser(jail)
    supervisor._lose(template)
    assert (jail.is_explained, supervisor.ended) == (False, 0)
    template.pid = 0
    supervisor._lose(template)
    assert (jail.is_explained, supervisor.ended) == (True, 1)


_ASKS = """
import ctypes, os
number = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)  # PR_GET_PDEATHSIG
print(number.value)
if os.path.isdir("/proc/self"):
    print(*sorted({name for name in os.listdir("/proc") if not name.isdigit()}))
"""


@FOLDERS
@pytest.mark.parametrize("is_source", [True, False], ids=["source", "program"])
def test_a_job_dies_with_its_supervisor_and_sees_of_proc_the_processes_alone(
    is_source: bool, in_a_folder: bool, tier: str, tmp_path: Path
) -> None:
    where: dict[str, Any] = {"tier": tier, "workdir": tmp_path if in_a_folder else None}
    argv = ["python3", "-I", "-S", "-c", _ASKS]
    outcome = confine.python(_ASKS, **where) if is_source else confine.run(argv, **where)
    said = outcome.stdout.decode().splitlines()
    assert said[0] == "9", outcome
    assert said[1:] in ([], ["self thread-self"])


@pytest.mark.parametrize(("layer", "told"), [("rootfs", "jail"), ("landlock", "landlock")])
def test_what_a_killed_template_has_used_up_is_not_what_the_host_refuses(layer: str, told: str) -> None:
    """Mounts that root has opened for a job are attached once, and a job may be given to another template."""
    record = object.__new__(Record)
    record.stopped, record.mounts, record._has_inputs, record._may_move = "", (7,), True, True
    assert record.may_move()
    record._has_inputs, record._began = False, 0.0
    jail: Any = SimpleNamespace(error={"layer": layer, "error": "move_mount"}, streams=(), is_ready=True)
    jail.observer, jail.active, jail.status, jail.unopened = None, [], None, 0
    jail.farewell = None
    jail.streams = (SimpleNamespace(kept=b""), SimpleNamespace(kept=b""))
    record._jail = jail
    record.conclude()
    assert wire.decode(wire.parted(record._last)[0])["error"]["layer"] == told


@pytest.mark.parametrize(
    ("used", "members", "took_s", "next_look_s"),
    [
        (10, 1, 0.0, 0.05),
        (30, 1, 0.0, 0.01),
        (10, 2, 0.0, 0.01),
        (200, 1, 0.0, 60.0),
        (30, 1, 0.002, 0.03),
        (30, 1, 0.02, 0.05),
    ],
)
def test_a_job_that_may_soon_use_too_much_is_looked_at_again_soon(
    used: int, members: int, took_s: float, next_look_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fifty milliseconds eight processes can take as many times what all of them may. A job whose looks
    take long, or many of them together, must not take the time of others."""
    record = object.__new__(Record)
    record.stopped, record.is_streamed, record.must_wait, record._members = "", False, False, 1
    record.plan, record._timeout_s, record._began, record._has_inputs = None, 60.0, 0.0, False
    jail: Any = SimpleNamespace(pid=7, plan={"memory_bytes": 100, "processes": 8}, private_folder="")
    jail.members = lambda: list(range(members))
    jail.kill = lambda: None
    record.begin(jail)
    clock = [record._began]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def memory_bytes(_: int) -> int:
        clock[0] += took_s
        return used // members

    monkeypatch.setattr(procs, "memory_bytes", memory_bytes)
    monkeypatch.setattr(procs, "own_share_bytes", lambda _: used // members)
    monkeypatch.setattr(procs, "shareable_bytes", lambda _: 0)
    first = record.patience_s(record._began)
    assert first == pytest.approx(0.01)
    record.check(record._began + first, running=3)
    assert record.patience_s(record._began + first) == pytest.approx(next_look_s)
    assert record.stopped == ("memory" if used > 100 else "")


@pytest.mark.parametrize(
    ("pid", "active", "orders", "said"),
    [
        (7, ["seccomp"], False, True),
        (0, ["seccomp"], False, False),
        (7, [], False, False),
        (7, ["seccomp"], True, False),
    ],
)
def test_a_jail_is_heard_until_it_is_known_and_ready(
    pid: int, active: list[str], orders: bool, said: bool
) -> None:
    """Two processes speak for it: which comes first is a matter of chance, and a job is given after both."""
    jail: Any = object.__new__(Jail)
    jail.pid, jail.active, jail.has_orders = pid, active, orders
    assert jail.has_said_all is said


def test_output_for_which_there_is_no_memory_is_told_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller would otherwise hear nothing, and take the supervisor for dead."""
    said = {"exit": ["exited", 0], "stdout": 40_000, "layers": "", "duration_s": 1.0, "error": None}
    said |= {"refused": [["open", "/x" * 2000, "refused"]] * 30, "dropped": 2}
    ours, theirs = wire.pair()
    record = object.__new__(Record)
    record.reply, record._fds = theirs, ()
    record._last = wire.joined(wire.encode(said), b"o" * 40_000, b"e" * 20_000)

    def no_memory(_: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fumehood.confine.messages.sealed_memfd", no_memory)
    assert record.report()
    message = wire.receive_body(ours)
    assert message
    head, rest = wire.parted(message[0])
    fields = wire.decode(head)
    assert (fields["exit"], fields["dropped"]) == (["output", 0], 32)
    cut = fields["stdout"]
    assert (rest[:cut], rest[cut:]) == (b"o" * cut, b"e" * (len(rest) - cut))
    assert min(cut, len(rest) - cut) > 10_000
    ours.close()
    assert record.report()  # nobody waits
    theirs.close()
