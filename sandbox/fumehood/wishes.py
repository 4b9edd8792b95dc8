"""What the flow of a call may wish for: one value for each thing that the world has to do for it.

A wish says what it wants and what comes back; `fumehood.flow` makes wishes, `fumehood.shell` fulfils
them, and a test may answer them as it likes.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from fumehood.approval import Approval
from fumehood.binding import Bound
from fumehood.canonical import JSON
from fumehood.model import Approve, Confine, Decision, PolicyInput, ToolCall

__all__ = [
    "Ask",
    "Assemble",
    "AssembleResult",
    "Bind",
    "Claim",
    "Claimed",
    "Drop",
    "Earlier",
    "Evaluate",
    "Finish",
    "Flow",
    "IsInterrupt",
    "Rebuild",
    "Record",
    "Replay",
    "Run",
    "View",
    "Wish",
    "want",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Wish(Generic[T_co]):
    """Something that the flow wants done; the parameter is what comes back."""

    __slots__ = ()


Flow = Generator[Wish[object], object, T]


@dataclass(frozen=True, slots=True)
class Bind(Wish[tuple[ToolCall, Bound]]):
    """Bind the arguments to one canonical document."""


@dataclass(frozen=True, slots=True)
class Earlier(Wish["Claimed | None"]):
    """Has this very call been claimed before?"""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Assemble(Wish[PolicyInput]):
    """Write the policy input for phase `execute_tool`."""

    call: ToolCall
    bound: Bound


@dataclass(frozen=True, slots=True)
class AssembleResult(Wish["PolicyInput | None"]):
    """Write the policy input for phase `return_result`; None if no loaded rule can apply."""

    call: ToolCall
    view: JSON
    is_error: bool


@dataclass(frozen=True, slots=True)
class Evaluate(Wish[Decision]):
    document: PolicyInput


@dataclass(frozen=True, slots=True)
class Record(Wish[Decision]):
    """Commit the decision. What comes back may be a denial: a stop, or a full limit."""

    call: ToolCall
    decision: Decision
    document: PolicyInput | None
    count_limits: bool = True


@dataclass(frozen=True, slots=True)
class Ask(Wish[Approval]):
    """Ask a person and wait; comes back approved, denied, expired or cancelled."""

    call: ToolCall
    question: Approve
    decision: Decision


@dataclass(frozen=True, slots=True)
class Drop(Wish[None]):
    """An approval that will not be used: nobody else may use it either."""

    approval: Approval


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to `Claim` and `Earlier`: mine to run, or what became of the earlier attempt."""

    is_mine: bool
    state: str  # "open", "done", "outcome_unknown"
    when: str  # RFC 3339
    view: JSON = None
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Claim(Wish[Claimed]):
    """Take this call once, and the approval with it."""

    call: ToolCall
    approval: Approval | None


@dataclass(frozen=True, slots=True)
class Replay(Wish[object]):
    """Make the result of an earlier attempt anew from what was kept of it."""

    view: JSON


@dataclass(frozen=True, slots=True)
class Run(Wish[object]):
    call: ToolCall
    bound: Bound
    confinements: tuple[Confine, ...]


@dataclass(frozen=True, slots=True)
class View(Wish[JSON]):
    """A result, or the exception that the tool raised, as JSON."""

    result: object


@dataclass(frozen=True, slots=True)
class Finish(Wish[None]):
    """Record the outcome; `view` is what the agent got (None with `is_kept` False: not kept)."""

    call: ToolCall
    state: str  # "done", "failed", "interrupted", "outcome_unknown"
    is_claimed: bool
    view: JSON = None
    is_kept: bool = False
    error: BaseException | None = None
    labels: tuple[str, ...] = ()
    withheld: Decision | None = None
    observed: Decision | None = None  # for the record: what policies that are only watched said of it
    judged: Decision | None = field(
        default=None, compare=False
    )  # for the record: what was said of the result


@dataclass(frozen=True, slots=True)
class Rebuild(Wish[object]):
    """A result of the same type as *result*, with *view* in it."""

    result: object
    view: JSON


@dataclass(frozen=True, slots=True)
class IsInterrupt(Wish[bool]):
    """Is this exception the framework's way to say: run me again later?"""

    error: BaseException


def want(wish: Wish[T]) -> Flow[T]:
    """Yield *wish*; return what came of it, as its own type."""
    return cast("T", (yield cast("Wish[object]", wish)))
