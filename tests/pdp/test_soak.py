"""A million decisions by eight threads at once: none is wrong, and nobody's memory grows."""

from __future__ import annotations

import faulthandler
import os
import threading
from pathlib import Path

import pytest
from pdp.documents import asked

from fumehood.model import Pdp
from fumehood.pdp import load_bundle, open_pdp
from fumehood.pdp.workers import WorkerPdp

THREADS = 8
DECISIONS = 1_000_000
TRUSTED = {"/order_id": "user", "/amount_usd": "user"}
ASKED = [
    (asked("issue_refund", {"order_id": f"A-{amount}", "amount_usd": amount}, origins=origins), effect, asks)
    for amount, effect in ((40, "permit"), (999, "permit"), (1001, "deny"), (0, "deny"))
    for origins, asks in ((TRUSTED, 0), ({}, 2))
] + [(asked("read_ticket"), "permit", 0), (asked("other"), "deny", 0)]


def resident_kb(pid: int) -> int:
    (line,) = (row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1])


def decide(pdp: Pdp, count: int) -> list[str]:
    """What went wrong."""
    wrong: list[str] = []

    def run(place: int) -> None:
        for number in range(place, count, THREADS):
            question, effect, asks = ASKED[number % len(ASKED)]
            decision = pdp.evaluate(question)
            if decision.effect.value != effect or len(decision.approvals) != (
                asks if effect == "permit" else 0
            ):
                wrong.append(f"{number}: {decision}")

    threads = [threading.Thread(target=run, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["worker", "thread"])
def test_million_decisions_are_right_and_cost_no_memory(isolation: str) -> None:
    faulthandler.dump_traceback_later(1800, exit=True)  # instead of the time that other tests have
    pdp = open_pdp(load_bundle("refund"), isolation=isolation)  # type: ignore[arg-type]
    pids = [os.getpid(), *(pdp.pids() if isinstance(pdp, WorkerPdp) else ())]
    assert decide(pdp, DECISIONS // 5) == []
    before = [resident_kb(pid) for pid in pids]
    assert decide(pdp, DECISIONS) == []
    after = [resident_kb(pid) for pid in pids]
    pdp.close()
    assert all(late < early * 1.05 + 4096 for early, late in zip(before, after, strict=True)), (before, after)


def test_some_thousand_decisions_are_right() -> None:
    for isolation in ("worker", "thread"):
        pdp = open_pdp(load_bundle("refund"), isolation=isolation)  # type: ignore[arg-type]
        assert decide(pdp, 4000) == []
        pdp.close()
