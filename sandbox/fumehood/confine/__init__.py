"""Running code confined: the operating system's own walls around one job at a time.

from fumehood import confine

outcome = confine.run(["python3", "job.py"], profile="python-offline", workdir=folder, timeout_s=10.0)
outcome = confine.python("print(1 + 1)")
total = confine.call("reports:totals", {"path": "/data/march.csv"}, read=["/data"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fumehood.confine.api import apython, arun, astart, close, python, run, start
from fumehood.confine.handle import Job
from fumehood.confine.outcome import Artifact, Attempt, Exit, Outcome
from fumehood.confine.spec import Spec

if TYPE_CHECKING:
    from fumehood.confine.calls import acall, call

__all__ = [
    "Artifact",
    "Attempt",
    "Exit",
    "Job",
    "Outcome",
    "Spec",
    "acall",
    "apython",
    "arun",
    "astart",
    "call",
    "close",
    "python",
    "run",
    "start",
]


def __getattr__(name: str) -> Any:
    if name in ("acall", "call"):  # with what reads JSON, which nothing else here needs
        from fumehood.confine import calls

        return getattr(calls, name)
    raise AttributeError(f"module 'fumehood.confine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
