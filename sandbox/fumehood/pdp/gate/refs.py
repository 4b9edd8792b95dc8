"""What a policy names: references, functions, built-ins, and forms that the two engines read differently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.builtins import ARITY, banned
from fumehood.pdp.gate.context import (
    CALL_FUNCTIONS,
    CALL_VALUES,
    Context,
    nearest,
    path_of,
)
from fumehood.pdp.gate.names import KEYWORDS
from fumehood.pdp.gate.scope import function_name
from fumehood.pdp.syntax import Module, Node, Rule, kind_of, ref_of, start_of, walk

__all__ = ["called_path", "check_references"]

_CALL = ("data", "fumehood", "call")


def check_references(context: Context) -> Iterator[Problem]:
    for module in context.modules:
        fine: set[tuple[str, tuple[str | None, ...]]] = set()  # references in which nothing was found
        for rule in module.rules:
            yield from _calls(context, module, rule)
            yield from _references(context, module, rule, fine)
            yield from _membership_values(module, rule)
            yield from _with(module, rule)


def _calls(context: Context, module: Module, rule: Rule) -> Iterator[Problem]:
    found = rule.survey()
    for body in found.of("Call"):
        yield from _call(context, module, body)
    for body in found.of("RefDot"):
        if cast("list[str]", body["field"])[1] in KEYWORDS:
            yield _keyword(module, body)


def _references(
    context: Context, module: Module, rule: Rule, fine: set[tuple[str, tuple[str | None, ...]]]
) -> Iterator[Problem]:
    called = {id(b) for body in rule.survey().of("Call") for _, b in walk(body["fcn"])}
    for node, ref in rule.references():
        if (ref.root, ref.parts) in fine or id(kind_of(node)[1]) in called:
            continue
        problems = list(_reference(context, module, node))
        yield from problems
        if not problems:
            fine.add((ref.root, ref.parts))


def called_path(module: Module, call: Node) -> tuple[str | None, ...]:
    """The full path of the function that is called, imports put in for their aliases."""
    ref = ref_of(cast("Node", call["fcn"]))
    return path_of(module, ref.root, ref.parts) if ref else (None,)


def _reference(context: Context, module: Module, node: Node) -> Iterator[Problem]:
    ref = ref_of(node)
    if ref is None or ref.root in context.rules_of(module):
        return
    path = path_of(module, ref.root, ref.parts)
    if path[0] != "data":
        return
    said = module.text_of(node)
    if path[:2] == ("data", "fumehood"):
        yield from _library(module, path, ref.start, said)
    elif path[:2] == ("data", "policies"):
        yield from _other_policy(context, module, path, ref.start, said)
    elif not _exists(context, path[1:]):
        yield module.problem(
            ref.start,
            f"`{said}`: no data document of this bundle has that",
            "Put it into a data.json beside the policies; other data is not there when calls are decided.",
        )


def _library(module: Module, path: tuple[str | None, ...], start: int, said: str) -> Iterator[Problem]:
    if path[:3] != _CALL or len(path) < 4:
        yield module.problem(start, f"`{said}` may not be used", "Use the names of data.fumehood.call.")
        return
    name = path[3]
    if name in CALL_FUNCTIONS:
        yield module.problem(start, f"`call.{name}` is a function", f"Call it: call.{name}(…).")
    elif name not in CALL_VALUES:
        known = CALL_VALUES | set(CALL_FUNCTIONS)
        hint = nearest(name, known) if name else ""
        yield module.problem(
            start,
            f"`{said}`: data.fumehood.call has no such name{hint}",
            f"It has {', '.join(sorted(known))}.",
        )


def _other_policy(
    context: Context, module: Module, path: tuple[str | None, ...], start: int, said: str
) -> Iterator[Problem]:
    if len(path) < 4 or None in path[:4]:
        yield module.problem(
            start,
            f"`{said}` reads whole packages, tests and helpers included",
            "Name one rule of one package.",
        )
        return
    package = context.packages.get(f"policies.{path[2]}")
    if package is None or path[3] not in package.rules:
        known = package.rules if package else {}
        yield module.problem(
            start,
            f"`{said}`: there is no such rule in this bundle{nearest(cast('str', path[3]), known)}",
            "Name a rule that exists; what is undefined is silent.",
        )


def _exists(context: Context, path: tuple[str | None, ...]) -> bool:
    if not path or path[0] is None:
        return False
    here: object = context.data
    for part in path:
        if part is None or not isinstance(here, dict | type(context.data)):
            return True  # inside a document anything may be missing, as in the input
        if part not in here:
            return False
        here = here[part]
    return True


def _call(context: Context, module: Module, call: Node) -> Iterator[Problem]:
    params = cast("list[Node]", call["params"])
    name = function_name(call)
    start = start_of(kind_of(cast("Node", call["fcn"]))[1])
    path = called_path(module, call)
    if path[:3] == _CALL and len(path) == 4:
        yield from _library_call(module, name, str(path[3]), len(params), start)
        return
    rules = context.rules_of(module)
    if path[:2] == ("data", "policies") and len(path) == 4:
        package = context.packages.get(f"policies.{path[2]}")
        rules, name = (package.rules if package else {}), str(path[3])
    if name in rules:
        yield from _own_call(module, name, rules[name], len(params), start)
    else:
        yield from _builtin(module, name, params, start)


def _library_call(module: Module, said: str, name: str, given: int, start: int) -> Iterator[Problem]:
    wanted = CALL_FUNCTIONS.get(name)
    if wanted is None:
        hint = nearest(name, CALL_FUNCTIONS)
        remedy = f"The functions of data.fumehood.call are {', '.join(sorted(CALL_FUNCTIONS))}."
        yield module.problem(start, f"unknown function `{said}`{hint}", remedy)
    elif given != wanted:
        yield _arity(module, said, wanted, given, start)


def _own_call(
    module: Module, name: str, rules: tuple[tuple[Module, Rule], ...], given: int, start: int
) -> Iterator[Problem]:
    functions = [rule for _, rule in rules if rule.shape == "function" or rule.args]
    if not functions:
        yield module.problem(
            start, f"`{name}` is a rule, not a function", f"Write `{name}` without arguments."
        )
    elif given not in (wanted := len(functions[0].args), wanted + 1):
        yield _arity(module, name, wanted, given, start)


def _builtin(module: Module, name: str, params: list[Node], start: int) -> Iterator[Problem]:
    if why := banned(name):
        yield module.problem(start, f"`{name}` is refused: {why[0]}", why[1])
    elif name not in ARITY:
        yield module.problem(
            start,
            f"unknown function `{name}`{nearest(name, ARITY)}",
            "Define it in this package as `_name(x) := …`, or use a built-in that both engines have.",
        )
    elif len(params) not in (ARITY[name], ARITY[name] + 1):
        yield _arity(module, name, ARITY[name], len(params), start)


def _arity(module: Module, name: str, wanted: int, given: int, start: int) -> Problem:
    noun = "argument" if wanted == 1 else "arguments"
    return module.problem(start, f"`{name}` takes {wanted} {noun}, not {given}", f"Give it {wanted} {noun}.")


def _keyword(module: Module, body: Node) -> Problem:
    name = cast("list[str]", body["field"])[1]
    return module.problem(
        cast("list[dict[str, int]]", body["field"])[0]["start"],
        f"`.{name}` is a keyword, which the engines read differently",
        f'Write ["{name}"].',
    )


def _membership_values(module: Module, rule: Rule) -> Iterator[Problem]:
    """`in` is only safe as a statement of its own: as a value it is false or undefined, by engine."""
    found = rule.survey().of("Membership")
    if not found:
        return
    allowed: set[int] = set()
    for statement in rule.statements():
        kind, body = kind_of(cast("Node", statement["literal"]))
        if kind in ("Expr", "NotExpr"):
            allowed.add(id(kind_of(cast("Node", body["expr"]))[1]))
    for body in found:
        if id(body) not in allowed:
            yield module.problem(
                start_of(body),
                "`in` is used as a value, which the engines read differently where something is undefined",
                "Make it a statement of its own, or a rule: `_is_known if x in {…}`.",
            )


def _with(module: Module, rule: Rule) -> Iterator[Problem]:
    for statement in rule.statements():
        mods = cast("list[Node]", statement.get("with_mods") or [])
        if mods:
            yield module.problem(
                start_of(mods[0]), "`with` is for tests", "Move it to a file whose name ends in _test.rego."
            )
