"""Which tools a body of a rule is about, and which arguments it names: what several checks need to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from fumehood.pdp.gate.context import CALL_FUNCTIONS, Context, path_of
from fumehood.pdp.gate.refs import called_path
from fumehood.pdp.gate.scope import function_name
from fumehood.pdp.syntax import (
    Body,
    Module,
    Node,
    Rule,
    constant_of,
    kind_of,
    ref_of,
    references,
    start_of,
    walk,
)

__all__ = ["KIND", "Named", "Reach", "arguments_in", "bodies_of", "helpers_in", "names_in", "whole"]

Tools = frozenset[str]
TOOL = (("data", "fumehood", "call", "tool"), ("input", "resource", "id"))
KIND = (("data", "fumehood", "call", "kind"), ("input", "resource", "properties", "annotations", "kind"))
_ARGS = (("data", "fumehood", "call", "args"), ("input", "action", "properties", "args"))
_BY_NAME = "arg"
_BY_POINTER = frozenset(CALL_FUNCTIONS) - {_BY_NAME}
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Named:
    """An argument that is named somewhere."""

    name: str
    start: int


def bodies_of(rule: Rule) -> Sequence[Body]:
    """The bodies of a rule; one that is empty for a rule without any."""
    return rule.bodies or (Body((), is_else=False, value=None, start=rule.start),)


def whole(rule: Rule, body: Body) -> list[object]:
    """Everything that belongs to one body: its statements, and the head."""
    return [body.statements, body.value, rule.value, rule.key, rule.head]


def arguments_in(module: Module, value: object) -> Iterator[Named]:
    """The arguments of the call that expressions below *value* name."""
    for _, ref in references(value):
        path = path_of(module, ref.root, ref.parts)
        for args in _ARGS:
            if path[: len(args)] == args and len(path) > len(args) and path[len(args)] is not None:
                yield Named(str(path[len(args)]), ref.start)
    for kind, body in walk(value):
        if kind == "Call" and called_path(module, body)[:3] == ("data", "fumehood", "call"):
            yield from _by_function(module, body)
        elif kind == "Call" and function_name(body) == "object.get":
            yield from _by_get(module, body)


def _by_get(module: Module, call: Node) -> Iterator[Named]:
    """`object.get(call.args, "x", …)`, or with a list of steps."""
    params = cast("list[Node]", call["params"])
    ref = ref_of(params[0]) if len(params) > 1 else None
    if ref is not None and path_of(module, ref.root, ref.parts) in _ARGS:
        steps = constant_of(params[1])
        name = steps[0] if isinstance(steps, list) and steps else steps
        if isinstance(name, str):
            yield Named(name, start_of(kind_of(params[1])[1]))


def _by_function(module: Module, call: Node) -> Iterator[Named]:
    function = called_path(module, call)[-1]
    params = cast("list[Node]", call["params"])
    given = constant_of(params[0]) if params else None
    if not isinstance(given, str):
        return
    start = start_of(kind_of(params[0])[1])
    if function == _BY_NAME:
        yield Named(given, start)
    elif function in _BY_POINTER and given.startswith("/"):
        token = given[1:].partition("/")[0].replace("~1", "/").replace("~0", "~")
        yield Named(token, start)


def helpers_in(context: Context, module: Module, value: object) -> Iterator[tuple[Module, Rule]]:
    """Every definition of a rule of this package that is named below *value*, and in those, and so on."""
    rules = context.rules_of(module)
    left, seen = list(names_in(value)), set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        for found in rules.get(name, ()):
            yield found
            left.extend(names_in(found[1].parts()))


def names_in(value: object) -> Iterator[str]:
    """The variables, rules and functions that are named below *value*."""
    for kind, body in walk(value):
        if kind == "Var":
            yield cast("str", body["value"])
        elif kind == "Call":
            yield function_name(body)


class Reach:
    """Which tools a body can be about; with *paths* of something else, which values of that."""

    def __init__(self, context: Context, *, paths: Sequence[tuple[str, ...]] = TOOL) -> None:
        self._context = context
        self._paths = paths

    def tools(self, module: Module, body: Body, depth: int = 0) -> Tools | None:
        """The names that the body allows; None where it does not say."""
        found: Tools | None = None
        for statement in body.statements:
            kind, literal = kind_of(cast("Node", statement["literal"]))
            said = self._expression(module, cast("Node", literal["expr"]), depth) if kind == "Expr" else None
            if said is not None:
                found = said if found is None else found & said
        return found

    def names(self, module: Module, value: object) -> Iterator[tuple[str, int]]:
        """Each tool that is compared with `call.tool` below *value*, with its place."""
        for kind, body in walk(value):
            if kind in ("BoolExpr", "AssignExpr"):
                sides = [cast("Node", body["lhs"]), cast("Node", body["rhs"])]
            elif kind == "Membership":
                sides = [cast("Node", body["value"]), cast("Node", body["collection"])]
            else:
                continue
            for one, other in (sides, sides[::-1]):
                if self._is_tool(module, one):
                    yield from self._texts(module, other)

    def _texts(self, module: Module, node: Node) -> Iterator[tuple[str, int]]:
        kind, body = kind_of(node)
        if kind in ("String", "RawString"):
            yield cast("str", body["value"]), start_of(body)
        elif kind in ("Set", "Array"):
            for item in cast("list[Node]", body["items"]):
                yield from self._texts(module, item)

    def _expression(self, module: Module, node: Node, depth: int) -> Tools | None:
        kind, body = kind_of(node)
        if (kind == "BoolExpr" and body["op"] == "Eq") or (kind == "AssignExpr" and body["op"] != "ColEq"):
            sides = [cast("Node", body["lhs"]), cast("Node", body["rhs"])]
            said = [self._one(module, a, b) for a, b in (sides, sides[::-1])]
            return next((tools for tools in said if tools is not None), None)
        if kind == "Membership" and self._is_tool(module, cast("Node", body["value"])):
            return self._collection(module, cast("Node", body["collection"]))
        if kind in ("Var", "Call") and depth < _MAX_DEPTH:
            name = cast("str", body["value"]) if kind == "Var" else function_name(body)
            return self._helper(self._context.rules_of(module).get(name, ()), depth)
        return None

    def _one(self, module: Module, tool: Node, other: Node) -> Tools | None:
        said = constant_of(other)
        return frozenset({said}) if self._is_tool(module, tool) and isinstance(said, str) else None

    def _is_tool(self, module: Module, node: Node) -> bool:
        ref = ref_of(node)
        return ref is not None and path_of(module, ref.root, ref.parts) in self._paths

    def _collection(self, module: Module, node: Node) -> Tools | None:
        kind, body = kind_of(node)
        if kind == "Var":
            rules = self._context.rules_of(module).get(cast("str", body["value"]), ())
            values = [rule.value for _, rule in rules if rule.shape == "value" and not rule.bodies]
            if len(values) != 1 or len(rules) != 1 or values[0] is None:
                return None
            return self._collection(module, values[0]) if kind_of(values[0])[0] != "Var" else None
        said = constant_of(node)
        if not isinstance(said, list) or not all(isinstance(item, str) for item in said):
            return None
        return frozenset(cast("list[str]", said))

    def _helper(self, rules: Sequence[tuple[Module, Rule]], depth: int) -> Tools | None:
        """What all ways for a helper to hold allow together."""
        found: Tools = frozenset()
        for module, rule in rules:
            if rule.shape == "default":
                continue
            if rule.shape not in ("value", "function"):
                return None
            for body in bodies_of(rule):
                said = self.tools(module, body, depth + 1)
                if said is None:
                    return None
                found |= said
        return found if rules else None
