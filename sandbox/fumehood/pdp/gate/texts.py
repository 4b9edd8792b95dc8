"""Patterns, formats and numbers as they are written: only what both engines read alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import cast

from fumehood.errors import PdpError, Problem
from fumehood.pdp.engine import Engine
from fumehood.pdp.gate.context import Context, path_of
from fumehood.pdp.gate.scope import function_name
from fumehood.pdp.syntax import Module, Node, Rule, kind_of, ref_of, start_of, walk

__all__ = ["check_texts"]

_VERB = re.compile(r"%(?:%|v)")
_VALUES = ("Set", "Object", "Array", "SetCompr", "ObjectCompr", "ArrayCompr", "String", "RawString", "Number")
_LITERALS = (*_VALUES, "RawString", "Bool", "Null")
_TEXTS = ("String", "RawString")
_PATTERN_AT = {
    "regex.match": 0,
    "regex.find_n": 0,
    "regex.find_all_string_submatch_n": 0,
    "regex.replace": 1,
}

# Unicode-aware in one engine, ASCII in the other; set operations in one, plain characters in the other.
_CLASSES = re.compile(r"(?<!\\)(?:\\\\)*\\[wWdDsSbB]")
_SET_OPERATIONS = re.compile(r"&&|--|~~|\[[^\]]*\[(?!:)")
_WORD = re.compile(r"[A-Za-z_@ -]*[A-Za-z_@ ]{2}")
_FLAGS = re.compile(r"\(\?(?!P?<|:|[imsU]+(?:-[imsU]+)?[:)])")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_MAX_REPEAT = 1000
_EXPONENT = re.compile(rb"-?[0-9.]+[eE]")


def check_texts(context: Context) -> Iterator[Problem]:
    for module, rule in context.each_rule():
        yield from _ambiguous(module, rule)
        found = rule.survey()
        if calls := found.of("Call"):
            harmless = _in_detail(rule) | _searched(calls)
            for body in calls:
                if function_name(body) == "sprintf" and id(body) not in harmless:
                    yield _printed(module, body)
                yield from _call(module, body)
        for body in found.of("Number"):
            if _EXPONENT.match(module.encoded, start_of(body)):
                message = "a number with an exponent is printed differently by the engines"
                yield module.problem(start_of(body), message, "Write its digits out.")


def _ambiguous(module: Module, rule: Rule) -> Iterator[Problem]:
    """`{ a | b == c }` is a set comprehension to OPA; a value that stands alone says nothing."""
    for statement in rule.statements():
        kind, body = kind_of(cast("Node", statement["literal"]))
        if kind != "Expr":
            continue
        inner_kind, inner = kind_of(cast("Node", body["expr"]))
        if inner_kind in _VALUES:
            message = "this value stands alone, so it is always true"
            yield module.problem(start_of(inner), message, "Compare it with something.")
        elif inner_kind == "AssignExpr" and _never_matches(inner):
            message = "this pattern can never match that value"
            yield module.problem(
                start_of(inner), message, "Match a value of the pattern's own kind and length."
            )
        elif _begins_with_union({inner_kind: inner}):
            message = "a statement that begins with `a | b` is a set comprehension to OPA"
            yield module.problem(start_of(inner), message, "Give it a name first: `x := a | b`.")


def _never_matches(body: Node) -> bool:
    """A list or object pattern against a written-out value of another kind or length."""
    sides = [kind_of(cast("Node", body[side])) for side in ("lhs", "rhs")]
    for (kind, pattern), (other, value) in (sides, sides[::-1]):
        if kind not in ("Array", "Object") or other not in _LITERALS:
            continue
        is_same = other == kind or other == f"{kind}Compr"
        size = "items" if kind == "Array" else "fields"
        if not is_same or (
            other == kind
            and len(cast("list[object]", pattern[size])) != len(cast("list[object]", value[size]))
        ):
            return True
    return False


def _begins_with_union(node: Node) -> bool:
    kind, body = kind_of(node)
    while kind in ("BoolExpr", "BinExpr", "ArithExpr", "Membership"):
        if body.get("op") == "Union":
            return True
        kind, body = kind_of(cast("Node", body["value"] if kind == "Membership" else body["lhs"]))
    return False


def _call(module: Module, call: Node) -> Iterator[Problem]:
    name, params = function_name(call), cast("list[Node]", call["params"])
    if name == "sprintf" and len(params) > 1:
        yield from _format(module, params)
    elif name in _PATTERN_AT and len(params) > _PATTERN_AT[name]:
        yield from _pattern(module, params[_PATTERN_AT[name]])
    elif name == "time.parse_rfc3339_ns" and params:
        yield from _time(module, params[0])
    elif name == "walk" and params:
        yield from _walk(module, params[0])


def _in_detail(rule: Rule) -> set[int]:
    """The calls that stand in the `detail` of an item: what only people read."""
    if rule.key is None or kind_of(rule.key)[0] != "Object":
        return set()
    fields = cast("list[tuple[object, Node, Node]]", kind_of(rule.key)[1]["fields"])
    details = [value for _, name, value in fields if kind_of(name)[1].get("value") == "detail"]
    return {id(body) for kind, body in walk(details) if kind == "Call"}


def _searched(calls: Sequence[Node]) -> set[int]:
    """`contains(sprintf("%v", [x]), "password")`: words that no number, and no empty set, has a part of."""
    found: set[int] = set()
    for body in calls:
        if function_name(body) == "contains":
            params = [kind_of(param) for param in cast("list[Node]", body["params"])]
            if len(params) == 2 and params[0][0] == "Call" and params[1][0] in _TEXTS:
                word = cast("str", params[1][1]["value"])
                if _WORD.fullmatch(word) and word not in "set()":
                    found.add(id(params[0][1]))
    return found


def _printed(module: Module, call: Node) -> Problem:
    return module.problem(
        start_of(call),
        "`sprintf` writes some numbers differently in the engines, so its text must decide nothing",
        'Use it in `detail`, or to look for a word: contains(sprintf("%v", [x]), "word"); elsewhere concat, '
        "and format_int(n, 10) for a number.",
    )


def _format(module: Module, params: list[Node]) -> Iterator[Problem]:
    kind, body = kind_of(params[0])
    list_kind, items = kind_of(params[1])
    if kind not in _TEXTS or "%" in _VERB.sub("", cast("str", body["value"])):
        message = "`sprintf` is the same in both engines only with a constant format of %v"
        yield module.problem(start_of(body), message, 'Write sprintf("… %v …", [value]).')
        return
    wanted = _VERB.findall(cast("str", body["value"])).count("%v")
    if list_kind != "Array" or len(cast("list[Node]", items["items"])) != wanted:
        message = f"this `sprintf` needs a list of {wanted} values, written out"
        yield module.problem(
            start_of(body), message, 'Write sprintf("… %v …", [value]), one value for each %v.'
        )


def _pattern(module: Module, node: Node) -> Iterator[Problem]:
    kind, body = kind_of(node)
    if kind not in _TEXTS:
        message = "a pattern must be a constant text: built from input, it could mean anything"
        yield module.problem(
            start_of(body), message, "Write the pattern out, or use startswith, contains or ==."
        )
        return
    pattern = cast("str", body["value"])
    why = _objection(pattern)
    if why:
        yield module.problem(
            start_of(body), f"the pattern is not read alike by both engines: {why[0]}", why[1]
        )


def _objection(pattern: str) -> tuple[str, str] | None:
    if found := _CLASSES.search(pattern):
        return (
            f"{found[0][-2:]} is ASCII in one and Unicode in the other",
            "Write the class out: [0-9], [0-9A-Za-z_].",
        )
    if _SET_OPERATIONS.search(pattern):
        return "it has a set operation or a class inside a class", "Escape the characters: \\[, \\-, \\&."
    if _FLAGS.search(pattern):
        return "it has a group that only one of them knows", "Use (?i), (?s), (?m), (?:…) or (?P<name>…)."
    if any(int(number or 0) > _MAX_REPEAT for pair in _REPEAT.findall(pattern) for number in pair):
        return f"it repeats more than {_MAX_REPEAT} times", "Compare count(text) instead."
    return None if _compiles(pattern) else ("it is not valid", "Use the RE2 syntax.")


def _compiles(pattern: str) -> bool:
    engine = Engine([("pattern.rego", "package pattern\n\nvalid := regex.is_valid(input)\n")])
    try:
        return engine.evaluate("data.pattern.valid", json.dumps(pattern)) == "true"
    except PdpError:
        return False


def _time(module: Module, node: Node) -> Iterator[Problem]:
    ref = ref_of(node)
    if ref is None or path_of(module, ref.root, ref.parts) != ("input", "context", "time"):
        message = "time.parse_rfc3339_ns is the same in both engines only for input.context.time"
        yield module.problem(
            start_of(kind_of(node)[1]), message, "Compare other times as text, or as numbers."
        )


def _walk(module: Module, node: Node) -> Iterator[Problem]:
    ref = ref_of(node)
    path = path_of(module, ref.root, ref.parts) if ref else ()
    if path != ("data", "fumehood", "call", "args") and kind_of(node)[0] not in ("Array", "Object"):
        said = module.text_of(node)
        message = f"`walk` over `{said}`, which may be a single value: one engine then finds nothing"
        yield module.problem(start_of(kind_of(node)[1]), message, f"Walk call.args, or [{said}].")
