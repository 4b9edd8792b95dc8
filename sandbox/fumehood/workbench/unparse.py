"""Writes syntax trees back as Rego for the embedded engine, one expression or statement at a time.

Spans cannot be relied on to cut an expression out of its file (those of objects begin late, those of
texts leave their quotes out). As in `pdp.expand` imports are written out, and built-ins that the embedded
engine does differently become functions of ours; *is_plain* leaves both as they stand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from fumehood.pdp.expand import REPLACED
from fumehood.pdp.syntax import Module, Node, kind_of

__all__ = ["Writer"]

_COLLECTION = "data.fumehood.embedded.collection"
_OPS = {"Eq": "==", "Ne": "!=", "Lt": "<", "Le": "<=", "Gt": ">", "Ge": ">="}
_ARITH = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Mod": "%"}
_BIN = {"Union": "|", "Intersection": "&"}
_BOUND_TO_ONE = frozenset({"Var", "RefDot", "RefBrack", "Call"})


class Writer:
    """Writes what stands in one module."""

    def __init__(self, module: Module, *, is_plain: bool = False) -> None:
        self._module = module
        self._is_plain = is_plain
        self._full: Mapping[str, str] = {
            i.alias: ".".join(i.path) for i in module.imports if not is_plain and i.path[:1] == ("data",)
        }

    def statements(self, statements: Sequence[Node]) -> str:
        """A query: its statements, in this order."""
        return "; ".join(map(self.statement, statements))

    def statement(self, statement: Node) -> str:
        """One statement. Raises KeyError for a kind that is not known here."""
        if statement.get("with_mods"):
            raise KeyError("with")
        kind, body = kind_of(cast("Node", statement["literal"]))
        return _LITERALS[kind](self, body)

    def expression(self, node: Node) -> str:
        """One expression. Raises KeyError for a kind that is not known here."""
        kind, body = kind_of(node)
        return _EXPRESSIONS[kind](self, body)

    def name_at(self, span: object) -> str:
        """The name at a span, such as what `every` declares."""
        place = cast("dict[str, int]", span)
        return self._module.encoded[place["start"] : place["end"]].decode()

    # --- statements ---

    def _expr(self, body: Node) -> str:
        return self.expression(cast("Node", body["expr"]))

    def _not(self, body: Node) -> str:
        return "not " + self._expr(body)

    def _some_vars(self, body: Node) -> str:
        return "some " + ", ".join(self.name_at(span) for span in cast("list[object]", body["vars"]))

    def _some_in(self, body: Node) -> str:
        key, value = cast("Node | None", body["key"]), self.expression(cast("Node", body["value"]))
        names = value if key is None else f"{self.expression(key)}, {value}"
        return f"some {names} in {self.collection(cast('Node', body['collection']))}"

    def collection(self, node: Node) -> str:
        """What `some … in` goes through, so that the engine does as OPA does where it is none."""
        text = self.expression(node)
        return text if self._is_plain or kind_of(node)[0] not in _BOUND_TO_ONE else f"{_COLLECTION}({text})"

    def _every(self, body: Node) -> str:
        names = ", ".join(self.name_at(body[part]) for part in ("key", "value") if body[part])
        query = self.statements(cast("list[Node]", cast("Node", body["query"])["stmts"]))
        return f"every {names} in {self.expression(cast('Node', body['domain']))} {{ {query} }}"

    # --- expressions ---

    def _var(self, body: Node) -> str:
        name = cast("str", body["value"])
        return self._full.get(name, name)

    def _ref_dot(self, body: Node) -> str:
        return f"{self._operand(body['refr'])}.{cast('list[str]', body['field'])[1]}"

    def _ref_brack(self, body: Node) -> str:
        return f"{self._operand(body['refr'])}[{self._operand(body['index'])}]"

    def _call(self, body: Node) -> str:
        kind, called = kind_of(cast("Node", body["fcn"]))
        name = self._operand(body["fcn"])
        if kind == "Var" and not self._is_plain:
            name = REPLACED.get(cast("str", called["value"]), name)
        return f"{name}({', '.join(map(self.expression, cast('list[Node]', body['params'])))})"

    def _membership(self, body: Node) -> str:
        key = f"{self._operand(body['key'])}, " if body["key"] else ""
        return f"{key}{self._operand(body['value'])} in {self._operand(body['collection'])}"

    def _assign(self, body: Node) -> str:
        sign = ":=" if body["op"] == "ColEq" else "="
        return f"{self._operand(body['lhs'])} {sign} {self._operand(body['rhs'])}"

    def _infix(self, body: Node) -> str:
        sign = {**_OPS, **_ARITH, **_BIN}[cast("str", body["op"])]
        sides = (self._grouped(cast("Node", body[side])) for side in ("lhs", "rhs"))
        return f" {sign} ".join(sides)

    def _grouped(self, node: Node) -> str:
        text = self.expression(node)
        return f"({text})" if kind_of(node)[0] in ("BoolExpr", "ArithExpr", "BinExpr", "Membership") else text

    def _unary(self, body: Node) -> str:
        return f"-{self._grouped(cast('Node', body['expr']))}"

    def _number(self, body: Node) -> str:
        return self._module.text_of({"Number": body})  # its value has lost digits

    def _string(self, body: Node) -> str:
        return json.dumps(body["value"], ensure_ascii=False)

    def _raw(self, body: Node) -> str:
        return f"`{body['value']}`"

    def _bool(self, body: Node) -> str:
        return json.dumps(body["value"])

    def _array(self, body: Node) -> str:
        return f"[{', '.join(map(self.expression, cast('list[Node]', body['items'])))}]"

    def _set(self, body: Node) -> str:
        items = ", ".join(map(self.expression, cast("list[Node]", body["items"])))
        return f"{{{items}}}" if items else "set()"

    def _object(self, body: Node) -> str:
        fields = cast("list[tuple[object, Node, Node]]", body["fields"])
        return f"{{{', '.join(f'{self.expression(n)}: {self.expression(v)}' for _, n, v in fields)}}}"

    def _comprehension(self, body: Node) -> str:
        query = self.statements(cast("list[Node]", cast("Node", body["query"])["stmts"]))
        if "term" in body:
            return f"{self._operand(body['term'])} | {query}"
        return f"{self._operand(body['key'])}: {self._operand(body['value'])} | {query}"

    def _array_compr(self, body: Node) -> str:
        return f"[{self._comprehension(body)}]"

    def _set_compr(self, body: Node) -> str:
        return f"{{{self._comprehension(body)}}}"

    def _operand(self, node: object) -> str:
        return self.expression(cast("Node", node))


_LITERALS: Mapping[str, Callable[[Writer, Node], str]] = {
    "Expr": Writer._expr,
    "NotExpr": Writer._not,
    "SomeVars": Writer._some_vars,
    "SomeIn": Writer._some_in,
    "Every": Writer._every,
}
_EXPRESSIONS: Mapping[str, Callable[[Writer, Node], str]] = {
    "Var": Writer._var,
    "RefDot": Writer._ref_dot,
    "RefBrack": Writer._ref_brack,
    "Call": Writer._call,
    "Membership": Writer._membership,
    "AssignExpr": Writer._assign,
    "BoolExpr": Writer._infix,
    "ArithExpr": Writer._infix,
    "BinExpr": Writer._infix,
    "UnaryExpr": Writer._unary,
    "Number": Writer._number,
    "String": Writer._string,
    "RawString": Writer._raw,
    "Bool": Writer._bool,
    "Null": Writer._bool,
    "Array": Writer._array,
    "Set": Writer._set,
    "Object": Writer._object,
    "ArrayCompr": Writer._array_compr,
    "SetCompr": Writer._set_compr,
    "ObjectCompr": Writer._set_compr,
}
