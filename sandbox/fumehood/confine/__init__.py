"""Running code confined: the operating system's own walls around one job at a time.

from fumehood import confine

outcome = confine.run(["python3", "job.py"], profile="python-offline", workdir=folder, timeout_s=10.0)
outcome = confine.python("print(1 + 1)")
"""

from __future__ import annotations

from fumehood.confine.api import apython, arun, astart, close, python, run, start
from fumehood.confine.handle import Job
from fumehood.confine.outcome import Artifact, Attempt, Exit, Outcome
from fumehood.confine.spec import Spec

__all__ = [
    "Artifact",
    "Attempt",
    "Exit",
    "Job",
    "Outcome",
    "Spec",
    "apython",
    "arun",
    "astart",
    "close",
    "python",
    "run",
    "start",
]
