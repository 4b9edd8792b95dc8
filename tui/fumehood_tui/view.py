"""Immutable values for the screen, made from the ledger's. All text in them is inert: safe to show.

The one place where untrusted text enters the UI. The raw text stays in the ledger; what has to go
back to it (a session's id, an agent's name, for a stop) is marked `raw_` and never shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from fumehood.approval import Approval, State
from fumehood.canonical import parse
from fumehood.display import clip, inert
from fumehood.errors import BindError
from fumehood.ledger.names import APPROVAL_STATE, OBSERVED
from fumehood.ledger.protocol import Event, Stop, StopScope
from fumehood.model import Effect, Risk

__all__ = [
    "Answer",
    "Gone",
    "Halt",
    "Key",
    "Request",
    "Row",
    "Snapshot",
    "Source",
    "Trouble",
    "halt_from",
    "is_observed",
    "name",
    "request_from",
    "row_from",
    "short_ids",
    "what_became",
]

_NAME = 64  # characters of a name that lists keep
_SUMMARY = 400
_LABEL = 20  # characters of a tool's name in messages
_SHORT = 4


@dataclass(frozen=True, slots=True)
class Key:
    """What a verdict is bound to: exactly this revision with this digest."""

    id: str
    revision: int
    digest: str


@dataclass(frozen=True, slots=True)
class Request:
    """One waiting call. `short` is as much of its id as tells it from the others on the screen."""

    key: Key
    short: str
    risk: Risk
    tool: str
    agent: str
    user: str
    session: str
    why: str
    rules: str
    created_at: float
    expires_at: float | None
    raw_session: str
    raw_agent: str

    @property
    def label(self) -> str:
        """How messages name it; short, so that what they say is not pushed off the line."""
        tool = self.tool if len(self.tool) <= _LABEL else f"{self.tool[:_LABEL]}…"
        return f"#{self.short} {tool}"

    def haystack(self, field: str) -> str:
        """What a filter's *field* looks into, in lower case."""
        parts = {
            "tool": self.tool,
            "agent": self.agent,
            "user": self.user,
            "session": self.session,
            "rule": self.rules,
            "id": self.key.id,
            "": f"{self.key.id} {self.tool} {self.agent} {self.user} {self.why} {self.rules}",
        }
        return parts.get(field, "").lower()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the trace. `seq` is its event's number, 0 for a remark of the screen's own.

    `effect` is one word: the effect, an approval's state, or the kind of event.
    """

    seq: int
    at: float
    kind: str
    agent: str
    tool: str
    effect: str
    summary: str
    session: str
    raw_session: str = ""
    raw_agent: str = ""

    def haystack(self, field: str) -> str:
        parts = {
            "tool": self.tool,
            "agent": self.agent,
            "session": self.session,
            "effect": self.effect,
            "": f"{self.agent} {self.tool} {self.effect} {self.kind} {self.summary}",
        }
        return parts.get(field, "").lower()


@dataclass(frozen=True, slots=True)
class Gone:
    """A request that no longer waits, and what became of it, in words."""

    key: Key
    what: str


@dataclass(frozen=True, slots=True)
class Halt:
    """A stop in force."""

    scope: StopScope
    raw_value: str
    label: str
    at: float


@dataclass(frozen=True, slots=True)
class Source:
    """Which ledger this is and who wrote to it last."""

    path: str
    exists: bool
    last_writer: str = ""
    last_program: str = ""
    last_at: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading. `rows` are new since the last one; `is_reset`: they replace all earlier rows."""

    source: Source
    requests: tuple[Request, ...] = ()
    has_more: bool = False
    gone: tuple[Gone, ...] = ()
    rows: tuple[Row, ...] = ()
    is_reset: bool = False
    halts: tuple[Halt, ...] = ()
    per_s: float = 0.0
    observed: int = 0  # agents whose last decision was only observed


@dataclass(frozen=True, slots=True)
class Trouble:
    """The ledger could not be read; why, in words."""

    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an action, for the status line."""

    is_done: bool
    message: str


def name(text: str | None) -> str:
    """A name as lists show it."""
    return inert(clip(text or "", _NAME))


def short_ids(ids: list[str]) -> dict[str, str]:
    """For each id its shortest beginning, four characters or more, that no other of *ids* shares."""
    ordered = sorted(set(ids))
    neighbours = zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False)
    return {
        here: here[: max(_SHORT, _common(before, here) + 1, _common(here, after) + 1)]
        for before, here, after in neighbours
    }


def _common(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def request_from(approval: Approval, short: str) -> Request:
    """*approval* as the list shows it."""
    return Request(
        key=Key(approval.id, approval.revision, approval.digest),
        short=name(short),
        risk=approval.risk,
        tool=name(approval.tool),
        agent=name(approval.agent),
        user=name(approval.user),
        session=name(approval.session_id),
        why=inert(clip("; ".join(dict.fromkeys(r.reason for r in approval.reasons)), _SUMMARY)),
        rules=inert(clip(", ".join(approval.rules), _SUMMARY)),
        created_at=approval.created_at,
        expires_at=approval.expires_at,
        raw_session=approval.session_id,
        raw_agent=approval.agent,
    )


def row_from(event: Event) -> Row:
    """*event* as the trace shows it."""
    return Row(
        seq=event.seq,
        at=event.at,
        kind=name(event.kind),
        agent=name(event.agent),
        tool=name(event.tool),
        effect=name(_word(event)),
        summary=inert(clip(event.summary, _SUMMARY)),
        session=name(event.session_id),
        raw_session=event.session_id,
        raw_agent=event.agent,
    )


def _word(event: Event) -> str:
    """What happened, in one word: an effect, an approval's state, or the kind of event."""
    if event.kind == "approval":
        return _state(event.attributes) or event.kind
    if event.kind == "decision" and event.effect == Effect.PERMIT and event.summary.startswith("ask: "):
        return "ask"  # permitted if a person agrees
    return event.effect or event.kind


def is_observed(event: Event) -> bool:
    """True if the policies of this decision were only watched."""
    if OBSERVED.encode() not in event.attributes:  # quickly: nearly all have none
        return False
    try:
        said = parse(event.attributes)
    except BindError:
        return False
    return isinstance(said, dict) and OBSERVED in said


def _state(attributes: bytes) -> str:
    try:
        said = parse(attributes)
    except BindError:
        return ""
    state = said.get(APPROVAL_STATE) if isinstance(said, dict) else None
    return state if isinstance(state, str) else ""


def halt_from(stop: Stop) -> Halt:
    """*stop* as the stop dialogue lists it."""
    what = "everything" if stop.scope is StopScope.ALL else f"{stop.scope.value} {name(stop.value)}"
    said = f": {name(stop.reason)}" if stop.reason else ""
    return Halt(stop.scope, stop.value, f"{what} (stopped by {name(stop.by)}{said})", stop.at)


_ENDED = {
    State.EXPIRED: "expired: nobody answered in time",
    State.CANCELLED: "was cancelled: nobody waits for it any more",
    State.SUPERSEDED: "was replaced by a newer request",
    State.OUTCOME_UNKNOWN: "was approved; its outcome is unknown",
}


def what_became(approval: Approval) -> str:
    """What became of *approval*, in words: who decided, or why it ended."""
    by = name(approval.decided_by) or "somebody"
    if approval.state is State.DENIED:
        said = f": {inert(clip(approval.note, _SUMMARY))}" if approval.note else ""
        return f"was denied by {by}{said}"
    if approval.state in _ENDED:
        return _ENDED[approval.state]
    return "still waits" if approval.state is State.PENDING else f"was approved by {by}"
