"""Runs the body of a governed call confined: under the strictest of the tool's own profile and every
profile that policy named, ended by a stop, with what it tried in the trace while it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from fumehood import confine
from fumehood.confine.profile import Profile, extend, from_obligations, merge, resolve
from fumehood.display import clip
from fumehood.model import Confine
from fumehood.shell import CallShell, current_call

if TYPE_CHECKING:
    from fumehood.guard import Guard

__all__ = ["Program", "arun_confined", "run_confined"]


class Program(TypedDict, total=False):
    """What to run: `argv`, or Python `source` with its `args`. `read` are paths that its integrator shows it,
    read-only."""

    argv: Sequence[str] | None
    source: str | None
    args: Sequence[str]
    stdin: bytes
    read: Sequence[str]
    workdir: str | os.PathLike[str] | None
    timeout_s: float | None
    env: Mapping[str, str]


def run_confined(
    guard: Guard, *, profile: str | Profile, confinements: Sequence[Confine] = (), **program: Unpack[Program]
) -> confine.Outcome:
    """Run *program* and wait. *confinements* are what the decision asks for.

    Raises:
        ConfinementError: this host cannot confine it so; nothing ran.
    """
    watch = _Watch(guard, current_call())
    job = confine.start(_spec(guard, program, profile, confinements, watch))
    try:
        watch.begin(job)
        return watch.ended(job.wait())
    except BaseException:
        job.kill()
        raise
    finally:
        watch.end()


async def arun_confined(
    guard: Guard, *, profile: str | Profile, confinements: Sequence[Confine] = (), **program: Unpack[Program]
) -> confine.Outcome:
    """`run_confined`, awaited; cancelling ends the job."""
    watch = _Watch(guard, current_call())
    job = await confine.astart(_spec(guard, program, profile, confinements, watch))
    try:
        watch.begin(job)
        return watch.ended(await job.finished())
    except BaseException:
        job.kill()
        raise
    finally:
        watch.end()


class _Watch:
    """One confined job of one call, as the guard's record sees it."""

    def __init__(self, guard: Guard, shell: CallShell | None) -> None:
        self._guard = guard
        self._shell = shell

    def begin(self, job: confine.Job) -> None:
        call = self._shell.call if self._shell is not None else None
        if call is not None:
            self._guard.jobs.enter(call.attempt_id, call.session, job.kill)

    def end(self) -> None:
        call = self._shell.call if self._shell is not None else None
        if call is not None:
            self._guard.jobs.leave(call.attempt_id)

    def attempt(self, seen: confine.Attempt) -> None:
        """Something the job tried: into the trace, live."""
        call = self._shell.call if self._shell is not None else None
        if call is None:
            return
        target = clip(seen.target, 4096)
        attributes = {
            "fumehood.attempt.operation": seen.operation,
            "fumehood.attempt.target": target,
            "fumehood.attempt.verdict": seen.verdict,
        }
        self._guard.ledger.note(
            call.session,
            "attempt",
            f"{seen.verdict}: {seen.operation} {clip(seen.target, 200)}",
            tool=call.tool.name,
            attempt_id=call.attempt_id,
            attributes=json.dumps(attributes).encode(),
        )

    def ended(self, outcome: confine.Outcome) -> confine.Outcome:
        """Put how it ended beside the call's outcome in the record."""
        if self._shell is not None:
            self._shell.detail["fumehood.confinement"] = {
                "profile": outcome.profile,
                "tier": outcome.tier,
                "layers": list(outcome.layers),
                "exit": outcome.exit.kind,
                "code": outcome.exit.code,
                "attempts": len(outcome.refused) + outcome.refused_dropped,
            }
        return outcome


def _spec(
    guard: Guard, program: Program, profile: str | Profile, confinements: Sequence[Confine], watch: _Watch
) -> confine.Spec:
    return confine.Spec(
        profile=strictest(guard, profile, confinements),
        tier=guard.tier,
        forbidden_paths=guard.protected_paths,
        on_attempt=watch.attempt,
        **program,
    )


def strictest(guard: Guard, profile: str | Profile, confinements: Sequence[Confine]) -> Profile:
    """The meet of the tool's own *profile* and all that policy named.

    A path that policy opens is opened in the tool's own profile too, else no rule could ever open one.
    """
    own = resolve(profile)
    if not confinements:
        return own
    forbidden = guard.protected_paths
    asked = from_obligations(confinements, forbidden_paths=forbidden)
    return merge([extend(own, read=asked.read, write=asked.write, forbidden_paths=forbidden), asked])
