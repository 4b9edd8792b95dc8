"""What would make a condition hold that does not, in words, from its form and its values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from fumehood.pdp.gate.context import path_of
from fumehood.pdp.syntax import Module, Node, kind_of, ref_of
from fumehood.workbench.explanation import Value

__all__ = ["hint"]

_COMPARED = {
    "Eq": "be equal to",
    "Ne": "not be equal to",
    "Lt": "be less than",
    "Le": "be at most",
    "Gt": "be more than",
    "Ge": "be at least",
}
_MIRRORED = {"Lt": "Gt", "Le": "Ge", "Gt": "Lt", "Ge": "Le"}
_TRUSTED = "the argument must be found in the user's words (the session's prompt) or in the tool's defaults"
_OURS = {
    "trusted": _TRUSTED,
    "origin": "where the argument was found decides: see context.provenance of the input",
    "path": 'the argument must be an absolute path; any other is "unparseable"',
    "url": 'the argument must be a URL that has only one reading; any other is all "unparseable"',
    "argv": 'the argument must be one simple command; anything else is ["unparseable"]',
    "file": 'the argument must be an absolute path; any other is all "unparseable"',
    "inside": "the path must lie there as it is written, and where it leads to on this host",
    "shell": 'the argument must be a shell text that can be parsed; any other is all "unparseable"',
    "sql": 'the argument must be SQL that can be parsed; any other is all "unparseable"',
}
_TEXTS = {  # which parameter is looked at, what it must do, and which one says with what
    "startswith": (0, "begin with", 1),
    "endswith": (0, "end with", 1),
    "contains": (0, "contain", 1),
    "regex.match": (1, "match", 0),
}
_TYPES = {
    "is_number": "a number",
    "is_string": "a text",
    "is_boolean": "true or false",
    "is_array": "a list",
    "is_object": "an object",
    "is_null": "null",
    "is_set": "a set",
}


def hint(module: Module, statement: Node, values: Sequence[Value]) -> str:
    """What would make *statement* hold, "" where nothing useful is known."""
    missing = [v.text for v in values if v.is_known and not v.values]
    kind, body = kind_of(cast("Node", statement["literal"]))
    if kind == "NotExpr":
        return f"`{module.text_of(cast('Node', body['expr']))}` must not hold"
    if missing and kind == "Expr" and missing[-1] == module.text_of(cast("Node", body["expr"])):
        return f"`{missing[-1]}` must hold" + (": see below" if missing[-1].startswith("_") else "")
    if missing and kind != "Every":
        return f"`{missing[-1]}` is undefined: there is no such value here"
    if kind == "SomeIn":
        return f"there must be something in `{module.text_of(cast('Node', body['collection']))}`"
    if kind == "Every":
        return "the condition must hold for every element"
    return _expression(module, cast("Node", body["expr"])) if kind == "Expr" else ""


def _expression(module: Module, node: Node) -> str:
    kind, body = kind_of(node)
    if kind == "BoolExpr":
        return _comparison(module, body)
    if kind == "Membership":
        return f"{_text(module, body['value'])} must be one of {_text(module, body['collection'])}"
    if kind == "Call":
        return _call(module, body)
    if kind == "AssignExpr":
        return f"{_text(module, body['rhs'])} must fit {_text(module, body['lhs'])}"
    return f"{_text(module, node)} must be defined and not false"


def _comparison(module: Module, body: Node) -> str:
    left, right, op = cast("Node", body["lhs"]), cast("Node", body["rhs"]), cast("str", body["op"])
    if kind_of(left)[0] in ("Number", "String", "RawString", "Bool", "Null"):  # 3 < x
        left, right, op = right, left, _MIRRORED.get(op, op)
    return f"{_text(module, left)} must {_COMPARED[op]} {_text(module, right)}{_ours(module, left)}"


def _call(module: Module, body: Node) -> str:
    ref = ref_of(cast("Node", body["fcn"]))
    params = cast("list[Node]", body["params"])
    if ref is not None and not ref.parts and ref.root in _TYPES and params:
        return f"{_text(module, params[0])} must be {_TYPES[ref.root]}"
    name = ".".join([ref.root, *(part or "" for part in ref.parts)]) if ref else ""
    if name in _TEXTS and len(params) == 2:
        looked_at, verb, other = _TEXTS[name]
        return f"{_text(module, params[looked_at])} must {verb} {_text(module, params[other])}"
    return _ours(module, {"Call": body}).removeprefix(": ") or f"{_text(module, {'Call': body})} must be true"


def _ours(module: Module, node: Node) -> str:
    """What a function of data.fumehood.call needs, after a colon; "" for anything else."""
    kind, body = kind_of(node)
    while kind in ("RefDot", "RefBrack"):
        kind, body = kind_of(cast("Node", body["refr"]))
    ref = ref_of(cast("Node", body["fcn"])) if kind == "Call" else None
    path = path_of(module, ref.root, ref.parts) if ref else ()
    said = _OURS.get(path[3] or "") if path[:3] == ("data", "fumehood", "call") and len(path) == 4 else None
    return f": {said}" if said else ""


def _text(module: Module, node: object) -> str:
    kind, body = kind_of(cast("Node", node))
    if kind in ("String", "RawString"):
        return json.dumps(body["value"], ensure_ascii=False)
    if kind == "Object":
        return "the object written there"
    return module.text_of(cast("Node", node))
