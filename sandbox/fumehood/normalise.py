"""The parsed forms of a call's arguments in documents that people write, and in those that were recorded.

A guard computes only what its policies read (`parsed`). A case table or a test gets all of it; of a
recorded document it can be told what was left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from fumehood.canonical import JSON, leaves
from fumehood.model import PARSED_KINDS, PARSED_PLACES
from fumehood.parsed import parsed_arguments

__all__ = ["normalised", "unrecorded"]


def normalised(args: JSON, *, cwd: str | None = None, sql_dialect: str | None = None) -> JSON:
    """`context.normalised` for *args*, with all kinds and pointers; see `docs/parsed-arguments.md`."""
    return parsed_arguments(args, dict.fromkeys(PARSED_KINDS), cwd=cwd, sql_dialect=sql_dialect)


def unrecorded(args: JSON, forms: Mapping[str, JSON]) -> Iterator[tuple[str, ...]]:
    """Where *forms*, a recorded `context.normalised`, has nothing because no rule read it then.

    Each is the keys below `context.normalised`: `("shell",)`, or `("paths", "/path")` for one argument. What
    was read and could not be parsed is recorded: it stands under `unparseable`.
    """
    unparseable = cast("Mapping[str, Mapping[str, JSON]]", forms.get("unparseable", {}))
    texts = [pointer for pointer, value in leaves(args) if isinstance(value, str)]
    for kind, place in PARSED_PLACES.items():
        values = forms.get(place)
        if not isinstance(values, Mapping):
            yield (place,)
            continue
        known = values.keys() | unparseable.get(kind, {}).keys()
        yield from ((place, pointer) for pointer in texts if pointer not in known)
