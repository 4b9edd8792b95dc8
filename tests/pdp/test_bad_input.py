"""Whatever is put in, the answer is a deny with its code, in time, and the next call works."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pdp.documents import as_input, asked, document
from pdp.policies import bundle_of, folder_of

from fumehood import Denied, Guard
from fumehood.canonical import canonical, require_small
from fumehood.errors import BindError, PdpError
from fumehood.model import Annotations, Effect, Pdp, PolicyInput
from fumehood.pdp import open_pdp
from fumehood.pdp.engine import Engine
from fumehood.pdp.thread import ThreadPdp
from fumehood.pdp.workers import WorkerPdp
from fumehood.provenance import Sources

DEADLINE_S = 0.25
SLACK_S = 0.1
LATE = 8  # times slower than it should be: this host may be busy with other things

HEAD = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "read"\n\n'
HOSTILE_POLICY = (
    HEAD
    + """
# Never ends.
deny contains "endless" if {
	call.tool == "endless"
	many := numbers.range(1, 100000)
	count([1 | some a in many; some b in many; some c in many; a + b == c - 999999]) > 0
}

# Two values of one name.
_which := call.args.one if call.tool == "conflict"

_which := call.args.two if call.tool == "conflict"

deny contains "conflict" if {
	call.tool == "conflict"
	_which == 1
}

# Obligations that nobody understands.
limit contains {"key": "k", "max": call.arg("max", 1), "per_s": 60} if call.tool == "odd"

permit if call.tool == "odd"

deny contains "wrong" if {
	call.tool == "wrong"
	abs(call.args.n) > 1
}
"""
)


def nested(levels: int, *, in_objects: bool) -> object:
    value: object = "leaf"
    for _ in range(levels):
        value = {"a": value} if in_objects else [value]
    return value


REFUSED: dict[str, Callable[[], object]] = {
    "ten megabytes": lambda: "x" * 10_000_000,
    "ten megabytes in parts": lambda: ["x" * 100] * 100_000,
    "200 lists in each other": lambda: nested(200, in_objects=False),
    "200 objects in each other": lambda: nested(200, in_objects=True),
    "100,000 levels": lambda: nested(100_000, in_objects=False),
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("-inf"),
    "2**64": lambda: 2**64,
    "a number of 5,000 digits": lambda: 10**5000,
    "a lone surrogate": lambda: "a\ud800b",
    "a lone surrogate as a key": lambda: {"\udfff": 1},
    "a million elements": lambda: list(range(1_000_000)),
    "three million elements": lambda: [0] * 3_000_000,
    "100,000 keys": lambda: {f"key{n}": n for n in range(100_000)},
    "a key that is no text": lambda: {1: 2},
    "what holds itself": lambda: (lambda held: held.append(held) or held)([]),  # type: ignore[func-returns-value]
}


LARGE: dict[str, Callable[[], object]] = {  # none that is certainly too large before it is written out
    "45,000 zeros": lambda: [0] * 45_000,
    "60,000 numbers": lambda: list(range(60_000)),
    "50,000 texts": lambda: [f"w{n}" for n in range(50_000)],
    "40,000 keys": lambda: {f"k{n}": n for n in range(40_000)},
    "what a source says, 20,000 times": lambda: ["hello"] * 20_000,
}


@pytest.fixture(scope="module", params=["worker", "thread", "opa"])
def guard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """A guard for each way to decide."""
    folder = tmp_path_factory.mktemp("g")
    how = (
        {"pdp": request.getfixturevalue("opa_url")}
        if request.param == "opa"
        else {"isolation": request.param}
    )
    with Guard(folder_of(folder / "p", x=HEAD), ledger=folder / "l.db", **how) as guard:
        yield guard


@pytest.mark.parametrize("name", LARGE)
def test_argument_that_is_almost_too_large_is_decided_or_denied_in_time(name: str, guard: Guard) -> None:
    value = LARGE[name]()
    with guard.session(prompt="say hello to w7"):
        begun = time.perf_counter()
        try:
            assert guard.call("read", {"v": value}, run=lambda v: "ran") == "ran"
        except Denied as denied:
            assert denied.code in ("pdp_input_too_large", "bad_arguments")
        assert time.perf_counter() - begun < (DEADLINE_S + SLACK_S) * LATE
        assert guard.call("read", {"v": 1}, run=lambda v: "ok") == "ok"


@pytest.mark.parametrize("name", REFUSED)
def test_argument_that_is_none_is_denied_in_time(name: str, guard: Guard) -> None:
    ran: list[int] = []
    value = REFUSED[name]()
    with guard.session():
        begun = time.perf_counter()
        with pytest.raises(Denied) as raised:
            guard.call("read", {"v": value}, run=lambda v: ran.append(1))
        took = time.perf_counter() - begun
        assert raised.value.code == "bad_arguments"
        assert took < (DEADLINE_S + SLACK_S) * LATE
        assert guard.call("read", {"v": 1}, run=lambda v: "ok") == "ok"
    assert ran == []


PASSED: dict[str, object] = {
    "NUL": "a\x00b",
    "keys that differ in Unicode form only": {"\u00e9": 1, "e\u0301": 2},
    "60 lists in each other": nested(60, in_objects=False),
    "2**53 - 1": 2**53 - 1,
    "900 kB": "x" * 900_000,
    "bidirectional text": "\u202eabc",
}


@pytest.mark.parametrize("name", PASSED)
def test_odd_argument_that_is_one_is_what_runs(name: str, guard: Guard) -> None:
    with guard.session():
        assert guard.call("read", {"v": PASSED[name]}, run=lambda v: v) == PASSED[name]


def test_keys_that_differ_in_unicode_form_are_two_keys(tmp_path: Path, opa_url: str) -> None:
    rule = (
        'deny contains "one" if call.args.v["\\u00e9"] == 2\n\n'
        'deny contains "two" if call.args.v["e\\u0301"] == 2\n'
    )
    bundle = bundle_of(tmp_path, HEAD + rule)
    question = asked("read", {"v": {"\u00e9": 1, "e\u0301": 2}})
    for pdp in (open_pdp(bundle, isolation="thread"), open_pdp(bundle, url=opa_url)):
        assert [r.text for r in pdp.evaluate(question).reasons] == ["two"]
        pdp.close()


FITTING: dict[str, Callable[[int], object]] = {
    "numbers": lambda n: {"v": [0] * n},
    "numbers far below": lambda n: {"v": {"w" * 50: [[0] * n]}},
    "texts": lambda n: {"v": ["abc"] * n},
    "names": lambda n: {"v": {f"k{i}": 0 for i in range(n)}},
    "top names": lambda n: {f"k{i}": 0 for i in range(n)},
    "what is empty": lambda n: {"v": [[]] * n},
}


def _least(arguments: object) -> int:
    """The bytes of the arguments and of what is said about where they come from, if that is nothing."""
    found = Sources().of(arguments, Annotations())["args"]  # type: ignore[arg-type]
    return len(canonical(arguments)) + len(canonical(found))


@pytest.mark.parametrize("name", FITTING)
def test_what_may_fit_is_not_refused_early(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 20_000  # bytes, instead of a megabyte
    monkeypatch.setattr("fumehood.canonical.MAX_DOCUMENT_BYTES", most)
    make = FITTING[name]
    low, high = 1, most
    while high - low > 1:  # the most that fits
        n = (low + high) // 2
        low, high = (n, high) if _least(make(n)) <= most else (low, n)
    require_small(make(low))
    with pytest.raises(BindError, match="too large"):
        require_small(make(2 * low))


# --- policies and workers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pdp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPdp]:
    pdp = open_pdp(bundle_of(tmp_path_factory.mktemp("p"), HOSTILE_POLICY))
    assert isinstance(pdp, WorkerPdp)
    yield pdp
    pdp.close()


def code_of(pdp: Pdp, question: PolicyInput) -> str:
    try:
        return pdp.evaluate(question).effect.value
    except PdpError as error:
        return error.code


HOSTILE: dict[str, tuple[PolicyInput, str]] = {
    "a comprehension that never ends": (asked("endless"), "pdp_timeout"),
    "a conflict": (asked("conflict", {"one": 1, "two": 2}), "pdp_error"),
    "a built-in's error": (asked("wrong", {"n": "text"}), "pdp_error"),
    "no JSON": (PolicyInput(asked().phase, "read", b"{"), "pdp_error"),
    "too many levels": (PolicyInput(asked().phase, "read", b"[" * 200 + b"]" * 200), "pdp_error"),
    "a megabyte more": (asked("read", {"v": "x" * (1 << 20)}), "pdp_input_too_large"),
    "not even UTF-8": (PolicyInput(asked().phase, "read", b'"\xff"'), "pdp_error"),
    "nothing": (PolicyInput(asked().phase, "read", b"{}"), "deny"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_policy_or_document_that_is_hostile_costs_its_own_call(name: str, pdp: WorkerPdp) -> None:
    question, code = HOSTILE[name]
    begun = time.perf_counter()
    assert code_of(pdp, question) == code
    assert time.perf_counter() - begun < (DEADLINE_S + SLACK_S) * LATE
    assert pdp.evaluate(asked("read")).effect is Effect.PERMIT


def test_deadline_is_kept_by_the_clock_of_the_worker(pdp: WorkerPdp) -> None:
    clocks = [time.clock_gettime(worker.clock) for worker in pdp._pool.all]
    workers = list(pdp._pool.all)
    spent: list[float] = []
    thread = threading.Thread(target=lambda: spent.append(len(code_of(pdp, asked("endless")))))
    thread.start()
    most = 0.0
    while thread.is_alive():
        for worker, before in zip(workers, clocks, strict=True):
            try:
                most = max(most, time.clock_gettime(worker.clock) - before)
            except OSError:
                continue
        time.sleep(0.002)
    thread.join()
    assert DEADLINE_S / 2 < most < DEADLINE_S + SLACK_S


def test_panic_of_the_engine_costs_its_own_call(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, HEAD)
    pdp = open_pdp(bundle, isolation="thread")
    assert isinstance(pdp, ThreadPdp)
    others: list[Engine] = []
    thread = threading.Thread(target=lambda: others.append(Engine(bundle.embedded, is_gated=True)))
    thread.start()
    thread.join()
    pdp._local.engine = others[0]  # regorus panics where it is used by another thread
    assert code_of(pdp, asked("read")) == "pdp_crashed"
    assert pdp.evaluate(asked("read")).effect is Effect.PERMIT
    pdp.close()


@pytest.mark.parametrize("maximum", ["many", None, -1, [1], {"a": 1}, 1e300])
def test_obligation_of_the_wrong_shape_is_a_deny_in_the_flow(maximum: object, pdp: WorkerPdp) -> None:
    from fumehood.model import understood

    decision = understood(pdp.evaluate(asked("odd", {"max": maximum})))  # type: ignore[dict-item]
    assert (decision.effect, decision.reasons[0].code) == (Effect.DENY, "unknown_obligation")


def test_worker_that_is_killed_in_the_middle_costs_its_own_call(tmp_path: Path) -> None:
    pdp = open_pdp(bundle_of(tmp_path, HOSTILE_POLICY), deadline_s=30.0, wall_s=30.0)
    assert isinstance(pdp, WorkerPdp)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(code_of(pdp, asked("endless"))))
    clocks = {worker.process.pid: worker.clock for worker in pdp._pool.all}
    before = {pid: time.clock_gettime(clock) for pid, clock in clocks.items()}
    thread.start()
    busy: list[int] = []
    while not busy:
        busy = [pid for pid, clock in clocks.items() if time.clock_gettime(clock) > before[pid] + 0.05]
        time.sleep(0.005)
    begun = time.perf_counter()
    os.kill(busy[0], signal.SIGKILL)
    thread.join()
    assert time.perf_counter() - begun < SLACK_S * LATE
    assert found == ["pdp_crashed"]
    assert pdp.evaluate(asked("read")).effect is Effect.PERMIT
    pdp.close()


SAID: dict[str, bytes] = {
    "no JSON": b"\x00{",
    "no list": b"\x00{}",
    "too short a list": b'\x00["read", {}]',
    "a number for a tool": b"\x00[3, {}, []]",
    "a list for the packages": b'\x00["read", [], []]',
    "a text for a rule": b'\x00["read", {"x": {"permit": "yes"}}, []]',
    "pairs of three": b'\x00["read", {"x": {"permit": [["boolean", true, 1]]}}, []]',
    "a number for a set": b'\x00["read", {"x": {"deny": [["set", 3]]}}, []]',
    "no items": b'\x00["read", {}, [["x", "deny"]]]',
    "items that are none": b'\x00["read", {}, [["x", "deny", 3]]]',
    "an endless list": b"\x00" + b"[" * 100_000,
}


@pytest.mark.parametrize("name", SAID)
def test_answer_of_the_wrong_shape_is_malformed(
    name: str, pdp: WorkerPdp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdp, "_ask", lambda number, body: SAID[name])
    assert code_of(pdp, asked("read")) == "pdp_malformed"


def test_document_is_sent_whole_whatever_stands_in_it(pdp: WorkerPdp) -> None:
    content = document("read", {"v": "\x00" * 1000, "w": "\u2028\u2029", "": "\x7f"})
    assert json.loads(as_input(content).body)["action"]["properties"]["args"]["v"] == "\x00" * 1000
    assert pdp.evaluate(as_input(content)).is_permit
