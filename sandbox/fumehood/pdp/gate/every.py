"""`every`: in its body OPA compares where `=` meets a name that `every` gave, and regorus gives the name a
new value, so that the statement always holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.builtins import ARITY
from fumehood.pdp.gate.context import Context
from fumehood.pdp.gate.scope import declared, function_name
from fumehood.pdp.syntax import Module, Node, kind_of, start_of, walk

__all__ = ["check_every"]


def check_every(context: Context) -> Iterator[Problem]:
    for module, rule in context.each_rule():
        if "Every" not in rule.survey().literals:
            continue
        for statement in rule.statements():
            kind, body = kind_of(cast("Node", statement["literal"]))
            if kind == "Every":
                names = {name for name, _ in declared([body["key"], body["value"]], module)}
                yield from _matched(module, body["query"], names)


def _matched(module: Module, query: object, names: set[str]) -> Iterator[Problem]:
    for kind, body in walk(query):
        if kind == "AssignExpr" and body["op"] != "ColEq":
            sides = [cast("Node", body["lhs"]), cast("Node", body["rhs"])]
        elif kind == "Call" and len(cast("list[Node]", body["params"])) > ARITY.get(function_name(body), 99):
            sides = [cast("list[Node]", body["params"])[-1]]
        else:
            continue
        found = next((name for side in sides for name in _bare(side) if name in names), None)
        if found is not None:
            yield module.problem(
                start_of(body),
                f"`{found}` of `every` is matched here: one engine compares, the other gives it a new value",
                f"Compare it with `==`; match with a new name and compare that with `{found}`.",
            )


def _bare(node: Node) -> Iterator[str]:
    """The variables that stand in a pattern, rather than in an expression inside of it."""
    kind, body = kind_of(node)
    if kind == "Var":
        yield cast("str", body["value"])
    elif kind in ("Array", "Set"):
        for item in cast("list[Node]", body["items"]):
            yield from _bare(item)
    elif kind == "Object":
        for _, key, item in cast("list[tuple[object, Node, Node]]", body["fields"]):
            yield from _bare(key)
            yield from _bare(item)
