"""What an explanation says: rules, their conditions, and the values that these had."""

from __future__ import annotations

from dataclasses import dataclass

from fumehood.canonical import JSON
from fumehood.model import Decision

__all__ = ["ERROR", "FAILS", "HOLDS", "UNKNOWN", "Condition", "Definition", "Explanation", "Value"]

HOLDS, FAILS, ERROR, UNKNOWN = "holds", "fails", "error", "cannot tell"


@dataclass(frozen=True, slots=True)
class Value:
    """What a part of a condition was: every value that it had (at most three), none if undefined."""

    text: str
    values: tuple[JSON, ...]
    has_more: bool = False
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition that was reached. `outcome`: holds, fails, error or cannot tell."""

    line: int
    column: int
    text: str
    outcome: str
    values: tuple[Value, ...] = ()
    hint: str = ""
    because: tuple[Definition, ...] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition of a rule. `says` are the items it adds to its set, or its value.

    `outcome`: fired, stopped, error, cannot tell or not explained (`note` says why). `conditions` are
    those that were reached, of the body that came furthest; it has `total`.
    """

    rule: str
    file: str
    line: int
    outcome: str
    says: JSON = None
    conditions: tuple[Condition, ...] = ()
    total: int = 0
    note: str = ""

    @property
    def passed(self) -> int:
        """How many conditions hold before the first that does not."""
        return sum(c.outcome == HOLDS for c in self.conditions)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`error` if the policies cannot decide this input; `missing` are pointers that
    were not recorded, and that a rule may read."""

    decision: Decision | None
    error: str
    definitions: tuple[Definition, ...]
    missing: tuple[str, ...] = ()
