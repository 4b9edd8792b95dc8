"""What a governed call costs, in one run: bare, thread, worker; the decision alone; a verdict's way back;
confined code beside `python -c`.

    python benchmarks/bench_guard.py [--calls N] [--json OUT]

Prints a table and, with --json, a JSON document. Times are medians (p50) and p99 in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fumehood import Guard, confine
from fumehood.approval import Move, State, Verdict
from fumehood.ledger import open_ledger

POLICY = """
package policies.bench

import data.fumehood.call

permit if call.tool == "noop"

permit if call.tool == "ask"

approve contains {"reason": "asked by the benchmark", "risk": "low", "timeout_s": 60} if call.tool == "ask"
"""


def noop(order_id: str, amount_usd: float) -> str:
    return "ok"


ARGS = {"order_id": "A-1", "amount_usd": 40.0}
Row = dict[str, object]


def measure(name: str, function: Callable[[], object], count: int) -> Row:
    """*function* timed *count* times after a warm-up."""
    for _ in range(max(3, count // 20)):
        function()
    times = sorted(_timed(function) for _ in range(count))
    return {
        "name": name,
        "n": count,
        "p50_ms": round(statistics.median(times), 4),
        "p99_ms": round(times[min(count - 1, int(count * 0.99))], 4),
        "min_ms": round(times[0], 4),
    }


def _timed(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return (time.perf_counter() - begun) * 1000


def governed(guard: Guard, *, kind: str | None) -> Callable[[], object]:
    """A call of a tool that does nothing, of *kind*; without a kind it is claimed as a side effect."""
    notes = {"kind": kind} if kind else None
    return lambda: guard.call("noop", ARGS, run=noop, annotations=notes)


def guard_rows(folder: Path, calls: int) -> list[Row]:
    rows = [measure("bare call", lambda: noop(**ARGS), calls)]
    for isolation in ("thread", "worker"):
        with Guard(folder / "policies", ledger=folder / f"{isolation}.db", isolation=isolation) as guard:
            with guard.session(agent="bench", prompt="Refund $40 for order A-1"):
                rows.append(measure(f"governed read, {isolation}", governed(guard, kind="read"), calls))
                rows.append(measure(f"governed side effect, {isolation}", governed(guard, kind=None), calls))
            rows.append(measure(f"decision alone, {isolation}", decision_alone(guard), calls))
    return rows


def decision_alone(guard: Guard) -> Callable[[], object]:
    """The PDP asked again and again with the document of the last call."""
    from fumehood.model import Phase, PolicyInput

    guard.ledger.flush()
    last = next(e for e in reversed(guard.ledger.last_events(20)) if e.kind == "decision")
    document = PolicyInput(Phase.EXECUTE_TOOL, "noop", guard.ledger.policy_input(last.seq))
    return lambda: guard.pdp.evaluate(document)


WAITER = """
import sys, time
from fumehood import Guard
guard = Guard(sys.argv[1], ledger=sys.argv[2], isolation="thread")
with guard.session(agent="bench"):
    for _ in range(int(sys.argv[3])):
        guard.call("ask", {}, run=lambda: "ok")
        print(time.time(), flush=True)
"""


def verdict_row(folder: Path, count: int) -> Row:
    """From the verdict in this process to the return of the call that waits in another, milliseconds."""
    path = folder / "verdict.db"
    command = [sys.executable, "-c", WAITER, str(folder / "policies"), str(path), str(count)]
    ledger = open_ledger(path)
    waiter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    times = []
    for _ in range(count):
        while not (pending := ledger.approvals([State.PENDING])):
            time.sleep(0.002)
        time.sleep(0.02)
        one = pending[0]
        begun = time.time()
        ledger.decide(Verdict(one.id, one.revision, one.digest, Move.APPROVE, by="bench"))
        assert waiter.stdout is not None
        times.append((float(waiter.stdout.readline()) - begun) * 1000)
    waiter.communicate(timeout=10)
    ledger.close()
    times.sort()
    return {
        "name": "verdict to return of the call, two processes",
        "n": count,
        "p50_ms": round(statistics.median(times), 3),
        "p99_ms": round(times[min(count - 1, int(count * 0.99))], 3),
        "min_ms": round(times[0], 3),
    }


def confined_rows(count: int, tier: str) -> list[Row]:
    source = "print(1 + 1)"
    plain = [sys.executable, "-c", source]
    rows = [
        measure(
            "python -c, unconfined", lambda: subprocess.run(plain, capture_output=True, check=True), count
        )
    ]
    warm = lambda: confine.python(source, profile="python-offline", tier=tier)  # noqa: E731
    rows.append(measure(f"confine.python, warm, {tier}", warm, count))
    cold = lambda: confine.run(["python3", "-c", source], profile="python-offline", tier=tier)  # noqa: E731
    rows.append(measure(f"confine.run, cold, {tier}", cold, count))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--tier", default="full")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the lines about waiting calls
    with tempfile.TemporaryDirectory(prefix="fumehood-bench-") as name:
        folder = Path(name)
        (folder / "policies").mkdir()
        (folder / "policies" / "bench.rego").write_text(POLICY)
        rows = guard_rows(folder, options.calls)
        rows.append(verdict_row(folder, 50))
    rows += confined_rows(30, options.tier)
    document = {"python": platform.python_version(), "kernel": platform.release(), "rows": rows}
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    width = max(len(str(r["name"])) for r in rows)
    print(f"{'':{width}}  {'n':>6}  {'p50 ms':>9}  {'p99 ms':>9}")
    for row in rows:
        print(f"{row['name']!s:{width}}  {row['n']!s:>6}  {row['p50_ms']!s:>9}  {row['p99_ms']!s:>9}")


if __name__ == "__main__":
    main()
