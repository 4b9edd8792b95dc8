"""Names that nobody uses, and names that hide others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

from fumehood.pdp.gate.builtins import ARITY
from fumehood.pdp.gate.context import Context, path_of
from fumehood.pdp.gate.scope import declared, declares, nested_queries, pattern_names
from fumehood.pdp.syntax import Body, Module, Node, Rule, kind_of, references, walk
from fumehood.workbench.lint.findings import Finding, warning
from fumehood.workbench.reach import bodies_of, whole

__all__ = ["check_names_in_use"]

Pairs = list[tuple[str, int]]
_ROOTS = frozenset(name.partition(".")[0] for name in ARITY)


def check_names_in_use(context: Context, tests: Sequence[Module]) -> Iterator[Finding]:
    for module in (*context.modules, *tests):
        yield from _imports(module)
        names = _names_of(context, module)
        for rule in module.rules:
            for body in bodies_of(rule):
                yield from _variables(module, rule, body)
                yield from _hiding(module, rule, body, names)
    yield from _helpers(context, tests)


def _names_of(context: Context, module: Module) -> frozenset[str]:
    package = context.packages.get(module.name)
    return frozenset(package.rules if package else ()) | {rule.name for rule in module.rules}


def _imports(module: Module) -> Iterator[Finding]:
    used = {body["value"] for kind, body in walk([rule.parts() for rule in module.rules]) if kind == "Var"}
    for imported in module.imports:
        if imported.path[:1] in (("data",), ("input",)) and imported.alias not in used:
            message = f"`import {'.'.join(imported.path)}` is not used"
            yield warning("unused-import", module.problem(imported.start, message, "Delete the line."))


def _helpers(context: Context, tests: Sequence[Module]) -> Iterator[Finding]:
    used: set[tuple[str, str]] = set()
    for module in (*context.modules, *tests):
        for rule in module.rules:
            used |= {key for key in _named(module, rule) if key != (module.name, rule.name)}
    seen: set[tuple[str, str]] = set()
    for module, rule in context.each_rule():
        key = (module.name, rule.name)
        if rule.name.startswith("_") and key not in used | seen:
            seen.add(key)
            message = f"`{rule.name}` is never used"
            yield warning("unused-rule", module.problem(rule.start, message, "Use it, or delete it."))


def _named(module: Module, rule: Rule) -> Iterator[tuple[str, str]]:
    """The rules that *rule* names, as (package, name)."""
    for _, ref in references(rule.parts()):
        path = path_of(module, ref.root, ref.parts)
        yield module.name, ref.root
        if path[:2] == ("data", "policies") and len(path) > 3:
            yield f"policies.{path[2]}", str(path[3])
    for kind, body in walk(rule.parts()):
        if kind == "Var":
            yield module.name, cast("str", body["value"])


def _variables(module: Module, rule: Rule, body: Body) -> Iterator[Finding]:
    """Variables that get a value, and are never looked at again."""
    parts = [rule.args, *whole(rule, body)]
    uses = Counter(str(node["value"]) for kind, node in walk(parts) if kind == "Var")
    given = [pair for arg in rule.args for pair in pattern_names(arg)]
    is_shared = len(rule.bodies) > 1  # an argument may be used in another body
    for name, start in [*([] if is_shared else given), *_given(body.statements, module)]:
        if name != "_" and uses[name] < 2:
            message = f"`{name}` is not used"
            yield warning("unused-variable", module.problem(start, message, "Use it, or write `_`."))


def _given(statements: Sequence[Node], module: Module) -> Pairs:
    """The variables that a query declares, those of queries within it included."""
    found: Pairs = []
    for statement in statements:
        found += declares(statement)
        for query, _ in nested_queries(statement, module):
            found += _given(query, module)
    return found


def _hiding(module: Module, rule: Rule, body: Body, rules: frozenset[str]) -> Iterator[Finding]:
    arguments = [pair for arg in rule.args for pair in pattern_names(arg)]
    yield from _hides(module, arguments, rules, frozenset())
    yield from _hidden_in(module, body.statements, rules, frozenset(name for name, _ in arguments))


def _hidden_in(
    module: Module, statements: Sequence[Node], rules: frozenset[str], outer: frozenset[str]
) -> Iterator[Finding]:
    here: Pairs = []
    for statement in statements:
        kind, body = kind_of(cast("Node", statement["literal"]))
        here += declares(statement)
        if kind == "Every":
            yield from _hides(module, declared([body["key"], body["value"]], module), rules, outer)
    yield from _hides(module, here, rules, outer)
    inside = outer | {name for name, _ in here}
    for statement in statements:
        for query, names in nested_queries(statement, module):
            yield from _hidden_in(module, query, rules, inside | names)


def _hides(module: Module, pairs: Pairs, rules: frozenset[str], outer: frozenset[str]) -> Iterator[Finding]:
    for name, start in pairs:
        what = "a rule of this package" if name in rules else "an outer variable" if name in outer else ""
        what = what or ("a built-in" if name in _ROOTS else "")
        if what:
            message = f"the variable `{name}` hides {what} of the same name"
            yield warning("shadowing", module.problem(start, message, "Give the variable another name."))
