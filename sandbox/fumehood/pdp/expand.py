"""Writes imports out for the embedded engine: `call.tool` becomes `data.fumehood.call.tool`.

It is what the import means, and what OPA does. regorus instead evaluates every rule of an imported
package when one of them is named, which is twice the price of a decision. The gate has refused every
variable that hides an import, so a name that is an alias is always the import.
"""

from __future__ import annotations

from typing import cast

from fumehood.pdp.syntax import Module, start_of, walk

__all__ = ["expanded"]

_MAX_COLUMNS = 1000  # regorus refuses longer lines


def expanded(module: Module) -> str:
    """The text of *module* with its imports of data written out; lines keep their numbers."""
    full = {i.alias: ".".join(i.path).encode() for i in module.imports if i.path[:1] == ("data",)}
    places: list[tuple[int, bytes, bytes]] = []
    for kind, body in walk([rule.parts() for rule in module.rules]):
        name = cast("str", body["value"]) if kind == "Var" else ""
        if name in full:
            places.append((start_of(body), name.encode(), full[name]))
    text = module.encoded
    for start, alias, path in sorted(set(places), reverse=True):
        text = text[:start] + path + text[start + len(alias) :]
    long = any(len(line) > _MAX_COLUMNS for line in text.split(b"\n"))
    return module.file.text if long else text.decode()
