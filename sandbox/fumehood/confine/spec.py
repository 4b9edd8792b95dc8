"""One job as its caller describes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fumehood.confine.outcome import Attempt, Tier

if TYPE_CHECKING:
    from fumehood.confine.profile import Profile

    AnyProfile = str | Profile | Sequence[str | Profile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One job, complete. Either `argv` or `source`; paths of the host are absolute.

    `read`, `write` and `limits` extend the profile as `profile.extend` allows; `forbidden_paths` may not be
    touched by any of them nor by `workdir`. `artifacts` are patterns of files to collect from the working
    folder when the job has ended. `on_attempt` is called by whoever waits, as attempts are seen; so is
    `on_output`, with "stdout" or "stderr" and a piece of it, as it comes. With `strip_ansi` terminal control
    sequences are taken out of both, there and in the outcome.
    """

    argv: Sequence[str] | None = None
    source: str | bytes | None = None
    args: Sequence[str] = ()
    profile: AnyProfile = "python-offline"
    tier: Tier = "full"
    workdir: str | os.PathLike[str] | None = None
    timeout_s: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    read: Sequence[str] = ()
    write: Sequence[str] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    forbidden_paths: Sequence[str] = ()
    artifacts: Sequence[str] = ()
    on_attempt: Callable[[Attempt], None] | None = None
    on_output: Callable[[str, bytes], None] | None = None
    strip_ansi: bool = False
