"""Silence must mean no: a permit needs at least one condition that something positively meets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.context import CALL_VALUES, Context, path_of
from fumehood.pdp.gate.scope import function_name
from fumehood.pdp.syntax import Body, Module, Node, Rule, kind_of, ref_of, references

__all__ = ["check_grants"]

_PERMITS = ("permit", "permit_connect")
_POSITIVE_OPS = frozenset({"Eq", "Lt", "Le", "Gt", "Ge"})
Rules = tuple[tuple[Module, Rule], ...]
Known = dict[tuple[str, str], bool]  # package and helper → what `_helper` says

_REMEDY = 'Say what is allowed, for example `call.tool == "read_ticket"`, and bound its arguments.'


def check_grants(context: Context) -> Iterator[Problem]:
    known: Known = {}
    for module, rule in context.each_rule():
        if rule.name in _PERMITS and rule.shape == "value":
            yield from _permit(context, module, rule, known)
    permits = any(r.name == "permit" and r.shape == "value" for _, r in context.each_rule())
    if context.modules and not permits:
        first = context.modules[0]
        yield first.problem(
            first.package_start,
            "no policy of this bundle has a `permit`, so every call would be denied",
            'Write what is allowed: `permit if call.tool == "…"`; or, if these only restrict, name policies '
            'that permit beside them: Guard("limits", "./policies"), `fumehood policy … limits ./policies`.',
        )


def _permit(context: Context, module: Module, rule: Rule, known: Known) -> Iterator[Problem]:
    bodies = rule.bodies or (Body((), is_else=False, value=None, start=rule.start),)
    for body in bodies:
        if not body.statements:
            yield module.problem(
                rule.start, f"this `{rule.name}` has no condition: it allows everything", _REMEDY
            )
        elif not _is_positive(context, module, body, known):
            message = f"every condition of this `{rule.name}` is negative or always true"
            yield module.problem(rule.start, message, _REMEDY)


def _is_positive(context: Context, module: Module, body: Body, known: Known) -> bool:
    return any(_statement(context, module, statement, known) for statement in body.statements)


def _statement(context: Context, module: Module, statement: Node, known: Known) -> bool:
    kind, body = kind_of(cast("Node", statement["literal"]))
    return kind == "Expr" and _expression(context, module, cast("Node", body["expr"]), known)


def _expression(context: Context, module: Module, node: Node, known: Known) -> bool:
    kind, body = kind_of(node)
    if kind == "BoolExpr":
        return (
            body["op"] in _POSITIVE_OPS
            and not _is_absence(body)
            and _names_something([body["lhs"], body["rhs"]])
        )
    if kind == "AssignExpr":
        right = cast("Node", body["rhs"])
        if body["op"] == "ColEq":
            return kind_of(right)[0] in ("BoolExpr", "Call") and _expression(context, module, right, known)
        return not _is_absence(body) and _names_something([body["lhs"], body["rhs"]])
    if kind == "Membership":
        return _names_something([body["value"], body["collection"]])
    if kind == "Call":
        own = context.rules_of(module).get(function_name(body))
        return _helper(context, function_name(body), own, known) if own else True
    if kind in ("Var", "RefDot", "RefBrack"):
        return _reference(context, module, node, known)
    return False


def _reference(context: Context, module: Module, node: Node, known: Known) -> bool:
    ref = ref_of(node)
    if ref is None:
        return True  # a field of what a function answered
    own = context.rules_of(module).get(ref.root)
    if own:
        return _helper(context, ref.root, own, known)
    path = path_of(module, ref.root, ref.parts)
    is_total = (
        path[:3] == ("data", "fumehood", "call") and len(path) == 4 and path[3] in CALL_VALUES - {"is_error"}
    )
    return len(path) > 1 and not is_total


def _helper(context: Context, name: str, rules: Rules, known: Known) -> bool:
    """True if every way for the helper to hold has a positive condition."""
    key = (rules[0][0].name, name)
    if key not in known:
        known[key] = False  # should it depend on itself, which another check refuses
        known[key] = _holds_positively(context, rules, known)
    return known[key]


def _holds_positively(context: Context, rules: Rules, known: Known) -> bool:
    for module, rule in rules:
        if rule.shape == "default":
            if rule.value is None or kind_of(rule.value)[1].get("value") is not False:
                return False
        elif rule.shape in ("set", "object"):
            continue
        elif not rule.bodies or not all(_is_positive(context, module, body, known) for body in rule.bodies):
            return False
    return True


def _is_absence(body: Node) -> bool:
    """`… == false`, `count(…) == 0`, `count(…) < 1`: a negation in other words."""
    left, right = cast("Node", body["lhs"]), cast("Node", body["rhs"])
    for one, other in ((left, right), (right, left)):
        kind, value = kind_of(one)
        other_kind, call = kind_of(other)
        if kind == "Bool" and value["value"] is False:
            return True
        if kind == "Number" and other_kind == "Call" and function_name(call) == "count":
            return body["op"] in ("Eq", "Lt", "Le") and cast("float", value["value"]) <= 1
    return False


def _names_something(sides: list[object]) -> bool:
    """At least one reference or function stands in *sides*: constants alone are no condition."""
    return any(True for _ in references(sides)) or any("Call" in cast("Node", side) for side in sides)
