"""An agent asks a scoring model row after row, until it has a copy. The pack's limit stops it.

    python examples/drain.py

No framework here: a plain function, governed by a decorator. The limit is counted in the ledger, so it
holds for every process that shares it, and after a restart.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from fumehood import Denied, Guard

guard = Guard("drain", ledger=Path(tempfile.mkdtemp()) / "trace.db")


@guard.tool(kind="fetch")
def score(features: list[float]) -> float:
    """Score one customer."""
    return round(0.9 - 0.004 * features[0] - 0.1 * features[1], 3)


def main() -> None:
    answered = 0
    with guard, guard.session(agent="pricing-bot", user="dave", prompt="Score these customers."):
        for row in range(24):
            try:
                score([20 + 10 * (row % 5), row // 5])
                answered += 1
            except Denied as refused:
                print(f"row {row + 1}: {refused.code}: {refused}")
        stopped = [e for e in guard.ledger.events() if e.effect == "deny"]
    print(f"{answered} rows were answered, {len(stopped)} were not")
    print(f"on record: agent {stopped[0].agent}, tool {stopped[0].tool}, session {stopped[0].session_id}")


if __name__ == "__main__":
    main()
