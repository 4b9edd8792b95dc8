"""What the guard, the shell commands and the screens may ask of a ledger.

Blocking and thread-safe. Everything that must take effect commits before the method returns;
`note` alone is batched (it may be lost with the process, and nothing depends on it). Each failure
to record is a `LedgerError`; a caller that meets one runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fumehood.approval import Approval, Move, State, Verdict
from fumehood.model import Decision, Session, ToolCall

__all__ = [
    "ClaimState",
    "Claimed",
    "Event",
    "Ledger",
    "Outcome",
    "Past",
    "Recorded",
    "Stop",
    "StopScope",
    "Writer",
]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as it was committed: the ledger turns it into a denial for a stop or a full limit."""

    seq: int
    at: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Past:
    """What the policy input may say of earlier calls, as compact JSON, with no secret in it.

    `history`: list of {tool, effect, labels, seq}, oldest first, at most 50; `counters`:
    {"session": {tool: {"calls": n, "denied": n}}, "windows": {"60": {"calls": n}, "3600": {"calls": n}}}
    where windows count the agent's calls in the last 60 and 3,600 seconds, over all its sessions.
    """

    history: bytes
    counters: bytes


class ClaimState(StrEnum):
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"  # it raised: a new attempt is a new claim
    INTERRUPTED = "interrupted"  # the body asked to be run again later (a graph interrupt)
    OUTCOME_UNKNOWN = "outcome_unknown"  # its process died, or the outcome could not be recorded


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim. `is_mine`: run it now. Otherwise an earlier attempt holds it.

    `result` is that attempt's released result (JSON) if it was kept, `at` when it ended or began.
    """

    is_mine: bool
    state: ClaimState
    attempt_id: str
    at: float
    result: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended. `result` is what the agent got (JSON, redacted), None if it is not kept.

    `error_type` is OpenTelemetry's `error.type`; `labels` say where the result may be trusted;
    `detail` is further JSON for the record (confinement: exit, layers, attempts). `judged` is what policies
    said of the result, asked at `judged_at` (Unix seconds); no revision in it: no rule could apply.
    """

    state: ClaimState
    result: bytes | None = None
    error_type: str | None = None
    labels: tuple[str, ...] = ()
    withheld: Decision | None = None
    observed: Decision | None = None
    judged: Decision | None = None
    judged_at: float = 0.0
    duration_s: float = 0.0
    detail: bytes = b"{}"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the trace. `kind`: session, decision, approval, claim, outcome, attempt, stop, note.

    `attributes` is a JSON object with OpenTelemetry's names where they exist and `fumehood.*` for ours.
    """

    seq: int
    at: float
    kind: str
    session_id: str
    agent: str
    tool: str
    attempt_id: str
    effect: str
    summary: str
    attributes: bytes


class StopScope(StrEnum):
    SESSION = "session"
    AGENT = "agent"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Stop:
    """While it is not lifted, every call in its scope is denied with code `stopped`."""

    seq: int
    scope: StopScope
    value: str
    by: str
    reason: str
    at: float
    lifted_at: float | None = None


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wrote the last event: an empty inbox is usually another ledger, and this tells."""

    agent: str
    pid: int
    program: str
    at: float


class Ledger(Protocol):
    """One ledger. `path` is its file; `origin` a random id made with it."""

    @property
    def path(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def lease(self) -> str:
        """Name of the lease file that this process holds locked as long as it lives."""
        ...

    def open_session(self, session: Session, /) -> Session:
        """Record *session*, or resume the one with its id: then the stored prompt fills a missing one.

        Raises LedgerError(code="ledger_session_mismatch") if the id belongs to another agent or user.
        """
        ...

    def past(self, session: Session, /, *, with_history: bool) -> Past: ...

    def record(
        self, call: ToolCall, decision: Decision, /, *, document: bytes, count_limits: bool = True
    ) -> Recorded:
        """Commit *decision* with its policy input. In the same transaction: stops are looked up and
        limits are checked and counted (a sliding window per key; a denial counts nothing). A stop
        turns it into deny `stopped`, a full limit into deny `limit_exceeded` with `retry_after_s`.
        `count_limits=False` is for a later decision about the same attempt: it counts neither limits nor
        a call. An empty *document* is not kept."""
        ...

    def ask(self, approval: Approval, /) -> None:
        """Make a pending request. `LedgerError(code="stopped")` if its run was stopped meanwhile."""
        ...

    def move(self, id: str, move: Move, /, *, by: str | None = None, note: str | None = None) -> Approval:
        """EXPIRE, CANCEL, SUPERSEDE, …: raises IllegalTransition if somebody was faster."""
        ...

    def decide(self, verdict: Verdict, /) -> Approval:
        """Compare-and-swap on id, revision, digest, state pending and expiry; wakes the waiter.

        Raises IllegalTransition (lost race, expired), KeyError (unknown id), LedgerError
        (code="own_request": the decider is a descendant of the waiting process; "digest_mismatch")."""
        ...

    def approval(self, id: str, /) -> Approval:
        """By id or unique prefix. Raises KeyError. A pending row whose waiter is
        dead comes back cancelled."""
        ...

    def approvals(self, states: Sequence[State] = (State.PENDING,), /, *, limit: int = 500) -> list[Approval]:
        """The oldest first; *limit* -1: all."""
        ...

    def find_claim(self, call: ToolCall, /) -> Claimed | None:
        """An earlier attempt at the same (session, call id, digest) that is done, open or
        unknown; else None."""
        ...

    def claim(self, call: ToolCall, approval_id: str | None, /) -> Claimed:
        """Take (session, call id, digest) once, and the approval from approved to claimed, in one
        transaction that also checks stops (LedgerError(code="stopped")) and that the caller still waits.
        Without a call id the claim is always new."""
        ...

    def finish(self, call: ToolCall, outcome: Outcome, /, *, claimed: bool) -> None:
        """Record the outcome. Committed for claimed calls before it returns; batched for reads."""
        ...

    def note(
        self,
        session: Session,
        kind: str,
        summary: str,
        /,
        *,
        tool: str = "",
        attempt_id: str = "",
        attributes: bytes = b"{}",
    ) -> None: ...
    def flush(self) -> None: ...

    def events(
        self, after: int = 0, /, *, limit: int = 1000, session: str | None = None, agent: str | None = None
    ) -> list[Event]: ...
    def last_events(self, count: int, /) -> list[Event]: ...
    def event(self, seq: int, /) -> Event: ...
    def policy_input(self, seq: int, /) -> bytes:
        """The exact policy input of the decision at *seq* (redacted); KeyError if it has none."""
        ...

    def decisions(
        self, after: int = 0, /, *, limit: int = 1000, session: str | None = None, agent: str | None = None
    ) -> list[tuple[Event, bytes]]:
        """Decisions that have a policy input, with it, oldest first."""
        ...

    def outcomes(
        self, after: int = 0, /, *, limit: int = 1000, session: str | None = None, agent: str | None = None
    ) -> list[tuple[Event, bytes]]:
        """Outcomes with the policy input of the decision that let the call run, oldest first."""
        ...

    def writer(self) -> Writer | None:
        """Who wrote the last event; None if the ledger is empty."""
        ...

    def stop(self, scope: StopScope, value: str, /, *, by: str, reason: str = "") -> Stop:
        """Deny every later call in scope, cancel what waits; wakes every process."""
        ...

    def lift(self, scope: StopScope, value: str, /, *, by: str) -> int:
        """Lift matching stops; how many there were."""
        ...

    def stops(self) -> list[Stop]:
        """Those not lifted."""
        ...

    def scope_of(self, value: str, /) -> StopScope:
        """Whether *value* is a session's id or an agent's name. Raises KeyError: neither, or both."""
        ...

    def watch(self, callback: Callable[[], None], /) -> Callable[[], None]:
        """Call *callback* (on the ledger's wake thread) after any committed change, own or of another
        process, at most 50 ms later, and at least every 2 s. Returns a function that ends the watch."""
        ...

    def reap(self) -> int:
        """Cancel requests whose waiter is dead; mark open claims of dead processes outcome_unknown."""
        ...

    def close(self) -> None: ...
