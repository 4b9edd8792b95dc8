"""The life of one request for a person's agreement: its states, in one table.

A request is made when policy asks for a person (`Approve`), *before* anything runs. It is bound to
the digest of what is shown: another argument is another digest, and a verdict for one is none for
the other. Time-outs are the policy's. A person answers once; a race has one winner.

    pending ──approve──▸ approved ──claim──▸ claimed ──finish──▸ done
       │                    │                   └────lose────▸ outcome_unknown
       ├──deny────▸ denied  ├──expire──▸ expired
       ├──expire──▸ expired └──cancel──▸ cancelled
       ├──cancel──▸ cancelled           (the caller went away, or the run was stopped)
       └──supersede─▸ superseded        (a newer revision took its place)

`expired`, `cancelled` and `denied` are different words because they are different facts: nobody
answered, nobody was waiting any more, a person said no. What the table lacks cannot happen: a
missing key is `IllegalTransition`. Every move is a compare-and-swap on id, revision, digest and
state in the ledger, and `approved` does not outlive `expires_at` until it is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from fumehood.errors import FumehoodError
from fumehood.model import Approve, Decision, Reason, Risk

__all__ = [
    "TRANSITIONS",
    "Approval",
    "IllegalTransition",
    "Move",
    "State",
    "Verdict",
    "ended",
    "joined",
    "next_state",
    "refusal",
]


class State(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    CLAIMED = "claimed"
    DONE = "done"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Move(StrEnum):
    APPROVE = "approve"
    DENY = "deny"
    EXPIRE = "expire"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    CLAIM = "claim"
    FINISH = "finish"
    LOSE = "lose"


TRANSITIONS: dict[tuple[State, Move], State] = {
    (State.PENDING, Move.APPROVE): State.APPROVED,
    (State.PENDING, Move.DENY): State.DENIED,
    (State.PENDING, Move.EXPIRE): State.EXPIRED,
    (State.PENDING, Move.CANCEL): State.CANCELLED,
    (State.PENDING, Move.SUPERSEDE): State.SUPERSEDED,
    (State.APPROVED, Move.CLAIM): State.CLAIMED,
    (State.APPROVED, Move.EXPIRE): State.EXPIRED,
    (State.APPROVED, Move.CANCEL): State.CANCELLED,
    (State.CLAIMED, Move.FINISH): State.DONE,
    (State.CLAIMED, Move.LOSE): State.OUTCOME_UNKNOWN,
}


class IllegalTransition(FumehoodError):
    """The table has no such move. Somebody else was faster, or the caller is wrong."""

    def __init__(self, state: State, move: Move) -> None:
        self.state = state
        self.move = move
        super().__init__(f"a request that is {state.value} cannot be moved by {move.value}")


def next_state(state: State, move: Move) -> State:
    """Where *move* leads from *state*.

    Raises:
        IllegalTransition: the table has no such move.
    """
    try:
        return TRANSITIONS[state, move]
    except KeyError:
        raise IllegalTransition(state, move) from None


@dataclass(frozen=True, slots=True)
class Approval:
    """One request, as it stands in the ledger. `args` is what may be shown (redacted canonical JSON).

    `lease` names the file that the waiting process holds locked as long as it lives;
    `waiter` is that process's (pid, start time in clock ticks since boot).
    """

    id: str
    revision: int
    state: State
    session_id: str
    attempt_id: str
    agent: str
    user: str | None
    tool: str
    definition_digest: str
    call_id: str | None
    digest: str
    args: bytes
    injected: tuple[str, ...]
    reasons: tuple[Approve, ...]
    policy_revision: str
    rules: tuple[str, ...]
    created_at: float
    expires_at: float | None
    lease: str
    waiter: tuple[int, int]
    decided_by: str | None = None
    decided_at: float | None = None
    note: str | None = None

    @property
    def risk(self) -> Risk:
        """The highest risk that any rule named."""
        return max((r.risk for r in self.reasons), key=lambda risk: risk.rank, default=Risk.MEDIUM)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person said about exactly this revision and digest. `by` is a local name, not proof."""

    id: str
    revision: int
    digest: str
    move: Move  # APPROVE or DENY
    by: str
    note: str | None = None


def joined(asked: Iterable[Approve]) -> Approve:
    """One question from all that the rules asked: the strictest of each field.

    The shortest time-out counts; it waits beyond it only if every rule says so.
    """
    every = tuple(asked)
    return Approve(
        reason="; ".join(dict.fromkeys(a.reason for a in every)),
        risk=max((a.risk for a in every), key=lambda risk: risk.rank),
        timeout_s=min(a.timeout_s for a in every),
        on_timeout="wait" if all(a.on_timeout == "wait" for a in every) else "deny",
        approvers=max(a.approvers for a in every),
        separate=any(a.separate for a in every),
        signed=any(a.signed for a in every),
        always=any(a.always for a in every),
        controls=tuple(dict.fromkeys(c for a in every for c in a.controls)),
    )


_REFUSALS: dict[State, tuple[str, str, bool]] = {
    State.DENIED: ("denied_by_person", "a person refused this call", False),
    State.EXPIRED: ("approval_expired", "nobody answered in time; the call was not made", True),
    State.CANCELLED: ("approval_cancelled", "the request was cancelled before anybody answered", False),
    State.SUPERSEDED: ("approval_superseded", "a newer request took this one's place", False),
}

_USED = ("approval_used", "this agreement was already used", False)


def ended(state: State) -> Reason:
    """Why a request in *state* lets nothing run."""
    code, text, retryable = _REFUSALS.get(state, _USED)
    return Reason(code, text, retryable=retryable)


def refusal(approval: Approval) -> Decision:
    """The denial that the agent gets for a request that ended without approval."""
    why = ended(approval.state)
    said = f": {approval.note}" if approval.state is State.DENIED and approval.note else ""
    reason = replace(why, text=why.text + said, controls=joined(approval.reasons).controls)
    return Decision.deny_with(reason, revision=approval.policy_revision, rules=approval.rules)
