"""Which of an object and a set is the lesser: the engines disagree, so nothing may ask.

Refused are `<`, `<=`, `>`, `>=` where one side may be or hold a set, unless the other is a single value
(a number, a text, …); and `sort`, `min`, `max` of what may hold sets. Inputs and data hold no sets, so
a set can only come from the policy itself, and is followed from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.context import Context, path_of
from fumehood.pdp.gate.refs import called_path
from fumehood.pdp.gate.scope import declared, function_name, pattern_names
from fumehood.pdp.syntax import Module, Node, Rule, kind_of, ref_of, start_of

__all__ = ["check_order"]

_ORDER = frozenset({"Lt", "Le", "Gt", "Ge"})
_SCALARS = frozenset({"String", "RawString", "Number", "Bool", "Null"})
_MAKE_SETS = frozenset({"union", "intersection", "object.keys", "graph.reachable"})
_SINGLE = frozenset(
    {"abs", "bits.and", "bits.negate", "bits.or", "bits.rsh", "bits.xor", "concat", "contains", "count"}
    | {"base64.decode", "base64.encode", "base64url.decode", "base64url.encode", "base64url.encode_no_pad"}
    | {"endswith", "format_int", "glob.match", "hex.decode", "hex.encode", "lower", "product", "regex.match"}
    | {"regex.replace", "replace", "round", "semver.compare", "sprintf", "startswith", "strings.reverse"}
    | {"strings.any_prefix_match", "strings.any_suffix_match", "substring", "sum", "trim", "trim_left"}
    | {"time.add_date", "time.parse_rfc3339_ns", "time.weekday", "trim_prefix", "trim_right", "trim_space"}
    | {"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "trim_suffix"}
    | {"type_name"}
)
_SORTERS = frozenset({"sort", "min", "max"})

Held = Mapping[str, bool]


def check_order(context: Context) -> Iterator[Problem]:
    sets = _Sets(context)
    for module, rule in context.each_rule():
        held: Held | None = None
        found = rule.survey()
        asking = [("BoolExpr", body) for body in found.of("BoolExpr")]
        for kind, body in [*asking, *(("Call", body) for body in found.of("Call"))]:
            is_order = kind == "BoolExpr" and body["op"] in _ORDER and not _has_single(context, module, body)
            is_sorter = kind == "Call" and function_name(body) in _SORTERS
            if not is_order and not is_sorter:
                continue
            held = sets.held_by(module, rule) if held is None else held
            if is_order and sets.may_clash(module, body, held):
                said = module.text_of({kind: body})
                yield module.problem(
                    start_of(body),
                    f"`{said}` may ask if a set is less than an object, which the engines answer differently",
                    "Compare count(…) or single values, or ask for members with `in`.",
                )
            elif is_sorter and sets.may(module, cast("list[Node]", body["params"])[0], held, inside=True):
                yield module.problem(
                    start_of(body),
                    f"`{function_name(body)}` of what may hold sets, which the engines order differently",
                    "Give it numbers or texts.",
                )


class _Sets:
    """Tells whether an expression may be, or hold, a set."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rules: dict[tuple[str, str], bool] = {}

    def may_clash(self, module: Module, body: Node, held: Held) -> bool:
        return self._sides(module, body, held, inside=False)

    def held_by(self, module: Module, rule: Rule) -> Held:
        """For each variable of *rule* whether it may hold a set: the least answer that fits every binding."""
        held: dict[str, bool] = {name: True for arg in rule.args for name, _ in pattern_names(arg)}
        while True:
            before = dict(held)
            for name, node, inside in _bindings(module, rule):
                held[name] = held.get(name, False) or self.may(module, node, held, inside=inside)
            if held == before:
                return held

    def may(self, module: Module, node: Node, held: Held, *, inside: bool = False) -> bool:
        """Whether *node*, or with *inside* what it holds, may be or hold a set."""
        kind, body = kind_of(node)
        if kind in _SCALARS or kind in ("BoolExpr", "Membership", "UnaryExpr"):
            return False
        if kind in ("Array", "Set"):
            items = cast("list[Node]", body["items"])
            return (kind == "Set" and not inside) or any(self.may(module, i, held) for i in items)
        if kind == "Object":
            fields = cast("list[tuple[object, Node, Node]]", body["fields"])
            return any(self.may(module, part, held) for _, k, v in fields for part in (k, v))
        if kind in ("ArrayCompr", "SetCompr", "ObjectCompr"):
            terms = [cast("Node", body[part]) for part in ("term", "key", "value") if part in body]
            return (kind == "SetCompr" and not inside) or any(self.may(module, t, held) for t in terms)
        if kind == "BinExpr":
            return not inside or self._sides(module, body, held, inside=True)
        if kind == "ArithExpr":
            return body["op"] == "Sub" and self._sides(module, body, held, inside=inside)
        if kind == "Call":
            return self._call(module, body, held, inside=inside)
        return self._reference(module, node, held, inside=inside)

    def _sides(self, module: Module, body: Node, held: Held, *, inside: bool) -> bool:
        sides = (cast("Node", body["lhs"]), cast("Node", body["rhs"]))
        return any(self.may(module, side, held, inside=inside) for side in sides)

    def _call(self, module: Module, body: Node, held: Held, *, inside: bool) -> bool:
        name, params = function_name(body), cast("list[Node]", body["params"])
        own = self._context.rules_of(module).get(name)
        path = called_path(module, body)
        if path[:2] == ("data", "policies") and len(path) == 4:
            package = self._context.packages.get(f"policies.{path[2]}")
            own = package.rules.get(str(path[3])) if package else None
        if own:
            return any(self._rule(where, rule) for where, rule in own)
        if name in _SINGLE:
            return False
        if name in _MAKE_SETS and not inside:
            return True
        return any(self.may(module, param, held) for param in params)

    def _reference(self, module: Module, node: Node, held: Held, *, inside: bool) -> bool:
        ref = ref_of(node)
        if ref is None:  # a part of what a function answered
            return True
        path = path_of(module, ref.root, ref.parts)
        if path[:2] == ("data", "policies"):
            package = self._context.packages.get(f"policies.{path[2]}") if len(path) > 3 else None
            rules = package.rules.get(str(path[3]), ()) if package else ()
            return not rules or any(self._rule(where, rule, inside=inside) for where, rule in rules)
        if path[0] in ("input", "data"):
            return path == ("data", "fumehood", "call", "targets") and not inside
        if ref.root in self._context.rules_of(module) and ref.root not in held:
            rules = self._context.rules_of(module)[ref.root]
            is_inside = inside or bool(ref.parts)
            return any(self._rule(where, rule, inside=is_inside) for where, rule in rules)
        return held.get(ref.root, True)

    def _rule(self, module: Module, rule: Rule, *, inside: bool = False) -> bool:
        """Whether a rule's value may be or hold a set."""
        if rule.shape == "set" and not inside:
            return True
        key = (module.file.name, f"{rule.start}:{inside}")
        if key not in self._rules:
            self._rules[key] = True  # should it depend on itself, which another check refuses
            values = [rule.value, rule.key, *rule.head, *(body.value for body in rule.bodies)]
            held = self.held_by(module, rule)
            self._rules[key] = any(self.may(module, v, held) for v in values if v is not None)
        return self._rules[key]


def _bindings(module: Module, rule: Rule) -> Iterator[tuple[str, Node, bool]]:
    """What gives a variable its value: (name, expression, whether it is something inside of that)."""
    for statement in rule.statements():
        kind, body = kind_of(cast("Node", statement["literal"]))
        if kind == "SomeIn":
            for part in ("key", "value"):
                for name, _ in pattern_names(cast("Node | None", body[part])):
                    yield name, cast("Node", body["collection"]), True
        elif kind == "Every":
            for name, _ in declared([body["key"], body["value"]], module):
                yield name, cast("Node", body["domain"]), True
    for kind, body in rule.expressions():
        if kind == "AssignExpr":
            left, right = cast("Node", body["lhs"]), cast("Node", body["rhs"])
            for pattern, value in ((left, right), (right, left)):
                for name, _ in pattern_names(pattern):
                    yield name, value, False
        elif kind == "RefBrack":
            for name, _ in pattern_names(cast("Node", body["index"])):
                yield name, cast("Node", body["refr"]), True
        elif kind == "Call":
            params = cast("list[Node]", body["params"])
            for name, _ in pattern_names(params[-1]) if params else ():
                yield name, params[0], False


def _has_single(context: Context, module: Module, body: Node) -> bool:
    return any(_is_single(context, module, cast("Node", body[side])) for side in ("lhs", "rhs"))


def _is_single(context: Context, module: Module, node: Node) -> bool:
    """Whether *node* is a number, a text, a boolean or null for certain, if it is anything."""
    kind, body = kind_of(node)
    if kind in _SCALARS or kind in ("BoolExpr", "Membership", "UnaryExpr"):
        return True
    if kind == "ArithExpr":
        return body["op"] != "Sub" or _has_single(context, module, body)
    if kind == "Call":
        name = function_name(body)
        return name in _SINGLE and name not in context.rules_of(module)
    return False
