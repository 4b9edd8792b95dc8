"""What always has a value, whatever the input lacks: constants, bound variables, total helpers."""

from __future__ import annotations

from typing import cast

from fumehood.pdp.gate.builtins import ARITY
from fumehood.pdp.gate.context import CALL_FIELDS, CALL_FUNCTIONS, CALL_VALUES, Context, path_of
from fumehood.pdp.gate.refs import called_path
from fumehood.pdp.gate.scope import Names, function_name, globals_of
from fumehood.pdp.syntax import Module, Node, Rule, kind_of, ref_of

__all__ = ["Totality"]

_CALL = ("data", "fumehood", "call")
_COMPREHENSIONS = ("ArrayCompr", "SetCompr", "ObjectCompr")
_OPERATORS = ("ArithExpr", "BinExpr", "BoolExpr", "UnaryExpr")
_SCALARS = ("String", "RawString", "Number", "Bool", "Null")
_PARTIAL = frozenset({"max", "min", "walk"})  # built-ins that may answer nothing without an error


class Totality:
    """Decides, for one module, whether an expression always has a value (or is an error)."""

    def __init__(self, context: Context, module: Module) -> None:
        self._context = context
        self._module = module
        self.globals = globals_of(context, module)

    def has_value(self, node: Node, known: Names) -> bool:
        kind, body = kind_of(node)
        if kind in _SCALARS:
            return True
        if kind == "Var":
            name = cast("str", body["value"])
            return name in known or self._is_total_path(name, ())
        if kind in ("Array", "Set"):
            return all(self.has_value(item, known) for item in cast("list[Node]", body["items"]))
        if kind == "Object":
            fields = cast("list[tuple[object, Node, Node]]", body["fields"])
            return all(self.has_value(k, known) and self.has_value(v, known) for _, k, v in fields)
        if kind in _COMPREHENSIONS:
            return True  # an empty one is a value too
        if kind == "Call":
            return self._is_total_call(body, known)
        if kind in _OPERATORS:
            sides = (body.get("lhs"), body.get("rhs"), body.get("expr"))
            return all(self.has_value(cast("Node", side), known) for side in sides if side is not None)
        if kind in ("RefDot", "RefBrack"):
            return self._is_total_ref(node, known)
        return False

    def _is_total_ref(self, node: Node, known: Names) -> bool:
        kind, body = kind_of(node)
        base_kind, base = kind_of(cast("Node", body["refr"]))
        if kind == "RefDot" and base_kind == "Call":  # call.url(pointer).host
            path = called_path(self._module, base)
            fields = CALL_FIELDS.get(str(path[-1]), frozenset()) if path[:3] == _CALL else frozenset()
            return cast("list[str]", body["field"])[1] in fields and self._is_total_call(base, known)
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
        name = function_name(call)
        is_builtin = (
            name in ARITY and name not in _PARTIAL and name not in self._context.rules_of(self._module)
        )
        params = cast("list[Node]", call["params"])
        return (is_ours or is_builtin) and all(self.has_value(p, known) for p in params)


def _is_constant(node: Node) -> bool:
    kind, body = kind_of(node)
    if kind in ("Array", "Set"):
        return all(map(_is_constant, cast("list[Node]", body["items"])))
    if kind == "Object":
        fields = cast("list[tuple[object, Node, Node]]", body["fields"])
        return all(_is_constant(k) and _is_constant(v) for _, k, v in fields)
    return kind in _SCALARS
