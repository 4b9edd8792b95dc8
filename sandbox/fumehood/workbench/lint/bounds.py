"""Bounds that stand only in `deny`: where the argument is absent or of another type, nothing is denied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from fumehood.pdp.gate.context import Context
from fumehood.pdp.syntax import Body, Module, Node, Rule, kind_of, walk
from fumehood.workbench.lint.findings import Finding, error
from fumehood.workbench.reach import Named, Reach, arguments_in, bodies_of, helpers_in, names_in, whole

__all__ = ["check_bounds"]

_ORDERED = ("Lt", "Le", "Gt", "Ge")
Tools = frozenset[str] | None


def check_bounds(context: Context) -> Iterator[Finding]:
    """A comparison of an argument in a `deny`, where a `permit` for the same tool does not look at it."""
    reach = Reach(context)
    permits = [
        (module, rule, reach.tools(module, body), _looked_at(context, module, rule, body))
        for module, rule in context.each_rule()
        if rule.name == "permit" and rule.shape == "value"
        for body in bodies_of(rule)
    ]
    for module, rule in context.each_rule():
        if rule.name == "deny":
            for body in bodies_of(rule):
                yield from _bounds(context, module, rule, body, reach.tools(module, body), permits)


def _bounds(
    context: Context,
    module: Module,
    rule: Rule,
    body: Body,
    tools: Tools,
    permits: list[tuple[Module, Rule, Tools, frozenset[str]]],
) -> Iterator[Finding]:
    for where, named in _compared(context, module, body):
        for other, permit, about, looked_at in permits:
            if named.name in looked_at or not _meet(tools, about):
                continue
            line = other.encoded[: permit.start].count(b"\n") + 1
            message = (
                f"the bound on `{named.name}` stands only in `deny`: where it is absent, null or a text "
                f"nothing is denied, and {other.file.path}:{line} permits"
            )
            remedy = "Put the bound, and a check of the type, into that `permit` as well."
            yield error("deny-only-bound", where.problem(named.start, message, remedy))
            break


def _compared(context: Context, module: Module, body: Body) -> Iterator[tuple[Module, Named]]:
    """Arguments that are compared by order, here or in a helper; not under `not`: silence denies there."""
    left: list[tuple[Module, Sequence[Node]]] = [(module, body.statements)]
    seen: set[str] = set()
    helpers: set[str] = set()
    while left:
        where, statements = left.pop(0)
        positive = [s for s in statements if kind_of(cast("Node", s["literal"]))[0] != "NotExpr"]
        for kind, node in walk(positive):
            if kind == "BoolExpr" and node["op"] in _ORDERED:
                for named in arguments_in(where, [node["lhs"], node["rhs"]]):
                    if named.name not in seen:
                        seen.add(named.name)
                        yield where, named
        for name in set(names_in(positive)) - helpers:
            helpers.add(name)
            rules = context.rules_of(where).get(name, ())
            left += [(other, one.statements) for other, rule in rules for one in rule.bodies]


def _looked_at(context: Context, module: Module, rule: Rule, body: Body) -> frozenset[str]:
    """The arguments that a permit has a condition about, its helpers included."""
    found = {named.name for named in arguments_in(module, whole(rule, body))}
    for where, helper in helpers_in(context, module, body.statements):
        found |= {named.name for named in arguments_in(where, helper.parts())}
    return frozenset(found)


def _meet(one: Tools, other: Tools) -> bool:
    return one is None or other is None or bool(one & other)
