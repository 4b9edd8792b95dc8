"""Changed policies are checked, then decide from the next call on; refused ones change nothing, loudly."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from pdp.documents import asked, document
from pdp.policies import folder_of

from fumehood import Denied, Guard
from fumehood.approval import Approval
from fumehood.errors import ConfigError, PdpError
from fumehood.model import Pdp, Phase, PolicyInput
from fumehood.observe_mode import Mode, Observing
from fumehood.pdp import load_bundle, open_pdp, reload
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.loading import Loader, _Reader
from fumehood.pdp.process import Worker
from fumehood.pdp.reload import ReloadablePdp
from fumehood.pdp.sources import stamp
from fumehood.pdp.workers import WorkerPdp
from fumehood.testing import guarded

HEAD = "package policies.x\n\nimport data.fumehood.call\n\n"
READ = HEAD + 'permit if call.tool == "read"\n'
WRITE = HEAD + 'permit if call.tool == "write"\n'
BAD = HEAD + "permit if {\n"


def policies(folder: Path, text: str) -> Path:
    return folder_of(folder / "policies", x=text)


@contextlib.contextmanager
def opened(folder: Path, isolation: str = "thread", mode: Mode = Mode.ENFORCE) -> Iterator[ReloadablePdp]:
    pdp = ReloadablePdp([folder], partial(open_pdp, isolation=isolation), mode=mode)
    try:
        yield pdp
    finally:
        pdp.close()


def until(is_so: Callable[[], bool], within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("isolation", ["thread", "worker"])
def test_changed_policies_decide_from_the_next_call_on(isolation: str, tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ), isolation) as pdp:
        before = pdp.evaluate(asked("read"))
        policies(tmp_path, WRITE)
        assert pdp.evaluate(asked("read")) == before
        revision = pdp.reload()
        assert revision == load_bundle([tmp_path / "policies"]).revision != before.revision
        assert pdp.bundle.revision == pdp.facts.revision == revision
        after = [pdp.evaluate(asked(tool)) for tool in ("read", "write")]
        assert [d.is_permit for d in after] == [False, True]
        assert {d.revision for d in after} == {revision}


MARK = "# METADATA\n# custom:\n#   mode: observe\n"
REFUSE = HEAD.replace("policies.x", "policies.y") + 'deny contains "no" if call.tool == "read"\n'


@pytest.mark.parametrize("isolation", ["thread", "worker"])
def test_observed_policies_are_only_observed_after_a_reload_too(isolation: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "policies", x=READ, y=MARK + REFUSE)
    told: list[str] = []
    with opened(folder, isolation, Mode.OBSERVE_PACKAGES) as pdp:
        for text, observing in ((MARK + REFUSE + "# 1\n", {"y"}), (REFUSE, set()), (MARK + REFUSE, {"y"})):
            folder_of(folder, y=text)
            pdp.reload(lambda kind, summary: told.append(summary))
            decision = pdp.evaluate(asked("read"))
            assert pdp.bundle.observing == Observing(frozenset(observing))
            assert decision.is_permit is bool(observing)
            assert decision.observed is not None
            assert not decision.observed.is_permit
        folder_of(folder, x=MARK + READ)
        with pytest.raises(ConfigError, match="nothing would be permitted"):
            pdp.reload()
        assert pdp.evaluate(asked("read")).is_permit
    assert ["OBSERVING policies.y" in line for line in told] == [True, False, True]


def test_reload_of_what_is_enforced_enforces(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "policies", x=READ)
    with opened(folder) as pdp:
        folder_of(folder, x=MARK + READ, y=MARK + REFUSE)
        pdp.reload()
        assert pdp.bundle.observing is None
        assert not pdp.evaluate(asked("read")).is_permit


def test_nothing_happens_where_nothing_changed(tmp_path: Path) -> None:
    told: list[str] = []
    with opened(policies(tmp_path, READ), "worker") as pdp:
        before = pdp._current
        assert pdp.reload(lambda kind, summary: told.append(kind)) == pdp.facts.revision
        assert pdp._current is before
    assert told == []


def test_refused_policies_change_nothing_and_are_reported(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    with opened(policies(tmp_path, READ)) as pdp:
        before = pdp.facts.revision
        policies(tmp_path, BAD)
        with pytest.raises(ConfigError) as raised:
            pdp.reload(lambda kind, summary: told.append((kind, summary)))
        assert raised.value.problems[0].line == 6
        assert str(raised.value).count("x.rego:6") == 1
        assert pdp.evaluate(asked("read")).revision == before
        ((kind, summary),) = told
        assert kind == "policy_refused"
        assert before[:19] in summary
        assert "x.rego:6" in summary
        policies(tmp_path, WRITE)
        pdp.reload()
        assert pdp.evaluate(asked("write")).is_permit


def test_folder_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ)) as pdp:
        (tmp_path / "policies").rename(tmp_path / "elsewhere")
        with pytest.raises(ConfigError, match="not a folder"):
            pdp.reload()
        assert pdp.evaluate(asked("read")).is_permit


def test_document_is_decided_by_the_revision_that_it_was_made_for(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ)) as pdp:
        old = pdp.facts.revision
        content = asked("read")
        made_for_old = PolicyInput(content.phase, content.tool, content.body, old)
        policies(tmp_path, WRITE)
        pdp.reload()
        assert pdp.evaluate(made_for_old).revision == old
        assert pdp.evaluate(content).revision == pdp.facts.revision != old


@pytest.mark.parametrize("reads", ["count(input.context.history) > 2", 'call.url("/u").host == "x.test"'])
def test_document_that_may_lack_something_is_an_error_and_never_a_guess(
    reads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "GRACE_S", 0.0)
    with opened(policies(tmp_path, READ)) as pdp:
        content = asked("read")
        made_for_old = PolicyInput(content.phase, content.tool, content.body, pdp.facts.revision)
        policies(tmp_path, READ + f'deny contains "no" if {reads}\n')
        pdp.reload()
        assert until(lambda: not pdp._replaced)
        with pytest.raises(PdpError) as raised:
            pdp.evaluate(made_for_old)
        assert raised.value.code == "pdp_error"
        policies(tmp_path, READ + "# other\n")
        pdp.reload()
        assert pdp.evaluate(made_for_old).revision == pdp.facts.revision


def own_children() -> set[int]:
    return set(map(int, Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()))


def command_of(pid: int) -> bytes:
    """Its command line; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_replaced_workers_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "GRACE_S", 0.05)
    before = own_children()  # workers of earlier tests
    with opened(policies(tmp_path, READ), "worker") as pdp:
        assert isinstance(pdp._current, WorkerPdp)
        old = pdp._current
        policies(tmp_path, WRITE)
        pdp.reload()
        assert until(lambda: not old.pids() and not pdp._replaced)
        assert pdp.evaluate(asked("write")).is_permit
        policies(tmp_path, BAD)
        with pytest.raises(ConfigError):
            pdp.reload()
        spares = {spare.process.pid for spare in pdp._spares}  # for the next time
        children = {*pdp._current.pids(), pdp._loader._process.pid, *spares}  # type: ignore[union-attr]
        assert not {p for p in own_children() - children - before if b"worker.py" in command_of(p)}


def test_processors_are_left_to_calls_while_policies_are_replaced(tmp_path: Path) -> None:
    every, seen = os.sched_getaffinity(0), []
    with opened(policies(tmp_path, READ), "worker") as pdp:
        pdp.prepare()
        assert isinstance(pdp._current, WorkerPdp)
        old, open_new = pdp._current, pdp._opened

        def look(bundle: Bundle, /, *, spares: Sequence[Worker]) -> Pdp:
            seen.extend(used_by(pids) for pids in (old.pids(), [spare.process.pid for spare in spares]))
            return open_new(bundle, spares=spares)

        pdp._opened = look
        policies(tmp_path, WRITE)
        pdp.reload()
        assert isinstance(pdp._current, WorkerPdp)
        new = pdp._current
        assert until(lambda: len(new.pids()) == 2 and len(new._pool.idle._items) == 2)
        deciding, starting = seen
        assert deciding | starting == every
        assert not deciding & starting or len(every) == 1
        assert until(lambda: used_by([*old.pids(), *new.pids()]) == every)
        assert all(os.sched_getaffinity(pid) == every for pid in (*old.pids(), *new.pids()))


def used_by(pids: Iterable[int]) -> set[int]:
    return set[int]().union(*(os.sched_getaffinity(pid) for pid in pids))


def test_workers_may_use_every_processor_again_where_a_reload_fails(tmp_path: Path) -> None:
    every = os.sched_getaffinity(0)
    with opened(policies(tmp_path, READ), "worker") as pdp:

        def fail(bundle: Bundle, /, *, spares: Sequence[Worker]) -> Pdp:
            raise PdpError("no", code="pdp_unreachable")

        pdp._opened = fail
        policies(tmp_path, WRITE)
        with pytest.raises(PdpError):
            pdp.reload()
        assert isinstance(pdp._current, WorkerPdp)
        assert all(os.sched_getaffinity(pid) == every for pid in pdp._current.pids())


def test_whoever_checks_policies_gives_way_to_calls(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ), "worker") as pdp:
        pdp.prepare()
        assert pdp._loader._process is not None
        checking = pdp._loader._process.pid
        assert until(lambda: os.sched_getscheduler(checking) == os.SCHED_IDLE)
        children = Path(f"/proc/{checking}/task/{checking}/children")
        assert until(lambda: bool(children.read_text()))
        assert {os.sched_getscheduler(int(pid)) for pid in children.read_text().split()} == {os.SCHED_IDLE}
        assert isinstance(pdp._current, WorkerPdp)
        deciding = {*pdp._current.pids(), *(spare.process.pid for spare in pdp._spares)}
        assert {os.sched_getscheduler(pid) for pid in deciding} == {os.SCHED_OTHER}
        assert {os.getsid(pid) for pid in (checking, *deciding)} == {os.getsid(0)}


def test_host_that_lets_nobody_give_way_gets_it_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fumehood.pdp.loading.PATIENCE_S", 0.1)
    with opened(policies(tmp_path, READ)) as pdp:
        pdp.prepare()
        starved = pdp._loader._process
        assert starved is not None
        os.kill(starved.pid, signal.SIGSTOP)
        policies(tmp_path, WRITE)
        pdp.reload()
        assert pdp.evaluate(asked("write")).is_permit
        assert starved.returncode == -signal.SIGKILL
        assert pdp._loader._process is not None
        assert os.sched_getscheduler(pdp._loader._process.pid) == os.SCHED_OTHER
        policies(tmp_path, READ)
        pdp.reload()
        assert pdp.evaluate(asked("read")).is_permit


def test_checking_that_is_only_long_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fumehood.pdp.loading.PATIENCE_S", 0.05)
    rules = "".join(f'permit if call.tool == "t{n}"\n' for n in range(2000))
    with opened(policies(tmp_path, READ)) as pdp:
        pdp.prepare()
        process = pdp._loader._process
        time.sleep(0.5)
        policies(tmp_path, READ + rules)
        pdp.reload()
        assert pdp._loader._process is process


def test_policies_change_with_the_first_worker_and_the_other_follows(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ), "worker") as pdp:
        policies(tmp_path, WRITE)
        pdp.reload()
        assert isinstance(pdp._current, WorkerPdp)
        idle = pdp._current._pool.idle
        assert until(lambda: len(idle._items) == 2)
        pids = pdp._current.pids()
        os.kill(pids[0], signal.SIGKILL)
        answers = []
        for _ in range(4):
            with contextlib.suppress(PdpError):
                answers.append(pdp.evaluate(asked("write")).is_permit)
        assert answers.count(True) >= 3


def test_spare_worker_ends_with_the_guard_and_not_in_a_forked_child(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ), "worker") as pdp:
        pdp.prepare()
        spare, _ = pdp._spares
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                policies(tmp_path, WRITE)
                pdp.reload()
                status = 0 if pdp.evaluate(asked("write")).is_permit and spare not in pdp._spares else 2
                pdp.close()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert spare.process.poll() is None
        pdp.reload()
        assert isinstance(pdp._current, WorkerPdp)
        assert spare.process.pid in pdp._current.pids()
        os.kill(spare.process.pid, signal.SIGKILL)
        pdp.prepare()
        other, _ = pdp._spares
        os.kill(other.process.pid, signal.SIGKILL)
        assert until(lambda: other.process.poll() is not None)
        policies(tmp_path, READ)
        pdp.reload()
        pdp.prepare()
        last = list(pdp._spares)
    assert until(lambda: all(one.process.poll() is not None for one in last))


def test_no_call_is_lost_or_decided_by_two_revisions(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ), "worker") as pdp:
        permits = {pdp.facts.revision: "read"}
        ended = threading.Event()

        def decide() -> int:
            count = 0
            while not ended.is_set():
                for tool in ("read", "write"):
                    decision = pdp.evaluate(asked(tool))
                    assert decision.is_permit == (permits[decision.revision] == tool)
                    count += 1
            return count

        with ThreadPoolExecutor(4) as pool:
            counts = [pool.submit(decide) for _ in range(4)]
            for tool, text in (("write", WRITE), ("read", READ + "#"), ("write", WRITE + "#")):
                folder = policies(tmp_path, text)
                permits[load_bundle([folder]).revision] = tool
                pdp.reload()
            ended.set()
        assert all(count.result() > 10 for count in counts)
        assert len(permits) == 4


def test_checking_process_that_is_killed_costs_one_reload(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ)) as pdp:
        pdp.prepare()
        process = pdp._loader._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        policies(tmp_path, WRITE)
        killer = threading.Timer(0.2, os.kill, (process.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(ConfigError, match="could not be checked"):
            pdp.reload()
        killer.join()
        assert pdp.evaluate(asked("read")).is_permit
        pdp.reload()
        assert pdp.evaluate(asked("write")).is_permit


def test_policies_that_take_too_long_to_check_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fumehood.pdp.loading.WITHIN_S", 0.5)
    with opened(policies(tmp_path, READ)) as pdp:
        pdp.prepare()
        time.sleep(0.2)
        loops = "_n := [1 | some a in numbers.range(1, 9000); some b in numbers.range(1, 9000); a == b]\n"
        policies(tmp_path, READ + loops)
        with pytest.raises(ConfigError, match="took longer"):
            pdp.reload()
        assert pdp.evaluate(asked("read")).is_permit


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    "what", [Evil(), Path("/"), print, Guard, ("x", (Evil(),)), load_bundle, Phase.CONNECT]
)
def test_answers_hold_nothing_but_bundles(what: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no part of a bundle"):
        _Reader(io.BytesIO(pickle.dumps(what))).load()


def test_bundle_comes_back_as_it_is_here(tmp_path: Path) -> None:
    loader = Loader(["refund", policies(tmp_path, READ)])
    try:
        assert loader.load() == loader.load() == load_bundle(["refund", tmp_path / "policies"])
    finally:
        loader.close()


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.OBSERVE_PACKAGES])
def test_observed_bundle_comes_back_as_it_is_here(mode: Mode, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "policies", x=READ, y=MARK + REFUSE)
    loader = Loader([folder], mode=mode)
    try:
        assert loader.load() == load_bundle([folder], mode=mode)
    finally:
        loader.close()


def test_forked_child_checks_in_a_process_of_its_own(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ)) as pdp:
        policies(tmp_path, READ + "# 1\n")
        pdp.reload()
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                policies(tmp_path, WRITE)
                pdp.reload()
                status = 0 if pdp.evaluate(asked("write")).is_permit else 2
                pdp.close()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pdp.evaluate(asked("read")).is_permit
        pdp.reload()
        assert pdp.evaluate(asked("write")).is_permit


def test_closed_pdp_is_not_reloaded(tmp_path: Path) -> None:
    with opened(policies(tmp_path, READ)) as pdp:
        pdp.close()
        with pytest.raises(ConfigError, match="closed"):
            pdp.reload()
        with pytest.raises(PdpError):
            pdp.evaluate(asked("read"))


# --- the guard ---------------------------------------------------------------------------------------

ASKS = (
    HEAD
    + """permit if call.tool == "pay"

approve contains {"reason": "a person looks", "risk": "low"} if call.tool == "pay"
"""
)


def kinds(guard: Guard) -> list[tuple[str, str]]:
    guard.ledger.flush()
    return [(e.kind, e.summary) for e in guard.ledger.events() if e.kind.startswith("policy_")]


def test_guard_reloads_and_says_so_in_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = policies(tmp_path, READ)
    with guarded(folder) as guard, guard.session():
        with pytest.raises(Denied):
            guard.call("write", {}, run=lambda: "ok")
        policies(tmp_path, WRITE)
        assert guard.reload() == guard.bundle.revision
        assert guard.call("write", {}, run=lambda: "ok") == "ok"
        policies(tmp_path, BAD)
        with pytest.raises(ConfigError):
            guard.reload()
        assert guard.call("write", {}, run=lambda: "ok") == "ok"
        (good, _), (bad, summary) = kinds(guard)
        assert (good, bad) == ("policy_reloaded", "policy_refused")
        assert "x.rego:6" in summary
        decisions = [e.attributes for e in guard.ledger.events() if e.kind == "decision"]
        assert sum(guard.bundle.revision in text for text in map(str, decisions)) == 2
    said = capsys.readouterr().err
    assert "policy_reloaded" in said
    assert "policy_refused" in said


def reloading(folder: Path, text: str, reload_: list[Callable[[], str]]) -> Callable[[Approval], str]:
    """A person who approves, after the policies were replaced."""

    def operator(_: Approval) -> str:
        policies(folder, text)
        reload_[0]()
        return "approve"

    return operator


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("# a remark\n" + ASKS + 'permit if call.tool == "more"\n', None),
        (ASKS.replace("a person looks", "two look"), "decision_changed"),
        (ASKS.replace('"low"', '"high"'), "decision_changed"),
        (ASKS + 'deny contains "no" if call.tool == "pay"\n', "decision_changed"),
        (READ, "decision_changed"),
    ],
)
def test_waiting_approval_survives_where_the_decision_is_the_same(
    text: str, code: str | None, tmp_path: Path
) -> None:
    later: list[Callable[[], str]] = []
    operator = reloading(tmp_path, text, later)
    ran: list[int] = []
    with guarded(policies(tmp_path, ASKS), operator=operator) as guard, guard.session():  # type: ignore[arg-type]
        later.append(guard.reload)
        if code is None:
            assert guard.call("pay", {}, run=lambda: ran.append(1) or "paid") == "paid"
        else:
            with pytest.raises(Denied) as raised:
                guard.call("pay", {}, run=lambda: ran.append(1) or "paid")
            assert raised.value.code == code
    assert ran == ([1] if code is None else [])


def test_watching_guard_reloads_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "INTERVAL_S", 0.05)
    folder = policies(tmp_path, READ)
    with Guard(folder, ledger=tmp_path / "l.db", isolation="thread", reload=True) as guard, guard.session():
        first = guard.bundle.revision
        (folder / "x.rego").write_text(BAD)
        assert until(lambda: [kind for kind, _ in kinds(guard)] == ["policy_refused"])
        assert guard.bundle.revision == first
        (folder / "x.rego").write_text(WRITE)
        assert until(lambda: guard.bundle.revision != first)
        assert guard.call("write", {}, run=lambda: "ok") == "ok"
        assert until(lambda: [kind for kind, _ in kinds(guard)] == ["policy_refused", "policy_reloaded"])
    assert until(lambda: not any(t.name == "fumehood-policies" for t in threading.enumerate()))


def test_guard_that_was_not_told_to_watch_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "INTERVAL_S", 0.01)
    folder = policies(tmp_path, READ)
    with guarded(folder) as guard:
        before = guard.bundle.revision
        policies(tmp_path, WRITE)
        assert not any(t.name == "fumehood-policies" for t in threading.enumerate())
        assert guard.bundle.revision == before


def test_opa_server_is_not_reloaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embedded engine only"):
        Guard(policies(tmp_path, READ), pdp="http://127.0.0.1:1", reload=True)


def test_document_of_the_guard_names_its_revision(tmp_path: Path) -> None:
    assert document("read")
    with guarded(policies(tmp_path, READ)) as guard, guard.session():
        seen: list[PolicyInput] = []
        evaluate = guard.pdp.evaluate

        def spy(given: PolicyInput) -> object:
            seen.append(given)
            return evaluate(given)

        guard.pdp.evaluate = spy  # type: ignore[method-assign,assignment]
        guard.call("read", {}, run=lambda: "ok")
        assert {d.revision for d in seen if d.phase is Phase.EXECUTE_TOOL} == {guard.bundle.revision}


def test_stamp_changes_with_whatever_a_bundle_is_made_of(tmp_path: Path) -> None:
    folder = policies(tmp_path, READ)
    seen = [stamp([folder])]
    (folder / "y.rego").write_text("# more\n")
    seen.append(stamp([folder]))
    (folder / "y.rego").write_text("# even more\n")
    seen.append(stamp([folder]))
    (folder / "data.json").write_text("{}")
    seen.append(stamp([folder]))
    (folder / "y.rego").unlink()
    seen.append(stamp([folder]))
    (folder / "readme.txt").write_text("no policy")
    (folder / ".hidden.rego").write_text("no policy")
    assert stamp([folder]) == seen[-1]
    folder.rename(tmp_path / "gone")
    seen.append(stamp([folder]))
    (tmp_path / "policies").write_text("a file")
    seen.append(stamp([folder]))
    assert len(set(seen)) == len(seen)
    assert stamp(["refund"]) == stamp(["refund"]) != ()
