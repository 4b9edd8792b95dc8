"""Which keys of the arguments does the tool's schema leave to the caller?

A key that the schema declares is the integrator's word. One that it does not (`{"recipients":
{"eve@x": "hello"}}`) is chosen by whoever made the call: it is a value like any other.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import cast

from fumehood.canonical import JSON, escape

__all__ = ["free_keys"]

_MAX_REFS = 32


def free_keys(schema: bytes, args: JSON) -> dict[str, tuple[str, ...]]:
    """For each leaf's pointer that lies below free keys: those keys. *schema* is JSON Schema.

    Names of the arguments themselves are never free: a policy names them.
    """
    if not isinstance(args, dict) or not any(isinstance(v, dict | list) and v for v in args.values()):
        return {}
    root = _parsed(schema)
    found: dict[str, tuple[str, ...]] = {}
    for name, value in args.items():
        _walk(
            root,
            [n for node in _nodes(root, root) for n in _below(node, name)],
            value,
            f"/{escape(name)}",
            (),
            found,
        )
    return found


def _walk(
    root: JSON,
    nodes: list[JSON],
    value: JSON,
    pointer: str,
    free: tuple[str, ...],
    found: dict[str, tuple[str, ...]],
) -> None:
    """Follow *value* and the schema nodes that describe it."""
    if not isinstance(value, dict | list) or not value:
        if free:
            found[pointer] = free
        return
    here = [n for node in nodes for n in _nodes(root, node)]
    if isinstance(value, dict):
        for key, item in value.items():
            declared = [n for node in here for n in _below(node, key)]
            more = free if any(_declares(node, key) for node in here) else (*free, key)
            _walk(root, declared, item, f"{pointer}/{escape(key)}", more, found)
    else:
        items = [n for node in here for n in _items(node)]
        for index, item in enumerate(value):
            _walk(root, items, item, f"{pointer}/{index}", free, found)


def _nodes(root: JSON, node: JSON, depth: int = 0) -> list[JSON]:
    """*node* and everything that it is put together from (`$ref`, `allOf`, `anyOf`, `oneOf`)."""
    if not isinstance(node, dict) or depth > _MAX_REFS:
        return []
    parts: list[JSON] = [p for name in ("allOf", "anyOf", "oneOf") for p in _list(node.get(name))]
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/") and isinstance(root, dict):
        definitions = root.get("$defs")
        if isinstance(definitions, dict):
            parts.append(definitions.get(reference.removeprefix("#/$defs/")))
    return [node, *(n for part in parts for n in _nodes(root, part, depth + 1))]


def _declares(node: JSON, key: str) -> bool:
    properties = node.get("properties") if isinstance(node, dict) else None
    return isinstance(properties, dict) and key in properties


def _below(node: JSON, key: str) -> list[JSON]:
    if not isinstance(node, dict):
        return []
    properties = node.get("properties")
    if isinstance(properties, dict) and key in properties:
        return [properties[key]]
    return [node.get("additionalProperties")]


def _items(node: JSON) -> list[JSON]:
    return [node.get("items"), *_list(node.get("prefixItems"))] if isinstance(node, dict) else []


def _list(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else []


@lru_cache(maxsize=1024)
def _parsed(schema: bytes) -> JSON:
    return cast("JSON", json.loads(schema))
