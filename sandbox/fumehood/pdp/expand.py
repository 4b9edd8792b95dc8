"""Writes policies out for the embedded engine, so that it says what OPA says, and fast.

Imports: `call.tool` becomes `data.fumehood.call.tool`. It is what the import means, and what OPA does;
regorus instead evaluates every rule of an imported package when one of them is named, which is twice
the price of a decision. The gate has refused every variable that hides an import, so a name that is an
alias is always the import. Built-ins that regorus does differently become functions of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from fumehood.pdp.syntax import Module, Node, kind_of, start_of, walk

__all__ = ["REPLACED", "expanded"]

#: built-in → what stands for it; see lib/embedded
REPLACED: Mapping[str, str] = {
    "count": "data.fumehood.embedded.size",
    "lower": "data.fumehood.embedded.lowered",
}


def expanded(module: Module) -> str:
    """The text of *module* for the embedded engine; lines keep their numbers."""
    text = module.encoded
    for start, name, instead in sorted(set(_places(module)), reverse=True):
        text = text[:start] + instead.encode() + text[start + len(name.encode()) :]
    return text.decode()


def _places(module: Module) -> Iterator[tuple[int, str, str]]:
    full = {i.alias: ".".join(i.path) for i in module.imports if i.path[:1] == ("data",)}
    for kind, body in walk([rule.parts() for rule in module.rules]):
        if kind == "Var" and body["value"] in full:
            name = cast("str", body["value"])
            yield start_of(body), name, full[name]
        elif kind == "Call":
            called, function = kind_of(cast("Node", body["fcn"]))
            if called == "Var" and function["value"] in REPLACED:
                name = cast("str", function["value"])
                yield start_of(function), name, REPLACED[name]
