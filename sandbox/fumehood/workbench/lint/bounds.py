"""Bounds that stand only in `deny`: where the argument is absent or of another type, nothing is denied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from fumehood.pdp.gate.context import Context
from fumehood.pdp.syntax import Body, Module, Node, Rule, kind_of, walk
from fumehood.workbench.lint.findings import Finding, error
from fumehood.workbench.reach import KIND, Named, Reach, arguments_in, bodies_of, helpers_in, names_in, whole
from fumehood.workbench.tools import ToolSchema

__all__ = ["check_bounds"]

_ORDERED = ("Lt", "Le", "Gt", "Ge")
Names = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class _Permit:
    """One body of a `permit`: which tools it can be about, and which arguments it looks at."""

    module: Module
    start: int
    tools: Names
    kinds: Names
    looks_at: frozenset[str]

    def covers(self, tool: str, known: Mapping[str, ToolSchema]) -> bool:
        """False also where it cannot be told: it is about a kind, and nobody said the tool's."""
        if self.tools is not None:
            return tool in self.tools
        return self.kinds is None or _kind_of(tool, known) in self.kinds


def check_bounds(context: Context, tools: Sequence[ToolSchema]) -> Iterator[Finding]:
    """A comparison of an argument in a `deny`, where a `permit` for the same tool does not look at it."""
    known = {tool.name: tool for tool in tools}
    by_tool, by_kind = Reach(context), Reach(context, paths=KIND)
    permits = [
        _Permit(
            module,
            rule.start,
            by_tool.tools(module, body),
            by_kind.tools(module, body),
            _looked_at(context, module, rule, body),
        )
        for module, rule in context.each_rule()
        if rule.name == "permit" and rule.shape == "value"
        for body in bodies_of(rule)
    ]
    for module, rule in context.each_rule():
        for body in bodies_of(rule) if rule.name == "deny" else ():
            for where, named in _compared(context, module, body):
                reached = by_tool.tools(module, body)
                if reached is None:
                    reached = _with_argument(named.name, known, by_kind.tools(module, body))
                yield from _bound(where, named, reached, permits, known)


def _bound(
    where: Module,
    named: Named,
    tools: frozenset[str],
    permits: Sequence[_Permit],
    known: Mapping[str, ToolSchema],
) -> Iterator[Finding]:
    for permit in permits:
        if named.name not in permit.looks_at and any(permit.covers(tool, known) for tool in tools):
            line = permit.module.encoded[: permit.start].count(b"\n") + 1
            message = (
                f"the bound on `{named.name}` stands only in `deny`: where it is absent, null or a text "
                f"nothing is denied, and {permit.module.file.path}:{line} permits"
            )
            remedy = "Put the bound, and a check of the type, into that `permit` as well."
            yield error("deny-only-bound", where.problem(named.start, message, remedy))
            return


def _with_argument(name: str, known: Mapping[str, ToolSchema], kinds: Names) -> frozenset[str]:
    """The tools that have the argument, of the kinds that a rule is about."""
    return frozenset(
        tool.name
        for tool in known.values()
        if name in tool.properties and (kinds is None or _kind_of(tool.name, known) in kinds)
    )


def _kind_of(tool: str, known: Mapping[str, ToolSchema]) -> str:
    return str(known[tool].annotations.get("kind", "")) if tool in known else ""


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
