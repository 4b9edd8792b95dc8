"""The values of `data.fumehood.call` that most rules begin with, once more, beside the entry points.

Where one package names another the embedded engine looks at every file, each time that it decides: with two
hundred files that costs more than the rules. Definitions that stand alone therefore find `call.tool` in their
own package, under a name that no author has used. A test holds these texts equal to lib/call.rego.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from fumehood.pdp.syntax import Module, kind_of, start_of

__all__ = ["CALL", "VALUES", "definitions", "replacements", "unused_prefix"]

CALL = ("data", "fumehood", "call")

# name → how it is defined there
VALUES: Mapping[str, str] = {
    "tool": 'default tool := ""\n\ntool := input.resource.id if is_string(input.resource.id)',
    "kind": 'default kind := ""\n\nkind := input.resource.properties.annotations.kind',
    "runs": 'default runs := ""\n\nruns := input.resource.properties.runs',
    "args": "default args := {}\n\n"
    "args := input.action.properties.args if is_object(input.action.properties.args)",
    "is_error": "default is_error := false\n\nis_error := input.action.properties.is_error",
}


def unused_prefix(modules: Sequence[Module]) -> str:
    """The beginning of names that stand nowhere in *modules*."""
    prefix = "call__"
    while any(prefix in module.file.text for module in modules):
        prefix += "_"
    return prefix


def definitions(prefix: str) -> list[str]:
    """The rules, under names that begin with *prefix*."""
    return [text.replace(f"{name} :=", f"{prefix}{name} :=") for name, text in VALUES.items()]


def replacements(module: Module, prefix: str) -> Iterator[tuple[int, int, str]]:
    """Where *module* names these values through an import: (start, end, the name instead), in bytes."""
    aliases = {imported.alias for imported in module.imports if imported.path == CALL}
    for body in (found for rule in module.rules for found in rule.survey().of("RefDot")):
        kind, root = kind_of(cast("dict[str, object]", body["refr"]))
        place, name = cast("tuple[dict[str, int], str]", body["field"])
        if kind == "Var" and root["value"] in aliases and name in VALUES:
            start, end = start_of(root), place["end"]
            if b"\n" not in module.encoded[start:end]:
                yield start, end, prefix + name
