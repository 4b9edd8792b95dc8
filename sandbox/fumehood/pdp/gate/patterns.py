"""What is matched otherwise by each engine.

Objects as patterns: `{"a": x} = y` needs exactly these keys in OPA, at least these in regorus. And names that
are given twice: `some v, v in l` and `f(x, x)` want both to be equal in OPA, and take the last in regorus.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.builtins import ARITY
from fumehood.pdp.gate.context import Context
from fumehood.pdp.gate.scope import declared, function_name, pattern_names
from fumehood.pdp.syntax import Module, Node, Rule, kind_of, start_of, walk

__all__ = ["check_patterns"]


def check_patterns(context: Context) -> Iterator[Problem]:
    for module, rule in context.each_rule():
        for pattern in _patterns(rule):
            node = _object_with_names(pattern)
            if node is not None:
                yield _problem(module, node)
        for name, start in _given_twice(module, rule):
            yield module.problem(
                start,
                f"`{name}` is given twice here: one engine wants both to be equal, the other takes the last",
                "Give each a name of its own, and compare them: `some i, v in …` and `i == v`.",
            )


def _given_twice(module: Module, rule: Rule) -> Iterator[tuple[str, int]]:
    """Names that stand in more than one argument, or for the key and for the value; with the later place."""
    groups: list[list[list[tuple[str, int]]]] = []
    if rule.shape != "default":
        groups.append([list(pattern_names(pattern)) for pattern in rule.args])
    found = rule.survey()
    for statement in found.statements if {"SomeIn", "Every"} & set(found.literals) else ():
        kind, body = kind_of(cast("Node", statement["literal"]))
        parts = [body[part] for part in ("key", "value") if body[part]] if kind in ("SomeIn", "Every") else []
        if kind == "SomeIn":
            groups.append([list(pattern_names(cast("Node", part))) for part in parts])
        elif parts:
            groups.append([list(declared([part], module)) for part in parts])
    for group in groups:
        seen: set[str] = set()
        for names in group:
            yield from ((name, start) for name, start in names if name in seen - {"_"})
            seen.update(name for name, _ in names)


def _patterns(rule: Rule) -> Iterator[Node]:
    """Everything that a value is matched with."""
    if rule.shape != "default":
        yield from rule.args
    found = rule.survey()
    for statement in found.statements if "SomeIn" in found.literals else ():
        kind, body = kind_of(cast("Node", statement["literal"]))
        if kind == "SomeIn":
            yield from (cast("Node", body[part]) for part in ("key", "value") if body[part])
    for body in found.of("AssignExpr"):
        yield cast("Node", body["lhs"])
        if body["op"] != "ColEq":
            yield cast("Node", body["rhs"])
    for body in found.of("Call"):
        params = cast("list[Node]", body["params"])
        if len(params) > ARITY.get(function_name(body), 99):  # walk(x, [path, value])
            yield params[-1]


def _object_with_names(node: Node) -> Node | None:
    """The first object in a pattern that holds a variable."""
    kind, body = kind_of(node)
    if kind == "Object":
        fields = cast("list[tuple[object, Node, Node]]", body["fields"])
        if any(found == "Var" for found, _ in walk([part for _, *both in fields for part in both])):
            return node
    elif kind == "Array":
        found = map(_object_with_names, cast("list[Node]", body["items"]))
        return next((inside for inside in found if inside is not None), None)
    return None


def _problem(module: Module, node: Node) -> Problem:
    fields = cast("list[tuple[object, Node, Node]]", kind_of(node)[1]["fields"])
    first = start_of(kind_of(fields[0][1])[1])  # the span of an object does not say where it begins
    return module.problem(
        module.encoded.rfind(b"{", 0, first),
        "an object is matched here: one engine wants exactly these keys, the other at least these",
        "Take what you need by its name: `x := value.key`; to make an object write `name := {…}`.",
    )
