"""`not`: where an operand is undefined, OPA says undefined and regorus says true. So it must not be.

Allowed under `not`: a bare reference, or an expression whose operands always have a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.context import CALL_FUNCTIONS, CALL_VALUES, Context, path_of
from fumehood.pdp.gate.refs import called_path
from fumehood.pdp.gate.scope import Names, bound_by, globals_of, pattern_names
from fumehood.pdp.syntax import Module, Node, Rule, kind_of, ref_of, start_of

__all__ = ["check_negation"]

_URL_FIELDS = frozenset({"scheme", "host", "port", "path"})
_COMPREHENSIONS = ("ArrayCompr", "SetCompr", "ObjectCompr")
_SCALARS = ("String", "RawString", "Number", "Bool", "Null")


def check_negation(context: Context) -> Iterator[Problem]:
    for module, rule in context.each_rule():
        judge = _Judge(context, module)
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
    """Decides, for one module, whether something always has a value."""

    def __init__(self, context: Context, module: Module) -> None:
        self._context = context
        self._module = module
        self.globals = globals_of(context, module)

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
            yield from self.nested(body, inside)

    def nested(self, node: object, known: Names) -> Iterator[Problem]:
        """The queries of comprehensions in *node*."""
        if isinstance(node, dict):
            for key, item in node.items():
                if key in _COMPREHENSIONS:
                    query = cast("Node", item["query"])
                    yield from self.query(cast("list[Node]", query["stmts"]), known)
                elif key != "query":
                    yield from self.nested(item, known)
        elif isinstance(node, list):
            for item in node:
                yield from self.nested(item, known)

    def _every_names(self, body: Node) -> Names:
        text = self._module.encoded
        spans = [cast("dict[str, int] | None", body[part]) for part in ("key", "value")]
        return frozenset(text[s["start"] : s["end"]].decode() for s in spans if s)

    def _not(self, node: Node, start: int, known: Names) -> Iterator[Problem]:
        kind, body = kind_of(node)
        if kind in ("Var", "RefDot", "RefBrack") and ref_of(node):
            odd = [index for index in _indices(node) if not self._has_value(index, known)]
        elif kind in ("BoolExpr", "Membership", "AssignExpr") and body.get("op") != "ColEq":
            sides = [
                cast("Node | None", body.get(side)) for side in ("lhs", "rhs", "key", "value", "collection")
            ]
            odd = [side for side in sides if side is not None and not self._has_value(side, known)]
        elif kind == "Call":
            odd = [p for p in cast("list[Node]", body["params"]) if not self._has_value(p, known)]
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

    def _has_value(self, node: Node, known: Names) -> bool:
        kind, body = kind_of(node)
        if kind in _SCALARS:
            return True
        if kind == "Var":
            name = cast("str", body["value"])
            return name in known or self._is_total_path(name, ())
        if kind in ("Array", "Set"):
            return all(self._has_value(item, known) for item in cast("list[Node]", body["items"]))
        if kind == "Object":
            fields = cast("list[tuple[object, Node, Node]]", body["fields"])
            return all(self._has_value(k, known) and self._has_value(v, known) for _, k, v in fields)
        if kind in _COMPREHENSIONS:
            return True  # an empty one is a value too
        if kind == "Call":
            return self._is_total_call(body, known)
        if kind in ("RefDot", "RefBrack"):
            return self._is_total_ref(node, known)
        return False

    def _is_total_ref(self, node: Node, known: Names) -> bool:
        kind, body = kind_of(node)
        base_kind, base = kind_of(cast("Node", body["refr"]))
        if kind == "RefDot" and base_kind == "Call":  # call.url(pointer).host
            path = called_path(self._module, base)
            is_url = path == ("data", "fumehood", "call", "url")
            return (
                is_url
                and cast("list[str]", body["field"])[1] in _URL_FIELDS
                and self._is_total_call(base, known)
            )
        ref = ref_of(node)
        return ref is not None and ref.root not in known and self._is_total_path(ref.root, ref.parts)

    def _is_total_path(self, root: str, parts: tuple[str | None, ...]) -> bool:
        path = path_of(self._module, root, parts)
        if path[:3] == ("data", "fumehood", "call"):
            return len(path) == 4 and path[3] in CALL_VALUES
        if len(path) == 1:
            return self._is_total_rule(self._context.rules_of(self._module).get(root, ()))
        if path[:2] == ("data", "policies") and len(path) == 4:
            package = self._context.packages.get(f"policies.{path[2]}")
            return package is not None and self._is_total_rule(package.rules.get(str(path[3]), ()))
        return False

    def _is_total_rule(self, rules: tuple[tuple[Module, Rule], ...]) -> bool:
        """A set, something with a default, or a constant."""
        if any(rule.shape in ("set", "default") and not rule.args for _, rule in rules):
            return True
        return any(
            rule.shape == "value" and not rule.bodies and rule.value is not None and _is_constant(rule.value)
            for _, rule in rules
        )

    def _is_total_call(self, call: Node, known: Names) -> bool:
        path = called_path(self._module, call)
        is_ours = path[:3] == ("data", "fumehood", "call") and path[-1] in CALL_FUNCTIONS
        return is_ours and all(self._has_value(p, known) for p in cast("list[Node]", call["params"]))


def _indices(node: Node) -> Iterator[Node]:
    """The bracketed parts of a reference, but for wildcards."""
    kind, body = kind_of(node)
    while kind in ("RefDot", "RefBrack"):
        if kind == "RefBrack":
            yield cast("Node", body["index"])
        kind, body = kind_of(cast("Node", body["refr"]))


def _is_constant(node: Node) -> bool:
    kind, body = kind_of(node)
    if kind in ("Array", "Set"):
        return all(map(_is_constant, cast("list[Node]", body["items"])))
    if kind == "Object":
        fields = cast("list[tuple[object, Node, Node]]", body["fields"])
        return all(_is_constant(k) and _is_constant(v) for _, k, v in fields)
    return kind in _SCALARS
