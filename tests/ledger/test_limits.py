"""The running total against a plain list of everything that was ever spent."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fumehood import limits
from fumehood.ledger import files
from fumehood.ledger.sqlite import SqliteLedger
from fumehood.model import Limit
from ledger.samples import a_call, permit

RULES = [
    Limit("a", 3, 10),
    Limit("a", 5, 25),
    Limit("b", 2.5, 10, 0.5),
    Limit("a", 4, 10, 2),
    Limit("c", 0, 5),
]
STEP = st.tuples(st.integers(0, 12), st.lists(st.sampled_from(RULES), min_size=1, max_size=3, unique=True))


def expected(spent: list[tuple[float, str, float]], asked: list[Limit], now: float) -> bool:
    """What a sliding window means, written as slowly as possible."""
    return all(
        sum(cost for at, key, cost in spent if key == limit.key and at > now - limit.per_s) + limit.cost
        <= limit.max
        for limit in asked
    )


@settings(max_examples=60)
@given(st.lists(STEP, max_size=40))
def test_window_is_exact(steps: list[tuple[int, list[Limit]]]) -> None:
    now = 1000.0
    spent: list[tuple[float, str, float]] = []
    with tempfile.TemporaryDirectory(prefix="fh-") as folder:
        path = Path(folder) / "l.db"
        files.create_private(path)
        files.make_private_folder(files.sidecar(path))
        ledger = SqliteLedger(path, durability="process", is_readonly=False, clock=lambda: now)
        for wait, asked in steps:
            now += wait
            decision = ledger.record(a_call(), permit(*asked), document=b"").decision
            assert decision.is_permit == expected(spent, asked, now)
            if decision.is_permit:
                keys = {limit.key: max(o.cost for o in asked if o.key == limit.key) for limit in asked}
                spent += [(now, key, cost) for key, cost in keys.items()]
            else:
                assert {r.code for r in decision.reasons} == {"limit_exceeded"}
                assert _retry_is_right(decision.reasons[0].retry_after_s, spent, asked, now)
        ledger.close()


def _retry_is_right(
    after_s: float | None, spent: list[tuple[float, str, float]], asked: list[Limit], now: float
) -> bool:
    """Waiting that long makes room for the limit that refused first, and a moment less does not."""
    refusing = next(limit for limit in asked if not expected(spent, [limit], now))
    if after_s is None:
        return refusing.cost > refusing.max
    return expected(spent, [refusing], now + after_s) and not expected(
        spent, [refusing], now + after_s - 0.01
    )


def test_reason_names_no_key_to_the_agent() -> None:
    reason = limits.refusal(Limit("alice@example.org", 3, 60), 3_000_000, 990.0, now=1000.0)
    assert "alice" not in reason.text + (reason.remedy or "")
    assert reason.detail is not None
    assert "alice" in reason.detail
    assert (reason.retry_after_s, reason.remedy) == (50.0, "try again in 50 s")
