"""Rules that depend on themselves: both engines refuse them, one of them only when it gets there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fumehood.errors import Problem
from fumehood.pdp.gate.context import Context, path_of
from fumehood.pdp.syntax import Module, Rule

__all__ = ["check_recursion"]

Key = tuple[str, str]
_MANY = 500  # of so many rules in cycles, one cycle each is told


def check_recursion(context: Context) -> Iterator[Problem]:
    edges: dict[Key, set[Key]] = {}
    for module, rule in context.each_rule():
        edges.setdefault((module.name, rule.name), set()).update(_uses(context, module, rule))
    found = sorted(_in_cycles(edges))
    told: set[Key] = set()
    for key in found:
        if key in told and len(found) > _MANY:
            continue
        cycle = _cycle(key, edges)
        if cycle and min(cycle) == key:
            module, rule = context.packages[key[0]].rules[key[1]][0]
            told.update(cycle)
            names = [name for _, name in cycle]
            way = " → ".join([*names[:20], *["…"][: len(names) > 20], key[1]])
            yield module.problem(
                rule.start, f"recursion: {way}", "Rego has no recursion; use a comprehension or walk."
            )


def _in_cycles(edges: Mapping[Key, set[Key]]) -> set[Key]:
    """Those that can be in a cycle: what is left when what uses nothing is taken away, again and again, and
    what nobody uses. In time with the number of edges: a chain of helpers may be long."""
    left = {key: {used for used in uses if used in edges} for key, uses in edges.items()}
    users: dict[Key, set[Key]] = {key: set() for key in left}
    for key, uses in left.items():
        for used in uses:
            users[used].add(key)
    _strip(left, users)
    _strip(users, left)
    return set(left) & set(users)


def _strip(forward: dict[Key, set[Key]], backward: dict[Key, set[Key]]) -> None:
    ends = [key for key, following in forward.items() if not following]
    while ends:
        key = ends.pop()
        del forward[key]
        for before in backward.get(key, ()):
            if before in forward:
                forward[before].discard(key)
                if not forward[before]:
                    ends.append(before)


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
    stack, came_from = [start], dict[Key, Key]()
    while stack:
        here = stack.pop()
        for following in sorted(edges.get(here, ())):
            if following == start:
                way = [here]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if following not in came_from and following in edges:
                came_from[following] = here
                stack.append(following)
    return []
