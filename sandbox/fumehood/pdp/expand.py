"""Writes policies out for the embedded engine, so that it says what OPA says, and fast.

Imports: `call.tool` becomes `data.fumehood.call.tool`. It is what the import means, and what OPA does;
regorus instead evaluates every rule of an imported package when one of them is named, which is twice
the price of a decision. The gate has refused every variable that hides an import, so a name that is an
alias is always the import. Built-ins that regorus does differently become functions of ours.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from fumehood.pdp.near import replacements
from fumehood.pdp.syntax import Module, Node, kind_of

__all__ = ["REPLACED", "Replacement", "edits", "expanded"]

Replacement = tuple[int, int, str]  # from byte, to byte, the text instead

#: built-in → what stands for it; see lib/embedded
_COLLECTION = "data.fumehood.embedded.collection"
REPLACED: Mapping[str, str] = {
    "count": "data.fumehood.embedded.size",
    "lower": "data.fumehood.embedded.lowered",
}


def expanded(
    module: Module, more: Iterable[Replacement] = (), *, instead: Sequence[Replacement] = (), near: str = ""
) -> str:
    """The text of *module* for the embedded engine; lines keep their numbers. *more* is replaced as well.

    *instead*, in order, are whole parts of the text: nothing inside of them is replaced. *near*: how the
    names of rules begin that stand for values of `data.fumehood.call`, see near.py.
    """
    starts = [start for start, _, _ in instead]

    def is_inside(one: Replacement) -> bool:
        at = bisect_right(starts, one[0]) - 1
        return at >= 0 and one[0] < instead[at][1]

    found = (one for one in {*edits(module, near=near), *more} if not is_inside(one))
    parts: list[bytes] = []
    at = 0
    for start, end, text in sorted([*found, *instead]):
        parts += (module.encoded[at:start], text.encode())
        at = end
    return b"".join([*parts, module.encoded[at:]]).decode()


def edits(module: Module, *, near: str = "") -> set[Replacement]:
    """What is written otherwise for the embedded engine; *near* as for `expanded`."""
    short = {one[0]: one for one in replacements(module, near)} if near else {}
    return {*(short.get(one[0], one) for one in _names(module)), *_collections(module)}


def _names(module: Module) -> Iterator[Replacement]:
    """What stands for imports and built-ins: (start, end, text)."""
    full = {i.alias: ".".join(i.path) for i in module.imports if i.path[:1] == ("data",)}
    for kind, body in (found for rule in module.rules for found in rule.expressions()):
        if kind == "Var" and body["value"] in full:
            start, end = module.span_of({kind: body})
            yield start, end, full[str(body["value"])]
        elif kind == "Call":
            called, function = kind_of(cast("Node", body["fcn"]))
            if called == "Var" and function["value"] in REPLACED:
                start, end = module.span_of({called: function})
                yield start, end, REPLACED[str(function["value"])]


def _collections(module: Module) -> Iterator[Replacement]:
    """`some x in y`: where y is no collection OPA finds nothing, regorus raises."""
    for statement in (found for rule in module.rules for found in rule.statements()):
        kind, body = kind_of(cast("Node", statement["literal"]))
        if kind == "SomeIn":
            collection = cast("Node", body["collection"])
            if kind_of(collection)[0] in ("Var", "RefDot", "RefBrack", "Call"):
                start, end = module.span_of(collection)
                yield start, start, f"{_COLLECTION}("
                yield end, end, ")"
