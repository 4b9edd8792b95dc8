"""Packages, imports, names and shapes of rules: a typo must not make a policy fall silent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fumehood.errors import Problem
from fumehood.pdp.combine import PUBLIC
from fumehood.pdp.gate.context import Context, nearest
from fumehood.pdp.syntax import Import, Module, Rule, kind_of

__all__ = ["KEYWORDS", "check_names"]

KEYWORDS = frozenset(
    {"as", "contains", "default", "else", "every", "false", "if", "import", "in", "input", "data"}
    | {"not", "null", "package", "some", "true", "with"}
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BOOLEANS = frozenset({"permit", "permit_connect"})


def check_names(context: Context) -> Iterator[Problem]:
    for module in context.modules:
        yield from _package(module)
        for imported in module.imports:
            yield from _import(context, module, imported)
        for rule in module.rules:
            yield from _rule(module, rule)
    yield from _one_source_each(context)


def _package(module: Module) -> Iterator[Problem]:
    path = module.package
    if len(path) == 2 and path[0] == "policies" and _NAME.match(path[1]) and path[1] not in KEYWORDS:
        return
    if path[:1] == ("fumehood",):
        message, remedy = f"package {module.name} is Fumehood's own", "Write `package policies.<name>`."
    elif path[:1] == ("policies",) and len(path) > 2:
        message = f"package {module.name} is nested below policies.{path[1]}, where nobody asks it"
        remedy = f"Write `package policies.{'_'.join(path[1:])}`."
    else:
        message = f"package {module.name or '?'} is not policies.<name>, so nobody asks it"
        last = re.sub(r"\W", "_", path[-1]) if path else "mine"
        remedy = f"Write `package policies.{last if _NAME.match(last) and last not in KEYWORDS else 'mine'}`."
    yield module.problem(module.package_start, message, remedy)


def _one_source_each(context: Context) -> Iterator[Problem]:
    first: dict[str, Module] = {}
    for module in context.modules:
        known = first.setdefault(module.name, module)
        if known.file.source != module.file.source:
            yield module.problem(
                module.package_start,
                f"package {module.name} comes from two sources; the other is {known.file.path}",
                "Rename one of them: two authors' rules must not join by accident.",
            )


def _import(context: Context, module: Module, imported: Import) -> Iterator[Problem]:
    path = imported.path
    if path[:2] == ("rego", "v1") or path[:2] == ("future", "keywords") or path[:1] == ("input",):
        return
    if path == ("data", "fumehood", "call") or (
        path[:1] == ("data",) and len(path) > 1 and path[1] in context.data
    ):
        return
    if path[:2] == ("data", "policies") and len(path) == 4:
        return
    yield module.problem(
        imported.start,
        f"`import {'.'.join(path)}` names nothing that a policy may use",
        "Import data.fumehood.call, a rule data.policies.<name>.<rule>, or a data document of this bundle.",
    )


def _rule(module: Module, rule: Rule) -> Iterator[Problem]:
    if rule.name.startswith("_"):
        return
    if rule.name not in PUBLIC:
        yield _stranger(module, rule)
    elif rule.name in _BOOLEANS:
        yield from _boolean(module, rule)
    elif rule.shape != "set" or rule.key is None:
        yield module.problem(
            rule.start,
            f"`{rule.name}` is a set, and this is not one",
            f"Write `{rule.name} contains {_EXAMPLES[rule.name]} if {{ … }}`.",
        )


def _stranger(module: Module, rule: Rule) -> Problem:
    if rule.name.startswith(("test_", "todo_test_")):
        remedy = "Tests stand in files whose names end in _test.rego."
        return module.problem(rule.start, f"`{rule.name}` is a test in a file that decides", remedy)
    return module.problem(
        rule.start,
        f"`{rule.name}` is not a rule that anybody asks for{nearest(rule.name, PUBLIC)}",
        f"The rules are {', '.join(sorted(PUBLIC))}; write `_{rule.name}` for a rule of your own.",
    )


def _boolean(module: Module, rule: Rule) -> Iterator[Problem]:
    if rule.shape not in ("value", "default"):
        message = f"`{rule.name}` is true or undefined, and this is not"
        yield module.problem(rule.start, message, f"Write `{rule.name} if {{ … }}`.")
        return
    given = [rule.value, *(body.value for body in rule.bodies)]
    values = [kind_of(node) for node in given if node is not None]
    allowed = (False,) if rule.shape == "default" else (True,)
    for kind, body in values:
        if kind != "Bool" or body["value"] not in allowed:
            message = f"`{rule.name}` may only be {'false' if rule.shape == 'default' else 'true'} here"
            remedy = (
                f"Write `default {rule.name} := false`, or leave it out."
                if rule.shape == "default"
                else f"Write `{rule.name} if {{ … }}`; what must not happen is a deny."
            )
            yield module.problem(rule.start, message, remedy)


_EXAMPLES = {
    "deny": '{"reason": "…"}',
    "deny_connect": '{"reason": "…"}',
    "withhold": '{"reason": "…"}',
    "approve": '{"reason": "…", "risk": "high"}',
    "approve_connect": '{"reason": "…", "risk": "high"}',
    "confine": '"python-offline"',
    "limit": '{"key": call.tool, "max": 20, "per_s": 3600}',
    "redact": '{"path": "/…"}',
    "label": '"untrusted"',
}
