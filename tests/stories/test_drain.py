"""The drain: one limit for all processes that share the ledger, exactly at its number."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from fumehood.ledger import open_ledger

LIMIT = 20  # of the pack
ROWS = 24  # that each of two processes wants
AGENT = """
import os, sys
from fumehood import Denied, Guard

ledger, effects, name = sys.argv[1:]
guard = Guard("drain", ledger=ledger, isolation="thread")

@guard.tool(kind="fetch")
def score(features: list[float]) -> float:
    fd = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{name}\\n".encode())
    os.close(fd)
    return 0.5

print("ready", flush=True)
sys.stdin.readline()
codes = []
with guard, guard.session(agent="pricing-bot", user=name):
    for row in range(24):
        try:
            score([row, 1, 2])
        except Denied as refused:
            codes.append(refused.code)
print(*codes)
"""


def test_the_limit_stops_two_processes_together_exactly_at_its_number(tmp_path: Path) -> None:
    ledger, effects = tmp_path / "trace.db", tmp_path / "effects"
    open_ledger(ledger).close()
    agents = [
        subprocess.Popen(
            [sys.executable, "-c", AGENT, str(ledger), str(effects), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for agent in agents:
        assert agent.stdout and agent.stdout.readline() == "ready\n"
    answers = []
    for agent in agents:  # both begin now
        assert agent.stdin
        agent.stdin.write("go\n")
        agent.stdin.flush()
    for agent in agents:
        out, _ = agent.communicate(timeout=60)
        assert agent.returncode == 0
        answers += out.split()

    assert answers == ["limit_exceeded"] * (2 * ROWS - LIMIT)
    done = effects.read_text().split()
    assert len(done) == LIMIT
    book = open_ledger(ledger)
    decisions = [e for e in book.events(0, limit=10_000) if e.kind == "decision"]
    book.close()
    assert Counter(e.effect for e in decisions) == {"permit": LIMIT, "deny": 2 * ROWS - LIMIT}
    refused = [e for e in decisions if e.effect == "deny"]
    assert {(e.agent, e.tool) for e in refused} == {("pricing-bot", "score")}
    assert len({e.session_id for e in decisions}) == 2
    assert all(e.session_id for e in refused)
