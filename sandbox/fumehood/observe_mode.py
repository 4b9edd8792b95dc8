"""Observe, then enforce: what still holds of a decision whose policies are only watched.

A guard that observes asks its policies as always, records what they said, and lets the call go on.
Three decisions are made from the same answers of the same packages:

    full       what all packages say together: what a guard that enforces would do
    enforced   what the packages say that are not watched; where all are watched, `bare`: a permit
    watched    what the watched packages ask for, as if nothing in them refused

and `acting` joins them into the one that the flow gets. Of the watched packages only what makes a
call *safer* is left (`Confine`, `Redact`), and what nobody understands (`Unknown`), which stays a
denial. Their permits, denials, asks, limits, withholds and labels (a label can make a value trusted)
count for nobody; only where all packages are watched labels stay, as nothing can gain by them.

So an acting decision permits a call only if the enforced one does, with at least its obligations, and
every other reason to stop (an engine or a ledger that fails, a stop, a host that cannot confine) is
found by the same lines of the flow as ever: they do not know that they are watched.

`full` travels along as `Decision.observed`, for the record only. Who may choose: the code that builds
the guard. A bundle can ask for it (`custom: {mode: observe}`), and is heard only in OBSERVE_PACKAGES.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from fumehood.model import Confine, Decision, Effect, Label, Obligation, Redact, Unknown, understood

__all__ = ["Mode", "Observing", "Would", "acting", "bare", "would"]


class Mode(StrEnum):
    """How a guard treats its policies. ENFORCE unless the code that builds the guard says otherwise."""

    ENFORCE = "enforce"
    OBSERVE = "observe"  # all packages are watched
    OBSERVE_PACKAGES = "observe-packages"  # those that ask for it in their METADATA


class Would(StrEnum):
    """What a guard that enforces would have done instead of running the call and showing its result."""

    DENY = "deny"
    ASK = "ask"
    LIMIT = "limit"
    WITHHOLD = "withhold"


@dataclass(frozen=True, slots=True)
class Observing:
    """Which packages are watched, by last name. `is_whole`: all; then silence denies nothing, either."""

    packages: frozenset[str] = frozenset()
    is_whole: bool = False

    def watches(self, package: str) -> bool:
        """True if what *package* says of a call is recorded and not enforced."""
        return self.is_whole or package in self.packages


def acting(full: Decision, enforced: Decision, watched: Decision) -> Decision:
    """The decision to act on, with *full* beside it for the record."""
    if not enforced.is_permit:
        return replace(enforced, observed=full)
    kept = [o for o in watched.obligations if isinstance(o, Confine | Redact | Unknown)]
    kept += [o for o in full.obligations if isinstance(o, Unknown)]
    obligations = (*enforced.obligations, *kept)
    spoke = {*enforced.rules, *(rule for o in kept if (rule := _rule(o)) is not None)}
    return Decision(
        Effect.PERMIT,
        enforced.reasons,
        tuple(sorted(dict.fromkeys(obligations), key=repr)),
        revision=full.revision,
        rules=tuple(sorted(spoke)),
        observed=full,
    )


def bare(watched: Decision) -> Decision:
    """The enforced decision where every package is watched: a permit, with the labels of results."""
    return Decision(Effect.PERMIT, obligations=tuple(o for o in watched.obligations if isinstance(o, Label)))


def would(acted: Decision, full: Decision, *, is_result: bool = False) -> Would | None:
    """What *full* would have done to a call that went on as *acted*; None: nothing else."""
    full = understood(full)
    if not acted.is_permit:
        return None
    if not full.is_permit:
        if is_result:
            return Would.WITHHOLD
        is_full = any(reason.code == "limit_exceeded" for reason in full.reasons)
        return Would.LIMIT if is_full else Would.DENY
    return Would.ASK if set(full.approvals) - set(acted.approvals) else None


def _rule(obligation: Obligation) -> str | None:
    return obligation.name if isinstance(obligation, Unknown) else obligation.rule
