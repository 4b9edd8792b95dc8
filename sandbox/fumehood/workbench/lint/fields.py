"""Fields of the policy input that no guard ever sends: a rule that reads one is silent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import cast

from fumehood.canonical import JSON
from fumehood.pdp.document import PolicyDocument
from fumehood.pdp.gate.context import Context, nearest, path_of
from fumehood.pdp.syntax import Module, Ref
from fumehood.workbench.lint.findings import Finding, error

__all__ = ["check_fields"]

Schema = Mapping[str, JSON]


def check_fields(context: Context) -> Iterator[Finding]:
    for module in context.modules:
        for rule in module.rules:
            for _, ref in rule.references():
                if ref.root not in context.rules_of(module):
                    yield from _reference(module, ref)
        for imported in module.imports:
            yield from _path(module, imported.path, imported.start)


def _reference(module: Module, ref: Ref) -> Iterator[Finding]:
    path = path_of(module, ref.root, ref.parts)
    imported = {one.alias: len(one.path) for one in module.imports}
    known = imported.get(ref.root, 1)  # what an import names is told of where it stands
    if path[:1] == ("input",):
        yield from _path(module, path, ref.start, beyond=known)


def _path(module: Module, path: Sequence[str | None], start: int, *, beyond: int = 0) -> Iterator[Finding]:
    if path[:1] != ("input",):
        return
    schemas: list[Schema] = [_schema()]
    for at, name in enumerate(path[1:], 1):
        fields = {field for schema in schemas for field in _fields(schema)}
        closed = schemas and all(map(_is_closed, schemas))
        if name is not None and closed and name not in fields:
            if at >= beyond:
                yield _finding(module, path[: at + 1], start, fields)
            return
        schemas = [found for schema in schemas for found in _inside(schema, name)]
        if not schemas:
            return


def _finding(module: Module, path: Sequence[str | None], start: int, fields: set[str]) -> Finding:
    shown = ".".join("[_]" if part is None else part for part in path).replace(".[", "[")
    message = f"no policy input has `{shown}`{nearest(str(path[-1]), fields)}"
    remedy = f"There is {', '.join(sorted(fields))}; what is never there is silent."
    return error("unknown-field", module.problem(start, message, remedy))


@cache
def _schema() -> Schema:
    return cast("Schema", PolicyDocument.model_json_schema())


def _alternatives(schema: Schema) -> Iterator[Schema]:
    """What *schema* stands for; nothing where that may be anything."""
    reference, several = schema.get("$ref"), schema.get("anyOf")
    if isinstance(reference, str):
        found = cast("Schema", _schema()["$defs"]).get(reference.rpartition("/")[2])
        yield from _alternatives(cast("Schema", found))
    elif isinstance(several, list):
        for one in several:
            yield from _alternatives(cast("Schema", one))
    else:
        yield schema


def _fields(schema: Schema) -> Sequence[str]:
    return tuple(cast("Schema", schema.get("properties") or {}))


def _is_closed(schema: Schema) -> bool:
    """True if it has the fields that are written out and no other, or none."""
    kind = schema.get("type")
    if kind == "object":
        return schema.get("additionalProperties") is False
    return kind == "null"


def _inside(schema: Schema, name: str | None) -> Iterator[Schema]:
    """The schemas of what is at *name*; None: at any place."""
    properties = cast("Mapping[str, Schema]", schema.get("properties") or {})
    if name in properties:
        yield from _alternatives(properties[cast("str", name)])
        return
    for word in ("items", "additionalProperties"):
        inner = schema.get(word)
        if isinstance(inner, dict):
            yield from _alternatives(inner)
