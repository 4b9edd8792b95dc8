"""What every check of the gate works on: the modules of a bundle, and what each name in them means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from fumehood.canonical import JSON
from fumehood.pdp.syntax import Module, Rule

__all__ = ["CALL_FIELDS", "CALL_FUNCTIONS", "CALL_VALUES", "Context", "Package", "nearest", "path_of"]

# What `data.fumehood.call` offers, kept equal to lib/call.rego by a test.
CALL_VALUES = frozenset({"tool", "kind", "runs", "args", "connect_to", "result", "is_error", "targets"})
CALL_FUNCTIONS: Mapping[str, int] = {
    "arg": 2,
    "origin": 1,
    "trusted": 1,
    "path": 1,
    "url": 1,
    "argv": 1,
    "file": 1,
    "shell": 1,
    "sql": 1,
    "inside": 2,
}

# The fields of what those functions answer: each always has a value.
CALL_FIELDS: Mapping[str, frozenset[str]] = {
    "url": frozenset({"parsed", "why", "scheme", "host", "port", "path", "query", "reach"}),
    "file": frozenset(
        {"parsed", "why", "leads_to", "links", "is_link", "exists", "type", "in_home", "in_workdir"}
    ),
    "shell": frozenset({"parsed", "why", "commands", "redirects", "uses", "is_static"}),
    "sql": frozenset(
        {"parsed", "why", "statements", "kinds", "reads", "writes", "functions", "other_functions"}
    ),
}


@dataclass(frozen=True)
class Package:
    """One `policies.<name>`: all rules of all its files by name."""

    name: str
    rules: Mapping[str, tuple[tuple[Module, Rule], ...]]


@dataclass(frozen=True)
class Context:
    """The parsed modules that decide, and the data documents."""

    modules: tuple[Module, ...]
    data: Mapping[str, JSON]

    @cached_property
    def packages(self) -> Mapping[str, Package]:
        """By full name."""
        found: dict[str, dict[str, list[tuple[Module, Rule]]]] = {}
        for module in self.modules:
            rules = found.setdefault(module.name, {})
            for rule in module.rules:
                rules.setdefault(rule.name, []).append((module, rule))
        return {
            name: Package(name, {rule: tuple(where) for rule, where in rules.items()})
            for name, rules in found.items()
        }

    def rules_of(self, module: Module) -> Mapping[str, tuple[tuple[Module, Rule], ...]]:
        """The rules that *module* may name without a prefix."""
        return self.packages[module.name].rules

    def each_rule(self) -> Iterator[tuple[Module, Rule]]:
        return ((module, rule) for module in self.modules for rule in module.rules)


def path_of(module: Module, root: str, parts: Iterable[str | None]) -> tuple[str | None, ...]:
    """The full path that a reference means: imports are put in for their alias."""
    for imported in module.imports:
        if imported.alias == root and imported.path[0] in ("data", "input"):
            return (*imported.path, *parts)
    return (root, *parts)


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean "…"?' for the known name most like *name*, or nothing."""
    import difflib

    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""
