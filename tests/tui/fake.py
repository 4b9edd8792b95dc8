"""A ledger in memory, as much of the protocol as the screens use, and values to fill it with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from fumehood.approval import Approval, IllegalTransition, Move, State, Verdict, next_state
from fumehood.canonical import canonical
from fumehood.errors import LedgerError
from fumehood.ledger.protocol import Event, Ledger, Stop, StopScope, Writer
from fumehood.model import Approve, Risk

NOW = 1_763_900_000.0
CALLS = (
    ("7f3a91c2", "issue_refund", "support-bot", Risk.HIGH, "the amount is not known to come from the user"),
    ("81bc04d7", "http_post", "ops-bot", Risk.MEDIUM, "the host is not on the list"),
    ("82aa5e10", "sql", "analyst", Risk.LOW, "more than a thousand rows"),
)


def approval(id: str = "7f3a91c2", /, **more: object) -> Approval:
    """A pending request with sensible fields; *more* replaces some."""
    plain = Approval(
        id=id,
        revision=1,
        state=State.PENDING,
        session_id="s-1",
        attempt_id="t-1",
        agent="support-bot",
        user="alice",
        tool="issue_refund",
        definition_digest="sha256:" + "d" * 64,
        call_id="call-1",
        digest="hmac-sha256:" + id * 8,
        args=canonical({"order_id": "A-1", "amount_usd": 500}),
        injected=(),
        reasons=(
            Approve(
                "the amount is not known to come from the user", Risk.MEDIUM, rule="policies.refunds.approve"
            ),
        ),
        policy_revision="sha256:" + "9" * 64,
        rules=("policies.refunds.approve",),
        created_at=NOW - 42,
        expires_at=NOW + 258,
        lease="lease-1",
        waiter=(1, 1),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def event(seq: int, /, **more: object) -> Event:
    """A decision in the trace."""
    plain = Event(
        seq=seq,
        at=NOW - 60 + seq,
        kind="decision",
        session_id="s-1",
        agent="support-bot",
        tool="read_ticket",
        attempt_id=f"t-{seq}",
        effect="permit",
        summary="policies.refunds.permit",
        attributes=b'{"gen_ai.tool.name":"read_ticket"}',
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def three() -> list[Approval]:
    """One request of each risk, the high one the soonest to expire."""
    return [
        approval(
            id,
            tool=tool,
            agent=agent,
            session_id=f"s-{n}",
            reasons=(Approve(why, risk, rule="policies.ops.approve"),),
            rules=("policies.ops.approve",),
            created_at=NOW - 42 + n,
            expires_at=NOW + (18, 100, 242)[n],
        )
        for n, (id, tool, agent, risk, why) in enumerate(CALLS)
    ]


class FakeLedger:
    """Thread-safe; `hold()` makes every call wait, `fail` makes every call fail."""

    def __init__(self, approvals: Sequence[Approval] = (), events: Sequence[Event] = ()) -> None:
        self.rows = {a.id: a for a in approvals}
        self.trace = list(events)
        self.halts: list[Stop] = []
        self.verdicts: list[Verdict] = []
        self.threads: set[int] = set()
        self.fail: LedgerError | None = None
        self.refuse: Exception | None = None
        self.is_closed = False
        self.reads = 0
        self._watchers: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def as_ledger(self) -> Ledger:
        return cast("Ledger", self)

    # what tests do to it

    def add(self, *approvals: Approval) -> None:
        with self._lock:
            self.rows.update({a.id: a for a in approvals})
        self.ring()

    def change(self, id: str, /, **more: object) -> None:
        with self._lock:
            self.rows[id] = replace(self.rows[id], **more)  # type: ignore[arg-type]
        self.ring()

    def happen(self, *events: Event) -> None:
        with self._lock:
            self.trace.extend(events)
        self.ring()

    def ring(self) -> None:
        for watcher in tuple(self._watchers):
            watcher()

    # the protocol

    def watch(self, callback: Callable[[], None], /) -> Callable[[], None]:
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def writer(self) -> Writer | None:
        self._called()
        last = self.trace[-1] if self.trace else None
        return Writer(last.agent, 4242, "agent.py", last.at) if last else None

    def approvals(self, states: Sequence[State] = (State.PENDING,), /, *, limit: int = 500) -> list[Approval]:
        self._called()
        self.reads += 1
        with self._lock:
            return [a for a in self.rows.values() if a.state in states][:limit]

    def approval(self, id: str, /) -> Approval:
        self._called()
        return self.rows[id]

    def decide(self, verdict: Verdict, /) -> Approval:
        self._called()
        if self.refuse is not None:
            raise self.refuse
        with self._lock:
            row = self.rows[verdict.id]
            if (row.revision, row.digest) != (verdict.revision, verdict.digest):
                raise LedgerError("the request is not what was shown", code="digest_mismatch")
            state = next_state(row.state, verdict.move)
            self.verdicts.append(verdict)
            self.rows[row.id] = replace(row, state=state, decided_by=verdict.by, note=verdict.note)
        self.ring()
        return self.rows[row.id]

    def events(
        self, after: int = 0, /, *, limit: int = 1000, session: str | None = None, agent: str | None = None
    ) -> list[Event]:
        self._called()
        return [e for e in self.trace if e.seq > after][:limit]

    def last_events(self, count: int, /) -> list[Event]:
        self._called()
        return self.trace[-count:]

    def event(self, seq: int, /) -> Event:
        self._called()
        found = [e for e in self.trace if e.seq == seq]
        if not found:
            raise KeyError(seq)
        return found[0]

    def stop(self, scope: StopScope, value: str, /, *, by: str, reason: str = "") -> Stop:
        self._called()
        stop = Stop(len(self.halts) + 1, scope, value, by, reason, NOW)
        self.halts.append(stop)
        self.ring()
        return stop

    def lift(self, scope: StopScope, value: str, /, *, by: str) -> int:
        self._called()
        before = len(self.halts)
        self.halts = [s for s in self.halts if (s.scope, s.value) != (scope, value)]
        self.ring()
        return before - len(self.halts)

    def stops(self) -> list[Stop]:
        self._called()
        return list(self.halts)

    def close(self) -> None:
        self.is_closed = True

    def _called(self) -> None:
        self.threads.add(threading.get_ident())
        if self.fail is not None:
            raise self.fail


def lost(state: State = State.DENIED, move: Move = Move.APPROVE) -> IllegalTransition:
    """What a lost race raises."""
    return IllegalTransition(state, move)
