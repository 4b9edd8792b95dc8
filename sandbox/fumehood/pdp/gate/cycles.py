"""Rules that depend on themselves: both engines refuse them, one of them only when it gets there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fumehood.errors import Problem
from fumehood.pdp.gate.context import Context, path_of
from fumehood.pdp.syntax import Module, Rule

__all__ = ["check_recursion"]

Key = tuple[str, str]


def check_recursion(context: Context) -> Iterator[Problem]:
    edges: dict[Key, set[Key]] = {}
    for module, rule in context.each_rule():
        edges.setdefault((module.name, rule.name), set()).update(_uses(context, module, rule))
    for key in sorted(edges):
        cycle = _cycle(key, edges)
        if cycle and min(cycle) == key:
            module, rule = context.packages[key[0]].rules[key[1]][0]
            way = " → ".join(name for _, name in [*cycle, key])
            yield module.problem(
                rule.start, f"recursion: {way}", "Rego has no recursion; use a comprehension or walk."
            )


def _uses(context: Context, module: Module, rule: Rule) -> Iterator[Key]:
    own = context.rules_of(module)
    for _, ref in rule.references():
        if ref.root in own:
            yield (module.name, ref.root)
        path = path_of(module, ref.root, ref.parts)
        if path[:2] == ("data", "policies") and len(path) >= 4 and path[2] and path[3]:
            yield (f"policies.{path[2]}", path[3])


def _cycle(start: Key, edges: Mapping[Key, set[Key]]) -> list[Key]:
    """A way from *start* back to itself, without its end."""
    stack: list[list[Key]] = [[start]]
    seen: set[Key] = set()
    while stack:
        way = stack.pop()
        for following in sorted(edges.get(way[-1], ())):
            if following == start:
                return way
            if following not in seen and following in edges:
                seen.add(following)
                stack.append([*way, following])
    return []
