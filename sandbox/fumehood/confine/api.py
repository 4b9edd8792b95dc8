"""The public calls: run a program or Python source confined, and wait for what came of it.

`run` and `python` wait; `arun` and `apython` await and never block the loop; `start` answers a `Job` that
can be waited for, and killed from any thread.
"""

# a path here is checked text
# ruff: noqa: PTH100, PTH118

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import select
import socket
import stat
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from fumehood.confine import artifacts, syscalls, wire
from fumehood.confine.client import Client, Spawner
from fumehood.confine.layers import missing
from fumehood.confine.outcome import TIERS, Attempt, Exit, Outcome, Tier
from fumehood.errors import ConfinementError

if TYPE_CHECKING:
    import asyncio

    from fumehood.confine.plan import Host, Plan, Workdir
    from fumehood.confine.profile import Profile

    AnyProfile = str | Profile | Sequence[str | Profile]

_GRACE_S: Final = 15.0
#: The one spawner of this process; a fork's child gets its own.
_CLIENT: Final = Client()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One job, complete. Either `argv` or `source`; paths of the host are absolute.

    `read`, `write` and `limits` extend the profile as `profile.extend` allows; `forbidden_paths` may not be
    touched by any of them nor by `workdir`. `artifacts` are patterns of files to collect from the working
    folder when the job has ended. `on_attempt` is called by whoever waits, as attempts are seen.
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


class Job:
    """One running job. `kill` is safe from any thread; `wait` may be called again after it timed out."""

    def __init__(
        self, sock: socket.socket, spec: Spec, *, profile: str, timeout_s: float, drop: Callable[[], None]
    ) -> None:
        self._sock = sock
        weakref.finalize(self, sock.close)  # nobody waits any more: the spawner ends the job
        self._spec = spec
        self._profile = profile
        self._lock = threading.Lock()
        self._drop = drop
        self._give_up_at = time.monotonic() + timeout_s + _GRACE_S
        self._outcome: Outcome | None = None
        self._error: ConfinementError | None = None

    def kill(self, reason: str = "stopped") -> None:
        """End it and everything it started; the exit says *reason*. Nothing happens if it has ended."""
        with contextlib.suppress(OSError):
            wire.send(self._sock, {"stop": reason})

    def wait(self, timeout_s: float | None = None) -> Outcome:
        """What came of it.

        Raises:
            TimeoutError: it still runs after *timeout_s*.
            ConfinementError: the host could not confine it; nothing ran.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            while not self._is_over():
                self._wait_for_word(until)
            return self._result()

    def _wait_for_word(self, until: float | None) -> None:
        now = time.monotonic()
        patience = self._give_up_at - now
        if until is not None:
            patience = min(patience, until - now)
        if self._is_readable(max(0.0, patience)):
            self._hear()
        elif time.monotonic() >= self._give_up_at:
            self._give_up()
        elif until is not None and time.monotonic() >= until:
            raise TimeoutError("the job still runs")

    def _is_readable(self, patience_s: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(patience_s * 1000))

    async def finished(self) -> Outcome:
        """As `wait`, for asyncio: the loop is never blocked. Cancelling kills the job."""
        import asyncio

        loop = asyncio.get_running_loop()
        try:
            while not self._is_over():
                await self._word(loop)
        except asyncio.CancelledError:
            self.kill()
            self._close()
            raise
        return self._result()

    async def _word(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._sock, _set, ready)
        try:
            async with asyncio.timeout(max(0.0, self._give_up_at - time.monotonic())):
                await ready
        except TimeoutError:
            ready.cancel()
        finally:
            loop.remove_reader(self._sock)  # before it may be closed: its number will be used again
        if ready.cancelled():
            self._give_up()
        else:
            self._hear()

    def _is_over(self) -> bool:
        return self._outcome is not None or self._error is not None

    def _result(self) -> Outcome:
        if self._error is not None:
            raise self._error
        if self._outcome is None:
            raise RuntimeError("the job has not ended")
        return self._outcome

    def _hear(self) -> None:
        message = wire.receive(self._sock)
        if message is None:
            self._give_up()
            return
        fields, fds = message
        if "attempt" in fields:
            if self._spec.on_attempt:
                self._spec.on_attempt(Attempt(*fields["attempt"]))
        elif fields["error"]:
            self._error = missing(fields["error"]["layer"], fields["error"]["error"])
            self._close()
        else:
            self._end(self._read_outcome(fields, fds))

    def _read_outcome(self, fields: dict[str, Any], fds: list[int]) -> Outcome:
        kind, code = fields["exit"]
        return Outcome(
            exit=Exit(kind, code),
            stdout=base64.b64decode(fields["stdout"]),
            stderr=base64.b64decode(fields["stderr"]),
            layers=tuple(fields["layers"]),
            refused=tuple(Attempt(*attempt) for attempt in fields["refused"]),
            refused_dropped=fields["dropped"],
            artifacts=artifacts.read(fds[0]) if fds else (),
            profile=self._profile,
            tier=self._spec.tier,
            duration_s=fields["duration_s"],
        )

    def _give_up(self) -> None:
        """The supervisor has died, or hangs: none of its deadlines counts any more. It is ended."""
        self._drop()
        self._end(Outcome(Exit("spawner"), profile=self._profile, tier=self._spec.tier))

    def _end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._close()

    def _close(self) -> None:
        self._sock.close()  # whoever still waits for it in the spawner kills it


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


# --- starting ------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _host() -> Host:
    from fumehood.confine.plan import Host

    return Host.here()


def start(spec: Spec) -> Job:
    """Start a job and answer at once.

    Raises:
        ConfinementError: the profile cannot be applied, or no supervisor could be started. A layer that is
            missing is found by the child, and raised by `Job.wait`; nothing of the caller's has run then.
    """
    profile = _profile_of(spec)
    _require_sane(spec, profile)
    for _ in range(2):
        spawner = _CLIENT.spawner(_host().python_roots)
        try:
            return _start_with(spawner, spec, profile)
        except (BrokenPipeError, ConnectionResetError):  # it died since: once more, with a new one
            _CLIENT.drop(spawner)
    raise missing("supervisor", "it ended twice")


def _profile_of(spec: Spec) -> Profile:
    from fumehood.confine import profile as profiles

    base = profiles.resolve(spec.profile)
    return profiles.extend(
        base, read=spec.read, write=spec.write, limits=spec.limits, forbidden_paths=spec.forbidden_paths
    )


def _require_sane(spec: Spec, profile: Profile) -> None:
    if (spec.argv is None) == (spec.source is None):
        raise ValueError("either argv or source, not both")
    if spec.argv is not None and (not spec.argv or isinstance(spec.argv, str)):
        raise ValueError("argv is a list of words, the program first")
    if spec.tier not in TIERS:
        raise ValueError(f"tier {spec.tier!r} is none of {', '.join(TIERS)}")
    if spec.source is not None and not profile.python:
        raise ConfinementError(
            f"the profile {profile.name} does not show the Python interpreter",
            layer="profile",
            remedy="Use python-offline, model-loader or strictest.",
        )
    for word in (*(spec.argv or ()), *spec.args, *spec.env, *spec.env.values()):
        if "\0" in word:
            raise ValueError("a word with a zero byte cannot be passed to a program")
    if any("=" in name or not name for name in spec.env):
        raise ValueError("a name in env is empty or holds '='")


def _start_with(spawner: Spawner, spec: Spec, profile: Profile) -> Job:
    from fumehood.confine import plan as plans
    from fumehood.confine.seccomp import compile_filter, compile_observer, observed_numbers

    with contextlib.ExitStack() as owned:
        workdir = _workdir(spec) if spec.workdir is not None else None
        plan = plans.plan(profile, _host(), tier=spec.tier, workdir=workdir)
        plan, mounts = _with_mounts(plan, spawner, owned)
        timeout_s = _timeout_s(spec, profile)
        abi = spawner.landlock_abi
        spec_of_filter = plans.filter_spec(plan, profile=profile, landlock_abi=abi)
        setup = {
            "plan": plan.to_wire(),
            "program": _text(compile_filter(spec_of_filter)),
            "observer": _text(compile_observer()) if profile.observe else "",
            "is_source": spec.source is not None,
        }
        fields = {
            **setup,
            "calls": observed_numbers() if profile.observe else [],
            "key": "" if mounts or workdir else _digest(setup),
            "argv": None if spec.argv is None else list(spec.argv),
            "args": list(spec.args),
            "env": list(spec.env.items()),
            "artifacts": list(spec.artifacts),
            "timeout_s": timeout_s,
        }
        ours, theirs = wire.pair()
        owned.callback(theirs.close)
        fds = [theirs.fileno(), _stdin(spec.stdin, owned)]
        if spec.source is not None:
            source = spec.source.encode() if isinstance(spec.source, str) else spec.source
            fds.append(_owned(syscalls.sealed_memfd(source), owned))
        try:
            spawner.send(fields, (*fds, *mounts))
        except BaseException:
            ours.close()
            raise
    return Job(ours, spec, profile=profile.name, timeout_s=timeout_s, drop=lambda: _CLIENT.drop(spawner))


def _owned(fd: int, owned: contextlib.ExitStack) -> int:
    owned.callback(os.close, fd)
    return fd


def _stdin(body: bytes, owned: contextlib.ExitStack) -> int:
    fd = syscalls.sealed_memfd(body) if body else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    return _owned(fd, owned)


def _text(program: bytes) -> str:
    return base64.b64encode(program).decode()


def _digest(setup: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()


def _timeout_s(spec: Spec, profile: Profile) -> float:
    """The caller's, else the profile's. What a policy set bounds the caller's; our default does not."""
    limit = profile.limits.timeout_s
    wanted = spec.timeout_s if spec.timeout_s is not None else limit
    bounded = min(wanted, limit) if "timeout_s" in profile.limits.model_fields_set else wanted
    if not 0 < bounded <= 86_400:
        raise ValueError(f"timeout_s is {bounded}; more than 0 and at most 86400 seconds are possible")
    return bounded


def _workdir(spec: Spec) -> Workdir:
    """The caller's folder, resolved, its identity noted, its .git kept read-only."""
    from fumehood.confine.plan import Workdir
    from fumehood.confine.profile import checked_path

    path = checked_path(os.path.abspath(os.fspath(spec.workdir or "")), forbidden_paths=spec.forbidden_paths)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise ConfinementError(f"{path} is not a folder", layer="profile", remedy="Name a folder.")
    git = os.path.join(path, ".git")
    return Workdir(path, (status.st_dev, status.st_ino), masks=(git,) if os.path.lexists(git) else ())


def _with_mounts(plan: Plan, spawner: Spawner, owned: contextlib.ExitStack) -> tuple[Plan, tuple[int, ...]]:
    """As root: what the job may use of root's files is opened here, as root, and mapped to the job's user."""
    if os.geteuid() != 0:
        return plan, ()
    own = {*_host().system, *_host().python_roots}
    wanted = [bind.path for bind in plan.binds if bind.path not in own]
    if not wanted:
        return plan, ()
    if plan.tier != "full" or spawner.mapping_fd < 0:
        closed = [b.path for b in plan.binds if b.path in wanted and (b.writable or not _is_public(b.path))]
        if not closed:
            return plan, ()
        raise ConfinementError(
            f"{closed[0]} is root's, which the job is not, and the tier {plan.tier} cannot map it",
            layer="identity",
            remedy="Let others read it if it is only read (chmod o+rX, on the folders before it too), run as "
            "an ordinary user, or use the tier full on a host with user namespaces.",
        )
    handles = {path: number for number, path in enumerate(wanted)}
    binds = tuple(replace(b, handle=handles.get(b.path, -1)) for b in plan.binds)
    writable = {b.path: b.writable for b in plan.binds}
    fds = tuple(_owned(_mapped(path, spawner.mapping_fd, writable=writable[path]), owned) for path in wanted)
    return replace(plan, binds=binds), fds


def _is_public(path: str) -> bool:
    """True if any user may come to *path* and read it."""
    from fumehood.confine.root import barring_folder

    mode = os.lstat(path).st_mode
    return not barring_folder(path) and bool(mode & stat.S_IROTH)


def _mapped(path: str, mapping_fd: int, *, writable: bool) -> int:
    attrs = syscalls.MOUNT_ATTR_IDMAP | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
    attrs |= 0 if writable else syscalls.MOUNT_ATTR_RDONLY
    try:
        tree = syscalls.open_tree(path, clone=True)
    except OSError as error:
        raise missing("rootfs", str(error)) from error
    try:
        syscalls.mount_setattr(tree, attrs=attrs, userns_fd=mapping_fd)
    except OSError as error:
        os.close(tree)
        raise ConfinementError(
            f"{path} cannot be mapped to the job's user: {error}",
            layer="rootfs",
            remedy="Use a folder on ext4, xfs, btrfs or tmpfs (mapped mounts), or run as an ordinary user.",
        ) from error
    return tree


# --- the four calls --------------------------------------------------------------------------------------


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
    return start(Spec(source=source, **_with_args(options))).wait()


async def arun(argv: Sequence[str], **options: Any) -> Outcome:
    """As `run`, without blocking the loop. Cancelling kills the job."""
    return await (await astart(Spec(argv=argv, **options))).finished()


async def apython(source: str | bytes, **options: Any) -> Outcome:
    """As `python`, without blocking the loop. Cancelling kills the job."""
    return await (await astart(Spec(source=source, **_with_args(options)))).finished()


def _with_args(options: dict[str, Any]) -> dict[str, Any]:
    """`argv=` of `python` are the words after the source."""
    if "argv" in options:
        options["args"] = tuple(options.pop("argv"))
    return options


async def astart(spec: Spec) -> Job:
    """As `start`; in a thread of its own, since the first job of a process compiles and executes."""
    import asyncio

    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Job] = loop.create_future()

    def work() -> None:
        try:
            job = start(spec)
        except BaseException as error:  # noqa: BLE001 — carried to the loop, whatever it is
            _tell(loop, answer, partial(answer.set_exception, error))
        else:
            _tell(loop, answer, partial(answer.set_result, job), otherwise=job.kill)

    threading.Thread(target=work, name="fumehood-start", daemon=True).start()
    return await answer


def _tell(
    loop: asyncio.AbstractEventLoop,
    answer: asyncio.Future[Job],
    say: Callable[[], None],
    *,
    otherwise: Callable[[], None] = lambda: None,
) -> None:
    def on_loop() -> None:
        otherwise() if answer.done() else say()

    try:
        loop.call_soon_threadsafe(on_loop)
    except RuntimeError:  # the loop has closed meanwhile
        otherwise()


def close() -> None:
    """End this process's supervisor and every job; the next call starts another."""
    _CLIENT.close()
