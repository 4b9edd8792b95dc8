"""Sliding windows: how much of a limit is left, from two rows of a running total. Pure.

Each spend carries the key's total so far, so what was spent in a window is one subtraction, whatever
the window holds: exact, and no counting. Amounts are whole millionths, so that sums are exact too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fumehood.model import Limit, Reason

__all__ = ["Spent", "as_units", "fault", "is_within", "refusal", "threshold", "used"]

_UNITS = 1_000_000  # whole millionths of a cost
_MOST = 1e12  # above this, sums of millionths would leave SQLite's integers


@dataclass(frozen=True, slots=True)
class Spent:
    """One spend under a key: when, how much, and the key's total including it (both in millionths)."""

    at: float
    cost: int
    total: int


def as_units(amount: float) -> int:
    """*amount* in whole millionths."""
    return round(amount * _UNITS)


def fault(limit: Limit) -> str | None:
    """Why *limit* cannot be counted, or None. Such a limit is a denial, never ignored."""
    if not (math.isfinite(limit.per_s) and limit.per_s > 0):
        return f"per_s is {limit.per_s!r}; it must be a positive number of seconds"
    if not (math.isfinite(limit.max) and 0 <= limit.max <= _MOST):
        return f"max is {limit.max!r}; it must be from 0 to {_MOST:g}"
    if not (math.isfinite(limit.cost) and 0 <= limit.cost <= _MOST):
        return f"cost is {limit.cost!r}; it must be from 0 to {_MOST:g}"
    return None


def used(total: int, first: Spent | None) -> int:
    """Millionths spent in a window whose first spend is *first* (None: nothing), *total* being the key's."""
    return 0 if first is None else total - (first.total - first.cost)


def is_within(limit: Limit, total: int, first: Spent | None) -> bool:
    """True if the limit's cost still fits into its window."""
    return used(total, first) + as_units(limit.cost) <= as_units(limit.max)


def threshold(limit: Limit, total: int) -> int:
    """The total that a spend must have so that, once it has left the window, the cost fits."""
    return total + as_units(limit.cost) - as_units(limit.max)


def refusal(limit: Limit, spent: int, frees_at: float | None, *, now: float) -> Reason:
    """The reason to deny. *frees_at* is when the deciding spend happened; None: it will never fit."""
    wait = None if frees_at is None else max(0.001, round(frees_at + limit.per_s - now, 3))
    again = (
        f"try again in {math.ceil(wait)} s" if wait is not None else "this call is above the limit by itself"
    )
    return Reason(
        "limit_exceeded",
        f"a limit is reached: at most {limit.max:g} in {limit.per_s:g} s",
        remedy=again,
        detail=f"key {limit.key!r}: {spent / _UNITS:g} used, this call costs {limit.cost:g}",
        retryable=wait is not None,
        rule=limit.rule,
        retry_after_s=wait,
    )
