"""Writes policies out for the embedded engine, so that it says what OPA says, and fast.

Imports: `call.tool` becomes `data.fumehood.call.tool`. It is what the import means, and what OPA does;
regorus instead evaluates every rule of an imported package when one of them is named, which is twice
the price of a decision. The gate has refused every variable that hides an import, so a name that is an
alias is always the import. Built-ins that regorus does differently become functions of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from fumehood.pdp.syntax import Module, Node, kind_of, statements_of, walk

__all__ = ["REPLACED", "edits", "expanded"]

#: built-in → what stands for it; see lib/embedded
_COLLECTION = "data.fumehood.embedded.collection"
REPLACED: Mapping[str, str] = {
    "count": "data.fumehood.embedded.size",
    "lower": "data.fumehood.embedded.lowered",
}


def expanded(module: Module) -> str:
    """The text of *module* for the embedded engine; lines keep their numbers."""
    text = module.encoded
    for start, end, instead in edits(module):
        text = text[:start] + instead.encode() + text[end:]
    return text.decode()


def edits(module: Module) -> list[tuple[int, int, str]]:
    """What is written otherwise, the last place first: (start, end, text), in bytes."""
    return sorted({*_names(module), *_collections(module)}, reverse=True)


def _names(module: Module) -> Iterator[tuple[int, int, str]]:
    """What stands for imports and built-ins: (start, end, text)."""
    full = {i.alias: ".".join(i.path) for i in module.imports if i.path[:1] == ("data",)}
    for kind, body in walk([rule.parts() for rule in module.rules]):
        if kind == "Var" and body["value"] in full:
            start, end = module.span_of({kind: body})
            yield start, end, full[str(body["value"])]
        elif kind == "Call":
            called, function = kind_of(cast("Node", body["fcn"]))
            if called == "Var" and function["value"] in REPLACED:
                start, end = module.span_of({called: function})
                yield start, end, REPLACED[str(function["value"])]


def _collections(module: Module) -> Iterator[tuple[int, int, str]]:
    """`some x in y`: where y is no collection OPA finds nothing, regorus raises."""
    for statement in statements_of([rule.parts() for rule in module.rules]):
        kind, body = kind_of(cast("Node", statement["literal"]))
        if kind == "SomeIn":
            collection = cast("Node", body["collection"])
            if kind_of(collection)[0] in ("Var", "RefDot", "RefBrack", "Call"):
                start, end = module.span_of(collection)
                yield start, start, f"{_COLLECTION}("
                yield end, end, ")"
