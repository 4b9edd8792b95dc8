"""Runs every check over the files of a bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError, Problem
from fumehood.pdp import sources
from fumehood.pdp.apart import EngineApart
from fumehood.pdp.combine import PUBLIC
from fumehood.pdp.gate.context import Context
from fumehood.pdp.gate.cycles import check_recursion
from fumehood.pdp.gate.every import check_every
from fumehood.pdp.gate.grants import check_grants
from fumehood.pdp.gate.heads import check_heads
from fumehood.pdp.gate.items import check_items
from fumehood.pdp.gate.names import check_names
from fumehood.pdp.gate.negation import check_negation
from fumehood.pdp.gate.order import check_order
from fumehood.pdp.gate.parameters import gathered
from fumehood.pdp.gate.patterns import check_patterns
from fumehood.pdp.gate.refs import check_references
from fumehood.pdp.gate.scope import check_variables
from fumehood.pdp.gate.texts import check_texts
from fumehood.pdp.gate.trial import Trial, trial_engine
from fumehood.pdp.parsed_reads import reads_parsed
from fumehood.pdp.reads import reads_history
from fumehood.pdp.syntax import Module, module_of

__all__ = ["Verdict", "check", "inspect"]

_CHECKS: Sequence[Callable[[Context], Iterator[Problem]]] = (
    check_names,
    check_items,
    check_references,
    check_texts,
    check_variables,
    check_negation,
    check_every,
    check_patterns,
    check_order,
    check_heads,
    check_recursion,
    check_grants,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found: `problems`, and what a bundle needs to know if there are none."""

    problems: tuple[Problem, ...]
    rules: Mapping[str, tuple[str, ...]]
    data: Mapping[str, JSON]
    reads_history: bool
    reads_parsed: Mapping[str, frozenset[str] | None]
    modules: tuple[Module, ...]


def inspect(
    read: sources.Files,
    *,
    parse: Callable[[sources.PolicyFile], Module | Problem] = module_of,
    engine: Callable[[], EngineApart] = trial_engine,
) -> Verdict:
    """Check every file of *read*; *engine* starts the process in which every rule is evaluated once.

    Raises:
        ConfigError: that process cannot be started.
    """
    data, problems = gathered([f for f in read.files if not f.is_rego])
    problems += read.problems
    modules: list[Module] = []
    for file in (f for f in read.files if f.is_rego):
        parsed = parse(file)
        if isinstance(parsed, Problem):
            problems.append(parsed)
        elif not file.is_test:
            modules.append(parsed)
    context = Context(tuple(modules), data)
    if not modules and not problems:
        problems.append(Problem("policies", 1, 1, "there is no policy", "Add a .rego file with a `permit`."))
    if not problems:
        problems += _found(context, engine)
    return Verdict(
        tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.column, p.message))),
        _public_rules(modules),
        data,
        any(map(reads_history, modules)),
        reads_parsed(modules),
        tuple(modules),
    )


def _found(context: Context, engine: Callable[[], EngineApart]) -> list[Problem]:
    """What every check finds. The rules are evaluated meanwhile; what comes of that is only told if nothing
    else is found, which it would say again in other words."""
    try:
        with engine() as apart:
            trial = Trial(context, apart)
            problems = [problem for one in _CHECKS for problem in _found_by(one, context)]
            return problems or list(trial.problems())
    except PdpError as error:
        raise ConfigError(f"the policies cannot be checked: {error}") from error


def _found_by(check: Callable[[Context], Iterator[Problem]], context: Context) -> list[Problem]:
    try:
        return list(check(context))
    except RecursionError:
        text = "rules call each other, or expressions are nested, too deeply to be checked"
        return [Problem(context.modules[0].file.path, 1, 1, text, "Give a value in fewer steps.")]


def check(given: Sequence[sources.Source] | sources.Source) -> list[Problem]:
    """Every problem of the policies in *given*, in order of file and line."""
    return list(inspect(sources.read([given] if isinstance(given, str | os.PathLike) else given)).problems)


def _public_rules(modules: Sequence[Module]) -> Mapping[str, tuple[str, ...]]:
    rules: dict[str, set[str]] = {}
    for module in modules:
        name = module.package[-1] if module.package else ""
        rules.setdefault(name, set()).update(r.name for r in module.rules if r.name in PUBLIC)
    return {name: tuple(sorted(found)) for name, found in sorted(rules.items())}
