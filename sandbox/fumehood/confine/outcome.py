"""What became of a confined process: values, and nothing that runs one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Tier = Literal["full", "no-userns"]
TIERS: Final = ("full", "no-userns")

ExitKind = Literal[
    "exited",  # by itself; code is its exit status
    "signal",  # by a signal; code is its number
    "filter",  # by the system-call filter (SIGSYS)
    "deadline",  # the wall-clock limit
    "cpu",  # the processor-time limit (SIGXCPU)
    "memory",  # all its processes together were over the memory limit
    "output",  # it wrote more than the cap
    "processes",  # it had more processes than the limit
    "disk",  # its private folder was over the limit; only where that is not a memory file system
    "stopped",  # somebody asked for it
    "not_started",  # the program could not be started; code is the errno
    "spawner",  # the process that watched it died, and it with it
]


@dataclass(frozen=True, slots=True)
class Exit:
    """How it ended, in the kernel's or the supervisor's own word; never guessed from output."""

    kind: ExitKind
    code: int = 0

    @property
    def is_success(self) -> bool:
        """True if it ended by itself with status 0."""
        return self.kind == "exited" and self.code == 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something the supervisor saw the process ask the kernel for.

    `verdict` is `refused` where the supervisor answered no or the target lies outside of what the plan
    grants, and `observed` where it only looked on. Evidence, not a barrier: the copy of a path can race.
    """

    operation: str
    target: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A regular file that the job left in its working folder; `path` is relative to it."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that came out of one confined job.

    `refused_dropped` counts attempts beyond the number that is kept. `layers` names what was active.
    """

    exit: Exit
    stdout: bytes = b""
    stderr: bytes = b""
    layers: tuple[str, ...] = ()
    refused: tuple[Attempt, ...] = ()
    refused_dropped: int = 0
    artifacts: tuple[Artifact, ...] = ()
    profile: str = ""
    tier: str = ""
    duration_s: float = 0.0
