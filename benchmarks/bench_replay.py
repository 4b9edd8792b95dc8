"""How long it takes to decide recorded calls again: `fumehood policy replay` over one ledger.

    python benchmarks/bench_replay.py [--calls N] [--json OUT]

A guard records two thousand calls of three tools; their rows are then copied until there are N: as they
are (the same calls again and again), and each with arguments of its own (an order, a ticket,
a feature that no other call has). Each ledger is replayed in one process and in as many as there are
processors. Times are wall clock, in seconds; `cpu_seconds` are those of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import tempfile
import time
from pathlib import Path

from fumehood import Denied, Guard
from fumehood.workbench.replay_run import Wanted, replay

POLICIES = ["refund", "drain"]
RECORDED = 2000
FIRST = 100_000  # calls are numbered from here, so that all numbers have six digits
COLUMNS = (
    "at, kind, session_id, agent, tool, attempt_id, effect, summary, attributes, labels, agent_n, writer"
)


def record(path: Path, calls: int, *, is_each_other: bool) -> None:
    """A ledger with *calls* decisions; *is_each_other*: no two have the same arguments."""
    dice = random.Random(1)
    guard = Guard(*POLICIES, ledger=path, isolation="thread", unattended="deny")
    with guard, guard.session(agent="bot", user="alice", prompt="Please refund $40 for order A-1"):
        for n in range(min(calls, RECORDED)):
            _call(guard, FIRST + n, dice)
    db = sqlite3.connect(path)
    rows = db.execute(
        f"SELECT body, {COLUMNS} FROM events JOIN documents USING (seq) WHERE kind = 'decision' ORDER BY seq"
    ).fetchall()
    db.execute("DELETE FROM events")
    db.execute("DELETE FROM documents")
    marks = ", ".join("?" * 12)
    for seq in range(1, calls + 1):
        n = (seq - 1) % len(rows)
        body, *event = rows[n]
        if is_each_other:
            old, new = str(FIRST + n), str(FIRST + seq - 1)
            event[8] = event[8].replace(old, new)
            body = body.decode().replace(old, new).encode()
        db.execute(f"INSERT INTO events (seq, {COLUMNS}) VALUES (?, {marks})", (seq, *event))
        db.execute("INSERT INTO documents VALUES (?, ?)", (seq, body))
    db.commit()
    db.close()


def _call(guard: Guard, n: int, dice: random.Random) -> None:
    tool = dice.choice(["issue_refund", "score", "read_ticket"])
    arguments: dict[str, object] = {
        "issue_refund": {"order_id": f"A-{n}", "amount_usd": dice.choice([40, 400, 4000])},
        "score": {"features": [n, *(dice.random() for _ in range(15))]},
        "read_ticket": {"ticket_id": n},
    }[tool]
    try:
        guard.call(tool, arguments, run=lambda **_: "ok")
    except Denied:
        return


def timed(ledger: Path, processes: int) -> dict[str, object]:
    began, used = time.perf_counter(), _cpu_s()
    found = replay(POLICIES, Wanted(str(ledger)), processes=processes)
    took = time.perf_counter() - began
    return {
        "ledger": ledger.stem,
        "processes": processes,
        "calls": found.calls,
        "seconds": round(took, 2),
        "cpu_seconds": round(_cpu_s() - used, 2),
        "us_per_call": round(took / max(1, found.calls) * 1e6, 1),
        "counts": {change.value: count for change, count in sorted(found.counts.items())},
    }


def _cpu_s() -> float:
    """Processor time of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, is_each_other in (("repeated", False), ("all-different", True)):
            ledger = Path(folder) / f"{name}.db"
            record(ledger, options.calls, is_each_other=is_each_other)
            rows += [timed(ledger, processes) for processes in sorted({1, cores})]
    document = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": cores,
        "rows": rows,
    }
    names = ("ledger", "processes", "calls", "seconds", "cpu_seconds", "us_per_call")
    print("  " + " ".join(f"{name:>13}" for name in names))
    for row in rows:
        print("  " + " ".join(f"{row[name]!s:>13}" for name in names))
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
