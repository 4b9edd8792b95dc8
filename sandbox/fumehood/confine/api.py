"""The public calls: run a program or Python source confined, and wait for what came of it.

`run` and `python` wait; `arun` and `apython` await and never block the loop; `start` answers a `Job` that
can be waited for, and killed from any thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from fumehood.confine.client import Client, Spawner
from fumehood.confine.handle import Job, in_own_thread
from fumehood.confine.layers import missing
from fumehood.confine.outcome import Outcome
from fumehood.confine.spec import Spec
from fumehood.errors import ConfinementError

if TYPE_CHECKING:
    from fumehood.confine.prepare import Order
    from fumehood.confine.profile import Profile

#: The one spawner of this process; a fork's child gets its own.
_CLIENT: Final = Client()


def start(spec: Spec) -> Job:
    """Start a job and answer at once.

    Raises:
        ConfinementError: the profile cannot be applied, or no supervisor could be started. A layer that is
            missing is found by the child, and raised by `Job.wait`; nothing of the caller's has run then.
    """
    profile = _profile_of()(spec)
    return _as_before(spec, profile, spec.source) or _anew(spec, profile)


def _start_source(source: str | bytes, options: dict[str, Any]) -> Job:
    """As `start`. Most source is run without options, and nothing has to be described then."""
    if not options and (job := _as_before(*_plain(), source)):
        return job
    if "argv" in options:  # the words after the source
        options["args"] = tuple(options.pop("argv"))
    return start(Spec(source=source, **options))


@lru_cache(maxsize=1)
def _plain() -> tuple[Spec, Profile]:
    spec = Spec(source="")
    return spec, _profile_of()(spec)


@lru_cache(maxsize=1)
def _profile_of() -> Callable[[Spec], Profile]:
    """From what loads pydantic, which importing this package must not."""
    from fumehood.confine.prepare import profile_of

    return profile_of


def _as_before(spec: Spec, profile: Profile, source: str | bytes | None) -> Job | None:
    """The job, if one was started that was like it; the usual case, so it does little."""
    spawner = _CLIENT.current()
    known = spawner.again.order(spec, profile, source) if spawner else None
    return _tried(spawner, partial(_send, spec, profile, spawner, *known)) if spawner and known else None


def _anew(spec: Spec, profile: Profile) -> Job:
    from fumehood.confine import prepare

    prepare.require_sane(spec, profile)
    for _ in range(2):
        spawner = _CLIENT.spawner(prepare.here().python_roots)
        if job := _tried(spawner, partial(_prepared, spec, profile, spawner)):
            return job
    raise missing("supervisor", "it ended twice")


def _prepared(spec: Spec, profile: Profile, spawner: Spawner) -> Job:
    from fumehood.confine import prepare

    with contextlib.ExitStack() as owned:
        order = prepare.order(spec, profile, spawner=spawner, owned=owned)
        job = _send(spec, profile, spawner, order, order.body)
        spawner.again.note(spec, profile, order)
    return job


def _tried(spawner: Spawner, start: Callable[[], Job]) -> Job | None:
    """What *start* answers; None if the spawner has died since, or another thread found out that it has."""
    try:
        return start()
    except (BrokenPipeError, ConnectionResetError):
        _CLIENT.drop(spawner)
    except ConfinementError:
        if not spawner.is_closed:
            raise
    except OSError as error:  # a limit of the application's own (open files, the size of a file), or it hangs
        if not spawner.is_closed:
            raise missing("supervisor", f"the job could not be handed over ({error})") from error
    return None


def _send(spec: Spec, profile: Profile, spawner: Spawner, order: Order, body: bytes) -> Job:
    ours, theirs = spawner.pair()
    try:
        spawner.send(body, (theirs.fileno(), *order.fds))
        # while it begins:
        drop = partial(_CLIENT.drop, spawner)
        job = Job(ours, spec, profile=profile.name, timeout_s=order.timeout_s, drop=drop, at_end=order.at_end)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    spawner.make_ready()
    return job


async def astart(spec: Spec) -> Job:
    """As `start`; in a thread of its own, since the first job of a process compiles and executes."""
    return await in_own_thread(partial(start, spec), unwanted=Job.kill)


def run(argv: Sequence[str], **options: Any) -> Outcome:
    """Run a program confined and wait. *options* are the fields of `Spec`.

    Raises:
        ConfinementError: this host cannot confine as asked; nothing ran.
    """
    return start(Spec(argv=argv, **options)).wait()


def python(source: str | bytes, **options: Any) -> Outcome:
    """Run Python source confined and wait, as `python -c` would, in an interpreter that is already up.

    Raises:
        ConfinementError: this host cannot confine as asked; nothing ran.
    """
    return _start_source(source, options).wait()


async def arun(argv: Sequence[str], **options: Any) -> Outcome:
    """As `run`, without blocking the loop. Cancelling kills the job."""
    return await (await astart(Spec(argv=argv, **options))).finished()


async def apython(source: str | bytes, **options: Any) -> Outcome:
    """As `python`, without blocking the loop. Cancelling kills the job."""
    starting = in_own_thread(partial(_start_source, source, options), unwanted=Job.kill)
    return await (await starting).finished()


def close() -> None:
    """End this process's supervisor and every job; the next call starts another."""
    _CLIENT.close()
