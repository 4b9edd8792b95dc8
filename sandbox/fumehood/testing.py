"""For the tests of people who use Fumehood: a guard with a scripted operator and a ledger of its own.

    def test_big_refunds_wait_for_a_person(tmp_path):
        with guarded("./policies", operator={"issue_refund": "deny"}, folder=tmp_path) as guard:
            with guard.session(agent="bot", prompt="Refund $40 for order A-1"):
                with pytest.raises(Denied):
                    guard.call("issue_refund", {"order_id": "A-1", "amount_usd": 900}, run=refund)

The policies, the flow, the ledger and the engine are the real ones; only the person is a script.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from fumehood.approval import Approval, Move, Verdict
from fumehood.errors import ConfigError
from fumehood.guard import Guard
from fumehood.ledger import Ledger, open_ledger

__all__ = ["Answer", "Operator", "guarded"]

Answer = Literal["approve", "deny", "ignore"]
Operator = Mapping[str, Answer] | Callable[[Approval], Answer] | Answer

_MOVES = {"approve": Move.APPROVE, "deny": Move.DENY}


@contextmanager
def guarded(
    *policies: str | os.PathLike[str],
    operator: Operator = "ignore",
    folder: str | os.PathLike[str] | None = None,
    isolation: Literal["worker", "thread"] = "thread",
    agent: str = "agent",
    mode: Literal["enforce", "observe", "observe-packages"] = "enforce",
) -> Iterator[Guard]:
    """A guard whose requests are answered by *operator*: one answer, answers by tool, or a function.

    The ledger is made in *folder* (a temporary one by default); *mode* is as for `Guard`.

    Raises:
        ConfigError: an unknown answer, or policies that are refused.
    """
    with tempfile.TemporaryDirectory(prefix="fumehood-") as temporary:
        ledger = open_ledger(Path(folder or temporary) / "ledger.db")
        decide = _Script(operator, ledger)
        try:
            guard = Guard(
                *policies, ledger=ledger, isolation=isolation, agent=agent, on_pending=decide, mode=mode
            )
        except BaseException:
            ledger.close()
            raise
        with guard:
            yield guard


class _Script:
    """Answers each request as it begins to wait, through the ledger, as a person's command would."""

    def __init__(self, operator: Operator, ledger: Ledger) -> None:
        self._operator = operator
        self._ledger = ledger

    def __call__(self, approval: Approval) -> None:
        answer = self._answer(approval)
        if answer == "ignore":
            return
        if answer not in _MOVES:
            raise ConfigError(f"the operator's script answers {answer!r}; write approve, deny or ignore")
        self._ledger.decide(
            Verdict(approval.id, approval.revision, approval.digest, _MOVES[answer], by="script")
        )

    def _answer(self, approval: Approval) -> Answer:
        if callable(self._operator):
            return self._operator(approval)
        if isinstance(self._operator, Mapping):
            return self._operator.get(approval.tool, "ignore")
        return self._operator
