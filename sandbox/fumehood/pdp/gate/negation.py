"""`not`: where an operand is undefined, OPA says undefined and regorus says true. So it must not be.

Allowed under `not`: a bare reference, or an expression whose operands always have a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.context import Context
from fumehood.pdp.gate.scope import Names, bound_by, has_query, pattern_names
from fumehood.pdp.gate.totality import Totality
from fumehood.pdp.syntax import Module, Node, Rule, inner, kind_of, ref_of, start_of

__all__ = ["check_negation"]

_COMPREHENSIONS = ("ArrayCompr", "SetCompr", "ObjectCompr")


def check_negation(context: Context) -> Iterator[Problem]:
    for module in context.modules:
        judge = _Judge(context, module)
        for rule in module.rules:
            if "NotExpr" in rule.survey().literals:
                yield from _negations(judge, rule)


def _negations(judge: _Judge, rule: Rule) -> Iterator[Problem]:
    arguments = frozenset(name for arg in rule.args for name, _ in pattern_names(arg))
    for body in rule.bodies:
        yield from judge.query(body.statements, arguments)
        for value in (rule.key, rule.value, body.value):
            inside = arguments | bound_by(body.statements, judge.globals)
            yield from judge.nested(value, inside)
    if not rule.bodies:
        for value in (rule.key, rule.value):
            yield from judge.nested(value, arguments)


class _Judge:
    """Walks the queries of one module."""

    def __init__(self, context: Context, module: Module) -> None:
        self._module = module
        self._total = Totality(context, module)
        self.globals = self._total.globals

    def query(self, stmts: tuple[Node, ...] | list[Node], known: Names) -> Iterator[Problem]:
        inside = known | bound_by(stmts, self.globals)
        for statement in stmts:
            kind, body = kind_of(cast("Node", statement["literal"]))
            if kind == "NotExpr":
                yield from self._not(cast("Node", body["expr"]), start_of(body), inside)
            elif kind == "Every":
                names = self._every_names(body)
                query = cast("Node", body["query"])
                yield from self.query(cast("list[Node]", query["stmts"]), inside | names)
            if has_query(statement):
                yield from self.nested(body, inside)

    def nested(self, node: object, known: Names) -> Iterator[Problem]:
        """The queries of comprehensions in *node*."""
        if isinstance(node, dict):
            for key, item in node.items():
                if key in _COMPREHENSIONS:
                    query = cast("Node", item["query"])
                    yield from self.query(cast("list[Node]", query["stmts"]), known)
                elif key not in ("query", "span") and isinstance(item, dict | list):
                    yield from self.nested(item, known)
        elif isinstance(node, list):
            for item in inner(node):
                yield from self.nested(item, known)

    def _every_names(self, body: Node) -> Names:
        text = self._module.encoded
        spans = [cast("dict[str, int] | None", body[part]) for part in ("key", "value")]
        return frozenset(text[s["start"] : s["end"]].decode() for s in spans if s)

    def _not(self, node: Node, start: int, known: Names) -> Iterator[Problem]:
        kind, body = kind_of(node)
        if kind in ("Var", "RefDot", "RefBrack") and ref_of(node):
            odd = [index for index in _indices(node) if not self._total.has_value(index, known)]
        elif kind in ("BoolExpr", "Membership", "AssignExpr") and body.get("op") != "ColEq":
            sides = [
                cast("Node | None", body.get(side)) for side in ("lhs", "rhs", "key", "value", "collection")
            ]
            odd = [side for side in sides if side is not None and not self._total.has_value(side, known)]
        elif kind == "Call":
            odd = [p for p in cast("list[Node]", body["params"]) if not self._total.has_value(p, known)]
        else:
            odd = [node]
        if odd:
            yield self._undefined(node, odd[0], start)

    def _undefined(self, node: Node, odd: Node, start: int) -> Problem:
        operand = self._module.text_of(odd)
        whole = self._module.text_of(node)
        return self._module.problem(
            start,
            f"`not` over `{operand}`, which may be undefined: one engine then says true, the other nothing",
            f"Give it a value first (`x := {operand}` before, then `not {whole.replace(operand, 'x')}`), "
            f"use call.arg(name, otherwise), or negate a rule: `_is_so if {whole}`, then `not _is_so`.",
        )


def _indices(node: Node) -> Iterator[Node]:
    """The bracketed parts of a reference, but for wildcards."""
    kind, body = kind_of(node)
    while kind in ("RefDot", "RefBrack"):
        if kind == "RefBrack":
            yield cast("Node", body["index"])
        kind, body = kind_of(cast("Node", body["refr"]))
