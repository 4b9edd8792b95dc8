"""Fumehood: decides, confines, asks and records every tool call that an AI agent makes.

    from fumehood import Guard

Names are loaded when they are first used, so that `import fumehood` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fumehood import confine
    from fumehood.approval import Approval
    from fumehood.errors import (
        BindError,
        ConfigError,
        ConfinementError,
        Denied,
        FumehoodError,
        JobFailed,
        LedgerError,
        PdpError,
        Withheld,
    )
    from fumehood.guard import Guard
    from fumehood.model import Annotations, Decision, Kind, Reason, Risk
    from fumehood.pdp import BundleKey, OpaServer

__all__ = [
    "Annotations",
    "Approval",
    "BindError",
    "BundleKey",
    "ConfigError",
    "ConfinementError",
    "Decision",
    "Denied",
    "FumehoodError",
    "Guard",
    "JobFailed",
    "Kind",
    "LedgerError",
    "OpaServer",
    "PdpError",
    "Reason",
    "Risk",
    "Withheld",
    "confine",
]

_HOME = {
    "Annotations": "model",
    "Approval": "approval",
    "BundleKey": "pdp",
    "Decision": "model",
    "Guard": "guard",
    "Kind": "model",
    "OpaServer": "pdp",
    "Reason": "model",
    "Risk": "model",
}


def __getattr__(name: str) -> object:
    if name == "confine":
        return import_module("fumehood.confine")
    if name in __all__:
        return getattr(import_module(f"fumehood.{_HOME.get(name, 'errors')}"), name)
    raise AttributeError(f"module 'fumehood' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
