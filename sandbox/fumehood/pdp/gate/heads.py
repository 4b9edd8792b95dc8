"""Heads of sets and of objects by key: an item with an undefined part is silently missing in one engine
and an error in the other, and a deny that is missing does not deny."""

from __future__ import annotations

from collections.abc import Iterator

from fumehood.errors import Problem
from fumehood.pdp.gate.context import Context
from fumehood.pdp.gate.scope import Names, bound_by, pattern_names
from fumehood.pdp.gate.totality import Totality
from fumehood.pdp.syntax import Body, Module, Node, Rule, kind_of, parts_of, start_of

__all__ = ["check_heads"]


def check_heads(context: Context) -> Iterator[Problem]:
    for module in context.modules:
        total = Totality(context, module)
        for rule in module.rules:
            if rule.shape in ("set", "object"):
                yield from _head(module, rule, total)


def _head(module: Module, rule: Rule, total: Totality) -> Iterator[Problem]:
    arguments = frozenset(name for arg in rule.args for name, _ in pattern_names(arg))
    for body in rule.bodies or (Body((), is_else=False, value=None, start=rule.start),):
        known = arguments | bound_by(body.statements, total.globals)
        for node in (rule.key, rule.value, *rule.head):
            yield from _missing(module, rule, node, known, total)


def _missing(
    module: Module, rule: Rule, node: Node | None, known: Names, total: Totality
) -> Iterator[Problem]:
    if node is None or total.has_value(node, known):
        return
    part = next((p for p in parts_of(node) if not total.has_value(p, known)), node)
    said = module.text_of(part)
    yield module.problem(
        start_of(kind_of(part)[1]),
        f"`{said}` may be undefined, and then this item of `{rule.name}` would silently be missing",
        f"Use call.arg(name, otherwise), or give it a value in the body: `x := {said}`, then `x` here.",
    )
