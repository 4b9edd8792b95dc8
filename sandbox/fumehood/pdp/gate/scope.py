"""Which variables a query binds, which it uses, and which of them nothing ever binds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.builtins import ARITY
from fumehood.pdp.gate.context import Context
from fumehood.pdp.syntax import Body, Module, Node, Rule, kind_of, ref_of, start_of

__all__ = ["Names", "bound_by", "check_variables", "function_name", "globals_of", "pattern_names"]

Names = frozenset[str]
_COMPREHENSIONS = {"ArrayCompr": ("term",), "SetCompr": ("term",), "ObjectCompr": ("key", "value")}


def globals_of(context: Context, module: Module) -> Names:
    """Names that mean something everywhere in *module*."""
    aliases = {imported.alias for imported in module.imports}
    return frozenset({"input", "data", "_", *aliases, *context.rules_of(module)})


def check_variables(context: Context) -> Iterator[Problem]:
    """Unsafe variables, and local names that hide an import."""
    for module, rule in context.each_rule():
        known = globals_of(context, module)
        aliases = frozenset({"input", "data"} | {i.alias for i in module.imports})
        yield from _Checker(module, known, aliases).rule(rule)


def function_name(call: Node) -> str:
    """The dotted name that a call is made by."""
    ref = ref_of(cast("Node", call["fcn"]))
    return ".".join([ref.root, *(part or "?" for part in ref.parts)]) if ref else "?"


def pattern_names(node: Node | None) -> Iterator[tuple[str, int]]:
    """The variables of a pattern such as `[x, {"k": y}]`, with their places."""
    if node is None:
        return
    kind, body = kind_of(node)
    if kind == "Var":
        yield cast("str", body["value"]), start_of(body)
    elif kind == "Array":
        for item in cast("list[Node]", body["items"]):
            yield from pattern_names(item)
    elif kind == "Object":
        for _, _, value in cast("list[tuple[object, Node, Node]]", body["fields"]):
            yield from pattern_names(value)


def bound_by(statements: tuple[Node, ...] | list[Node], known: Names) -> Names:
    """The variables that a query binds at its own level."""
    return frozenset(name for s in statements for name in _bound(s, known) if name not in known)


def _bound(statement: Node, known: Names) -> Iterator[str]:
    kind, body = kind_of(cast("Node", statement["literal"]))
    if kind == "SomeIn":
        for part in ("key", "value"):
            yield from (name for name, _ in pattern_names(cast("Node | None", body[part])))
        yield from _indexed(cast("Node", body["collection"]))
    elif kind == "Expr":
        expression = cast("Node", body["expr"])
        yield from _assigned(expression, known)
        yield from _indexed(expression)
    elif kind == "Every":
        yield from _indexed(cast("Node", body["domain"]))


def _assigned(expression: Node, known: Names) -> Iterator[str]:
    kind, body = kind_of(expression)
    if kind == "AssignExpr":
        sides = ("lhs",) if body["op"] == "ColEq" else ("lhs", "rhs")
        for side in sides:
            yield from (name for name, _ in pattern_names(cast("Node", body[side])))
    elif kind == "Call":
        params = cast("list[Node]", body["params"])
        if len(params) == ARITY.get(function_name(body), 99) + 1:  # walk(x, [path, value])
            yield from (name for name, _ in pattern_names(params[-1]))


def _indexed(node: Node) -> Iterator[str]:
    """Variables that a reference's brackets bind: `input.list[i]`."""
    for kind, body in _level(node):
        if kind == "RefBrack":
            yield from (name for name, _ in pattern_names(cast("Node", body["index"])))


def _level(node: object) -> Iterator[tuple[str, Node]]:
    """Every expression below *node*, but not inside comprehensions: they are queries of their own."""
    if isinstance(node, dict):
        for key, item in node.items():
            if isinstance(item, dict) and "span" in item and key[:1].isupper():
                yield key, item
            if key not in _COMPREHENSIONS:
                yield from _level(item)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _level(item)


class _Checker:
    """Walks one rule with the set of names that are known so far."""

    def __init__(self, module: Module, known: Names, aliases: Names) -> None:
        self._module = module
        self._known = known
        self._aliases = aliases

    def rule(self, rule: Rule) -> Iterator[Problem]:
        if rule.shape == "default":
            return
        arguments = [pair for arg in rule.args for pair in pattern_names(arg)]
        yield from self._hidden(arguments)
        here = self._known | {name for name, _ in arguments}
        bodies = rule.bodies or (Body((), False, None, rule.start),)
        for index, body in enumerate(bodies):
            inside = here | bound_by(body.statements, here)
            yield from self._query(body.statements, here)
            heads = [body.value] if body.is_else else [rule.key, rule.value, body.value]
            for head in heads:
                yield from self._expression(head, inside)
            if index == 0:
                yield from self._head_index(rule, inside)

    def _head_index(self, rule: Rule, inside: Names) -> Iterator[Problem]:
        for node in rule.head:
            yield from self._expression(node, inside)

    def _query(self, statements: tuple[Node, ...] | list[Node], known: Names) -> Iterator[Problem]:
        inside = known | bound_by(statements, known)
        for statement in statements:
            yield from self._statement(statement, inside)

    def _statement(self, statement: Node, known: Names) -> Iterator[Problem]:
        kind, body = kind_of(cast("Node", statement["literal"]))
        if kind == "SomeIn":
            pairs = [p for part in ("key", "value") for p in pattern_names(cast("Node | None", body[part]))]
            yield from self._hidden(pairs)
            yield from self._expression(cast("Node", body["collection"]), known)
        elif kind == "Every":
            yield from self._every(body, known)
        elif kind == "SomeVars":
            text = self._module.encoded
            spans = cast("list[dict[str, int]]", body["vars"])
            yield from self._hidden([(text[s["start"] : s["end"]].decode(), s["start"]) for s in spans])
        else:
            expression = cast("Node", body["expr"])
            inner_kind, inner = kind_of(expression)
            if inner_kind == "AssignExpr" and inner["op"] == "ColEq":
                yield from self._hidden(list(pattern_names(cast("Node", inner["lhs"]))))
            yield from self._expression(expression, known)

    def _every(self, body: Node, known: Names) -> Iterator[Problem]:
        text = self._module.encoded
        spans = [cast("dict[str, int] | None", body[part]) for part in ("key", "value")]
        pairs = [(text[s["start"] : s["end"]].decode(), s["start"]) for s in spans if s]
        yield from self._hidden(pairs)
        yield from self._expression(cast("Node", body["domain"]), known)
        query = cast("Node", body["query"])
        yield from self._query(cast("list[Node]", query["stmts"]), known | {name for name, _ in pairs})

    def _expression(self, node: Node | None, known: Names) -> Iterator[Problem]:
        if node is None:
            return
        kind, body = kind_of(node)
        if kind in _COMPREHENSIONS:
            stmts = cast("list[Node]", cast("Node", body["query"])["stmts"])
            yield from self._query(stmts, known)
            inside = known | bound_by(stmts, known)
            for part in _COMPREHENSIONS[kind]:
                yield from self._expression(cast("Node", body[part]), inside)
        elif kind == "Var":
            if body["value"] not in known:
                yield self._unsafe(cast("str", body["value"]), start_of(body))
        elif kind == "Call":
            for parameter in cast("list[Node]", body["params"]):
                yield from self._expression(parameter, known)
        else:
            for child in children(body):
                yield from self._expression(child, known)

    def _unsafe(self, name: str, start: int) -> Problem:
        return self._module.problem(
            start,
            f"`{name}` is unsafe: nothing gives it a value",
            f"Give it one (`{name} := …`, `some {name} in …`), correct its spelling, or quote it.",
        )

    def _hidden(self, pairs: list[tuple[str, int]]) -> Iterator[Problem]:
        for name, start in pairs:
            if name in self._aliases:
                message = f"the variable `{name}` hides what `{name}` means in this file"
                yield self._module.problem(start, message, "Give the variable another name.")


def children(body: Node) -> Iterator[Node]:
    """The expressions directly inside an expression."""
    for key, value in body.items():
        if key == "fields":
            for _, name, item in cast("list[tuple[object, Node, Node]]", value):
                yield name
                yield item
        elif key == "items":
            yield from cast("list[Node]", value)
        elif isinstance(value, dict) and "start" not in value:
            yield cast("Node", value)
