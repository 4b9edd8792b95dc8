"""Which parsed arguments the rules of a bundle may read, found soundly: where it cannot be told, all.

`call.shell("/command")` needs that one argument parsed, as a shell's text and as nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from fumehood.model import PARSED_KINDS, PARSED_PLACES
from fumehood.pdp.gate.context import path_of
from fumehood.pdp.gate.refs import called_path
from fumehood.pdp.syntax import Module, Node, constant_of

__all__ = ["reads_parsed"]

_CALL = ("data", "fumehood", "call")
_INPUT = ("input", "context", "normalised")
_FUNCTIONS: Mapping[str, tuple[str, ...]] = {kind: (kind,) for kind in PARSED_KINDS} | {
    "inside": ("path", "file")
}

Read = tuple[str, str | None]  # a kind, and the pointer; None: any


def reads_parsed(modules: Iterable[Module]) -> Mapping[str, frozenset[str] | None]:
    """The kinds that are read, each with the JSON Pointers that are; None where those cannot be told."""
    found: dict[str, frozenset[str] | None] = {}
    for kind, pointer in (read for module in modules for read in _reads(module)):
        known = found.get(kind, frozenset())
        found[kind] = None if pointer is None or known is None else known | {pointer}
    return found


def _reads(module: Module) -> Iterator[Read]:
    for rule in module.rules:
        for body in rule.survey().of("Call"):
            yield from _call(module, body)
        for _, ref in rule.references():
            yield from _reference(path_of(module, ref.root, ref.parts))


def _call(module: Module, call: Node) -> Iterator[Read]:
    path = called_path(module, call)
    if path[:3] != _CALL or len(path) != 4:
        return
    params = cast("list[Node]", call["params"])
    given = constant_of(params[0]) if params else None
    pointer = given if isinstance(given, str) else None
    for kind in _FUNCTIONS.get(str(path[3]), ()):
        yield kind, pointer


def _reference(path: tuple[str | None, ...]) -> Iterator[Read]:
    """A reference that is, holds or lies in the parsed arguments."""
    known: list[str] = []
    for part in path:
        if part is None:
            break
        known.append(part)
    if tuple(known[: len(_INPUT)]) == _INPUT and len(known) > len(_INPUT):
        place = known[len(_INPUT)]
        kinds = [kind for kind, name in PARSED_PLACES.items() if name == place]
        pointer = known[len(_INPUT) + 1] if len(known) > len(_INPUT) + 1 else None
        for kind in kinds or PARSED_KINDS:
            yield kind, pointer if kinds else None
    elif _is_prefix(known, _INPUT) or (_is_prefix(known, _CALL) and known):
        for kind in PARSED_KINDS:
            yield kind, None


def _is_prefix(known: list[str], whole: tuple[str, ...]) -> bool:
    return bool(known) and tuple(known) == whole[: len(known)]
