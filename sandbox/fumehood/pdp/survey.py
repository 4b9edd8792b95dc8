"""What stands in a part of a syntax tree, found in one walk: every check of the gate asks for it.

Written for speed: a thousand rules have fifty thousand nodes, and whoever replaces policies waits for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

__all__ = ["EXPRESSIONS", "PLACES", "Node", "Survey", "plain_names", "survey"]

Node = dict[str, object]

EXPRESSIONS = frozenset(
    {"Var", "RefDot", "RefBrack", "Call", "Membership", "AssignExpr"}
    | {"String", "RawString", "Number", "Bool", "Null", "Array", "Object", "Set"}
    | {"ArrayCompr", "SetCompr", "ObjectCompr", "BoolExpr", "ArithExpr", "BinExpr", "UnaryExpr"}
)
PLACES = frozenset({"span", "field"})  # no node below them
_LEAVES = frozenset({"Var", "String", "RawString", "Number", "Bool", "Null"})
_PLAIN = frozenset({"Expr", "NotExpr"})
_GIVES = frozenset({"AssignExpr", "ArrayCompr", "SetCompr", "ObjectCompr"})
_NAMES = "names"  # the key under which a statement keeps what `plain_names` says


@dataclass(frozen=True, slots=True)
class Survey:
    """`expressions` are (kind, body), outermost first; `kinds` the same by kind; `statements` in order, with
    nested ones; `literals` are the kinds of what stands in them."""

    expressions: tuple[tuple[str, Node], ...]
    kinds: Mapping[str, Sequence[Node]]
    statements: tuple[Node, ...]
    literals: frozenset[str]

    def of(self, kind: str) -> Sequence[Node]:
        """The bodies of all expressions of one kind."""
        return self.kinds.get(kind, ())

    @property
    def has_queries(self) -> bool:
        """Whether there is a comprehension, or an `every`."""
        return "Every" in self.literals or not self.kinds.keys().isdisjoint(_GIVES - {"AssignExpr"})


def survey(value: object) -> Survey:
    """Everything in *value*."""
    expressions: list[tuple[str, Node]] = []
    statements: list[tuple[Node, int]] = []  # with the number of expressions before it
    stack: list[object] = [value]
    while stack:
        here = stack.pop()
        if type(here) is not dict:
            stack += [
                item for item in reversed(cast("list[object]", here)) if type(item) in (dict, list, tuple)
            ]
            continue
        if "literal" in here:
            statements.append((here, len(expressions)))
        below: list[object] = []
        for key, item in here.items():
            kind = type(item)
            if kind is dict:
                if key in EXPRESSIONS and "span" in item:
                    expressions.append((key, item))
                    if key in _LEAVES:
                        continue
                elif key in PLACES:
                    continue
                below.append(item)
            elif kind is list and key not in PLACES:
                below.append(item)
        if below:
            below.reverse()
            stack += below
    return _sorted(expressions, statements)


def plain_names(statement: Node) -> frozenset[str] | None:
    """The variables of a surveyed statement that is an expression, gives no variable a value in a pattern and
    has no query of its own; None for any other. The names of functions are left out."""
    return cast("frozenset[str] | None", statement.get(_NAMES))


def _sorted(expressions: list[tuple[str, Node]], statements: list[tuple[Node, int]]) -> Survey:
    kinds: dict[str, list[Node]] = {}
    for kind, body in expressions:
        known = kinds.get(kind)
        if known is None:
            kinds[kind] = [body]
        else:
            known.append(body)
    functions = {id(_root(cast("Node", body["fcn"]))) for body in kinds.get("Call", ())}
    literals: set[str] = set()
    ends = [at for _, at in statements[1:]] + [len(expressions)]
    for (statement, start), end in zip(statements, ends, strict=False):
        (literal,) = cast("Node", statement["literal"])
        literals.add(literal)
        if literal in _PLAIN and not statement.get("with_mods"):
            statement[_NAMES] = _names(expressions[start:end], functions)
    return Survey(tuple(expressions), kinds, tuple(one for one, _ in statements), frozenset(literals))


def _names(expressions: Sequence[tuple[str, Node]], functions: set[int]) -> frozenset[str] | None:
    """What is behind the statement may be among *expressions*: then there are more names, never fewer."""
    names: list[object] = []
    for kind, body in expressions:
        if kind == "Var":
            if id(body) not in functions:
                names.append(body["value"])
        elif kind in _GIVES:
            return None
    return frozenset(cast("list[str]", names))


def _root(node: Node) -> Node:
    """The body of the variable that a reference begins with."""
    while True:
        ((kind, body),) = cast("dict[str, Node]", node).items()
        if kind not in ("RefDot", "RefBrack"):
            return body
        node = cast("Node", body["refr"])
