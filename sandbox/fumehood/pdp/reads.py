"""What of the input a module may read, found soundly: where it cannot be told, the answer is yes."""

from __future__ import annotations

from fumehood.pdp.syntax import Module

__all__ = ["reads_history"]


def reads_history(module: Module) -> bool:
    """True unless no expression of *module* can reach `input.context.history`."""
    if any(_may_reach_history(imported.path) for imported in module.imports):
        return True
    found = (ref for rule in module.rules for _, ref in rule.references())
    return any(_may_reach_history(ref.constant) for ref in found if ref.root == "input")


def _may_reach_history(path: tuple[str, ...]) -> bool:
    """*path* is a prefix of input.context.history, or lies inside it."""
    wanted = ("input", "context", "history")
    return bool(path) and path[: len(wanted)] == wanted[: len(path)]
