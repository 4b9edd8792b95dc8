"""Worker processes: what a policy does to them costs one call, and nobody survives the application."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pdp.documents import asked, document
from pdp.policies import HEAD, bundle_of

from fumehood.errors import ConfigError, ConfinementError, PdpError
from fumehood.model import Effect, Pdp, Phase, PolicyInput
from fumehood.pdp import Bundle, open_pdp
from fumehood.pdp.fair import FairQueue
from fumehood.pdp.workers import WorkerPdp

SLOW = """
_pairs contains [a, b, c] if {
	call.tool == "slow"
	some a in numbers.range(1, 400)
	some b in numbers.range(1, 400)
	some c in numbers.range(1, 400)
}

deny contains "slow" if count(_pairs) > 1
"""
GREEDY = """
deny contains "greedy" if {
	call.tool == "greedy"
	count(numbers.range(1, 100000000)) > 1
}
"""


@contextlib.contextmanager
def opened(bundle: Bundle, **more: object) -> Iterator[WorkerPdp]:
    pdp = open_pdp(bundle, **more)  # type: ignore[arg-type]
    assert isinstance(pdp, WorkerPdp)
    try:
        yield pdp
    finally:
        pdp.close()


@pytest.fixture
def pdp(tmp_path: Path) -> Iterator[WorkerPdp]:
    with opened(bundle_of(tmp_path, HEAD + SLOW + GREEDY), wall_s=30.0) as pdp:
        yield pdp


def code_of(pdp: Pdp, tool: str) -> str:
    with pytest.raises(PdpError) as raised:
        pdp.evaluate(asked(tool))
    return raised.value.code


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_worker_decides_as_the_thread_does(pdp: WorkerPdp, tmp_path: Path) -> None:
    thread = open_pdp(bundle_of(tmp_path, HEAD + SLOW + GREEDY), isolation="thread")
    for tool in ("read", "other"):
        assert pdp.evaluate(asked(tool)) == thread.evaluate(asked(tool))


def test_worker_is_locked_in_with_nothing_inherited(pdp: WorkerPdp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    for pid in pdp.pids():
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status
        if os.getuid() != 0:
            continue
        assert b"SECRET_OF_MINE" not in Path(f"/proc/{pid}/environ").read_bytes()
        targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert sorted(t.split(":")[0] for t in targets) == ["/dev/null"] * 3 + ["socket"]


def test_slow_policy_is_a_timeout_for_that_call_only(tmp_path: Path) -> None:
    with opened(bundle_of(tmp_path, HEAD + SLOW), deadline_s=0.05, wall_s=30.0) as pdp:
        before = set(pdp.pids())
        assert code_of(pdp, "slow") == "pdp_timeout"
        assert pdp.evaluate(asked()).effect is Effect.PERMIT
        assert len(before & set(pdp.pids())) == 1


def test_wall_clock_stands_behind_the_cpu_deadline(tmp_path: Path) -> None:
    with opened(bundle_of(tmp_path, HEAD), wall_s=0.1) as pdp:
        for pid in pdp.pids():
            os.kill(pid, signal.SIGSTOP)
        assert code_of(pdp, "read") == "pdp_timeout"


def test_greedy_policy_is_a_crash_for_that_call_only(tmp_path: Path) -> None:
    with opened(
        bundle_of(tmp_path, HEAD + GREEDY), deadline_s=20.0, wall_s=60.0, memory_bytes=200 << 20
    ) as pdp:
        assert code_of(pdp, "greedy") == "pdp_crashed"
        assert pdp.evaluate(asked()).effect is Effect.PERMIT


def test_calls_behind_a_killed_worker_go_to_the_next(pdp: WorkerPdp) -> None:
    for _ in range(3):
        os.kill(pdp.pids()[0], signal.SIGKILL)
        answers = []
        for _ in range(4):
            try:
                answers.append(pdp.evaluate(asked()).effect is Effect.PERMIT)
            except PdpError as error:
                assert error.code == "pdp_crashed"  # it was killed while it decided
        assert answers.count(True) >= 3


def test_all_workers_killed_at_once_are_all_replaced(pdp: WorkerPdp) -> None:
    for pid in pdp.pids():
        os.kill(pid, signal.SIGKILL)
    for _ in range(3):
        with contextlib.suppress(PdpError):
            pdp.evaluate(asked())
    assert pdp.evaluate(asked()).effect is Effect.PERMIT


def test_forty_threads_get_forty_right_answers(pdp: WorkerPdp) -> None:
    tools = ["read", "other"] * 20
    with ThreadPoolExecutor(40) as pool:
        decisions = list(pool.map(lambda tool: pdp.evaluate(asked(tool)), tools))
    assert [d.effect is Effect.PERMIT for d in decisions] == [tool == "read" for tool in tools]


def test_big_document_passes_and_a_bigger_one_is_refused(pdp: WorkerPdp) -> None:
    big = asked("read", {"text": "x" * 900_000})
    assert pdp.evaluate(big).effect is Effect.PERMIT
    with pytest.raises(PdpError) as raised:
        pdp.evaluate(asked("read", {"text": "x" * (1 << 20)}))
    assert raised.value.code == "pdp_input_too_large"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"a": \xed\xa0\x80}', b"[" * 200 + b"]" * 200, b"nul"]
)
def test_document_that_is_none_is_an_error_and_nothing_dies(pdp: WorkerPdp, body: bytes) -> None:
    before = pdp.pids()
    with pytest.raises(PdpError) as raised:
        pdp.evaluate(PolicyInput(Phase.EXECUTE_TOOL, "read", body))
    assert raised.value.code == "pdp_error"
    assert pdp.pids() == before


def test_error_in_a_policy_names_its_file(tmp_path: Path) -> None:
    rule = 'deny contains "x" if {\n\tcall.tool == "bad"\n\tabs(call.args.n) > 1\n}\n'
    with opened(bundle_of(tmp_path, HEAD + rule)) as pdp, pytest.raises(PdpError) as raised:
        pdp.evaluate(asked("bad", {"n": "text"}))
    assert raised.value.code == "pdp_error"
    assert "policies/x.rego:9" in str(raised.value)
    assert "stack" not in str(raised.value).lower()


def test_closed_pdp_refuses_and_leaves_nobody(tmp_path: Path) -> None:
    with opened(bundle_of(tmp_path, HEAD)) as pdp:
        pids = pdp.pids()
        pdp.close()
        assert code_of(pdp, "read") == "pdp_unreachable"
    assert not any(map(lives, pids))


def test_forgotten_pdp_leaves_nobody(tmp_path: Path) -> None:
    pdp = open_pdp(bundle_of(tmp_path, HEAD))
    assert isinstance(pdp, WorkerPdp)
    pids = pdp.pids()
    del pdp
    gc.collect()
    assert not any(map(lives, pids))


def test_forked_child_starts_its_own_and_leaves_the_parents(pdp: WorkerPdp) -> None:
    parents = pdp.pids()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"failed"
        with contextlib.suppress(BaseException):
            permitted = pdp.evaluate(asked()).effect is Effect.PERMIT
            own = set(pdp.pids()).isdisjoint(parents) and len(pdp.pids()) == 2
            pdp.close()
            said = b"ok" if permitted and own else b"wrong"
        os.write(write_end, said)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read_end, 16) == b"ok"
    os.close(read_end)
    os.close(write_end)
    assert pdp.pids() == parents
    assert pdp.evaluate(asked()).effect is Effect.PERMIT


PARENT = """
import sys, threading
sys.path[:] = {path!r}
from fumehood.pdp import load_bundle, open_pdp
pdp = open_pdp(load_bundle([{folder!r}]), deadline_s=60.0, wall_s=60.0)
print(*pdp.pids(), flush=True)
if {busy}:
    from fumehood.model import Phase, PolicyInput
    asked = PolicyInput(Phase.EXECUTE_TOOL, "slow", {body!r})
    for _ in range(2):
        threading.Thread(target=pdp.evaluate, args=(asked,)).start()
threading.Event().wait()
"""


def test_killed_parent_takes_its_idle_workers_along(tmp_path: Path) -> None:
    bundle_of(tmp_path, HEAD)
    script = PARENT.format(path=sys.path, folder=str(tmp_path / "policies"), busy=False, body=b"")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        parent.kill()
    assert len(pids) == 2
    assert gone(pids, within_s=20)


@pytest.mark.slow
def test_killed_parent_takes_its_busy_workers_along(tmp_path: Path) -> None:
    import json

    bundle_of(tmp_path, HEAD + SLOW.replace("400", "900"))
    body = json.dumps(document("slow")).encode()
    script = PARENT.format(path=sys.path, folder=str(tmp_path / "policies"), busy=True, body=body)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        threading.Event().wait(0.5)
        parent.kill()
    assert gone(pids, within_s=90)


def gone(pids: list[int], *, within_s: float) -> bool:
    pause = threading.Event()
    for _ in range(int(within_s * 50)):
        if not any(map(lives, pids)):
            return True
        pause.wait(0.02)
    return False


def test_lock_down_that_fails_is_told_and_nothing_starts(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, HEAD)
    (tmp_path / "lockdown_of_test.py").write_text(
        "from fumehood.errors import ConfinementError\n"
        "def fails(*, memory_bytes):\n"
        "    raise ConfinementError('refused', layer='seccomp', remedy='Use another kernel.')\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ConfinementError, match="refused") as raised:
            open_pdp(bundle, lock_down="lockdown_of_test:fails")
        with pytest.raises(PdpError, match="no_such_module") as missing:
            open_pdp(bundle, lock_down="no_such_module:fails")
    finally:
        sys.path.remove(str(tmp_path))
    assert (raised.value.layer, raised.value.remedy) == ("seccomp", "Use another kernel.")
    assert missing.value.code == "pdp_unreachable"


def test_one_worker_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two"):
        open_pdp(bundle_of(tmp_path, HEAD), workers=1)


def test_unknown_isolation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="isolation"):
        open_pdp(bundle_of(tmp_path, HEAD), isolation="none")  # type: ignore[arg-type]


def test_no_thread_starves_while_others_ask_again_and_again(pdp: WorkerPdp) -> None:
    ended, counts = threading.Event(), [0] * 8

    def ask(place: int) -> None:
        while not ended.is_set():
            assert pdp.evaluate(asked()).is_permit
            counts[place] += 1

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, place) for place in range(8)]
        for _ in range(2000):
            if ended.wait(0.01) or max(counts) > 100:
                break
        ended.set()
        assert [one.result() for one in asking] == [None] * 8
    assert min(counts) * 4 > max(counts) > 100, counts


def test_first_who_waits_is_first_served() -> None:
    fair: FairQueue[int] = FairQueue()
    order: list[int] = []
    waiting = [threading.Thread(target=lambda n=n: order.append(n * 10 + fair.get(20.0))) for n in range(5)]
    for number, thread in enumerate(waiting):
        thread.start()
        while len(fair._waiting) != number + 1:
            threading.Event().wait(0.001)
    with pytest.raises(queue.Empty):
        fair.get(0.01)
    for number, thread in enumerate(waiting):
        fair.put(number)
        thread.join()
    assert order == [0, 11, 22, 33, 44]
    fair.put(7)
    assert fair.get(0.0) == 7
    assert not fair._waiting


def test_host_that_stood_still_is_no_reason_to_come_away_with_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fumehood.pdp.fair.GRACE_S", 20.0)
    late: FairQueue[int] = FairQueue()
    timer = threading.Timer(0.1, late.put, [7])
    timer.start()
    assert late.get(0.01) == 7
    timer.join()
    monkeypatch.setattr("fumehood.pdp.fair.GRACE_S", 0.01)
    with pytest.raises(queue.Empty):
        late.get(0.01)
    assert not late._waiting
