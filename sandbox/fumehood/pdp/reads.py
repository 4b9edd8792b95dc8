"""What of the input a module may read, found soundly: where it cannot be told, the answer is yes."""

from __future__ import annotations

from typing import cast

from fumehood.pdp.syntax import Module, Node, Ref, kind_of, ref_of, walk

__all__ = ["reads_history"]


def reads_history(module: Module) -> bool:
    """True unless no expression of *module* can reach `input.context.history`."""
    if any(_may_reach_history(imported.path) for imported in module.imports):
        return True
    parts = [rule.parts() for rule in module.rules]
    return any(_may_reach_history(ref.constant) for ref in _input_refs(parts))


def _may_reach_history(path: tuple[str, ...]) -> bool:
    """*path* is a prefix of input.context.history, or lies inside it."""
    wanted = ("input", "context", "history")
    return bool(path) and path[: len(wanted)] == wanted[: len(path)]


def _input_refs(value: object) -> list[Ref]:
    """The longest reference at each place where `input` is named."""
    found: list[Ref] = []
    inside: set[int] = set()
    for kind, body in walk(value):
        if kind in ("Var", "RefDot", "RefBrack") and id(body) not in inside:
            inside.update(id(step) for step in _steps(kind, body))
            ref = ref_of({kind: body})
            if ref is not None and ref.root == "input":
                found.append(ref)
    return found


def _steps(kind: str, body: Node) -> list[Node]:
    """The bodies of the references that this one is built upon."""
    steps = [body]
    while kind in ("RefDot", "RefBrack"):
        kind, body = kind_of(cast("Node", body["refr"]))
        steps.append(body)
    return steps
