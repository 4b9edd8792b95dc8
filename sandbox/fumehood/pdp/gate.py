"""The load gate: what may not decide is refused before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fumehood.canonical import JSON
from fumehood.errors import Problem
from fumehood.pdp import sources
from fumehood.pdp.combine import PUBLIC
from fumehood.pdp.reads import reads_history
from fumehood.pdp.syntax import Module, module_of

__all__ = ["Verdict", "check", "inspect"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found: `problems`, and what a bundle needs to know if there are none."""

    problems: tuple[Problem, ...]
    rules: Mapping[str, tuple[str, ...]]
    data: Mapping[str, JSON]
    reads_history: bool


def inspect(read: sources.Files) -> Verdict:
    """Check every file of *read*."""
    parsed = [module_of(f) for f in read.files if f.is_rego and not f.is_test]
    modules = [m for m in parsed if isinstance(m, Module)]
    problems = [*read.problems, *(p for p in parsed if isinstance(p, Problem))]
    rules: dict[str, set[str]] = {}
    for module in modules:
        rules.setdefault(module.package[-1], set()).update(r.name for r in module.rules if r.name in PUBLIC)
    return Verdict(
        tuple(problems),
        {name: tuple(sorted(found)) for name, found in sorted(rules.items())},
        {},
        any(map(reads_history, modules)),
    )


def check(given: Sequence[sources.Source]) -> list[Problem]:
    """Every problem of the policies in *given*, in order of file and line."""
    return list(inspect(sources.read(given)).problems)
