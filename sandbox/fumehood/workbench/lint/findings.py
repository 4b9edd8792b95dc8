"""One finding of `fumehood policy check`.

The rule: what is unsafe is an error and refuses: it may permit more than its author meant, fall silent,
or tell an agent what it must not know. What is style, and decides the same without, is a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fumehood.errors import Problem

__all__ = ["Finding", "error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Where and what; `code` is the name of the check."""

    problem: Problem
    code: str
    severity: Literal["error", "warning"] = "error"

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    @property
    def order(self) -> tuple[str, int, int, str]:
        return (self.problem.file, self.problem.line, self.problem.column, self.problem.message)


def error(code: str, problem: Problem) -> Finding:
    return Finding(problem, code)


def warning(code: str, problem: Problem) -> Finding:
    return Finding(problem, code, "warning")
