"""A whole policy input as the shortest fragment that completes to it: for people to read, and to copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from fumehood.canonical import JSON
from fumehood.workbench.completing import Document, completed

__all__ = ["fragment_of"]


def fragment_of(document: Mapping[str, JSON]) -> Document:
    """`{tool, args, origins?, …}`: what an ordinary call would have anyway is left out."""
    resource = cast("Document", document["resource"])
    properties = cast("Document", cast("Document", document["action"])["properties"])
    short: Document = {"tool": resource.get("id"), "args": properties.get("args")}
    origins = _origins(document)
    if origins:
        short["origins"] = cast("JSON", origins)
    rest = _beyond(document, completed(short, {}))
    return short | (rest if isinstance(rest, dict) else {})


def _origins(document: Mapping[str, JSON]) -> dict[str, str]:
    """Where each argument comes from, if that is all that is said of it."""
    context = cast("Document", document["context"])
    provenance = context.get("provenance")
    said = provenance.get("args") if isinstance(provenance, dict) else None
    found: dict[str, str] = {}
    for at, sources in (said if isinstance(said, dict) else {}).items():
        if isinstance(sources, list) and len(sources) == 1:
            source = sources[0]
            origin = source.get("origin") if isinstance(source, dict) else None
            if source in ({"origin": origin}, {"origin": origin, "source": "given"}):
                found[at] = str(origin)
    return found


def _beyond(value: object, usual: object) -> JSON:
    """What *value* has that *usual* has not."""
    if not isinstance(value, dict) or not isinstance(usual, dict):
        return cast("JSON", value)
    more: Document = {}
    for name, item in value.items():
        if name not in usual:
            more[name] = item
        elif item != usual[name]:
            more[name] = _beyond(item, usual[name])
    return more
