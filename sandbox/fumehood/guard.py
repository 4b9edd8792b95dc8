"""The guard: what a developer holds. It opens policies, engine and ledger once, then every call goes
through `flow.enforce`.

    guard = Guard("refund", "./policies")
    with guard.session(agent="support-bot", user="alice", prompt="Please look at ticket 881"):
        guard.call("issue_refund", {"order_id": "A-1", "amount_usd": 40}, run=issue_refund)
"""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial, update_wrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, cast, overload

from fumehood.approval import Approval, State
from fumehood.binding import Body
from fumehood.display import inert
from fumehood.errors import ConfigError, Denied, LedgerError
from fumehood.flow import adrive, drive, enforce
from fumehood.functions import FunctionBody, FunctionTool, tool_of
from fumehood.ledger import Ledger, default_path, this_process
from fumehood.log import logger
from fumehood.model import Annotations, Decision, Pdp, Runs, Session, Subject
from fumehood.observe_mode import Mode
from fumehood.options import apart, folders_of, one_of, opened, warn_of_parsers
from fumehood.pdp import Bundle, BundleKey, OpaServer, keys_of, open_pdp, server_of
from fumehood.pdp.observing import told
from fumehood.pdp.reload import ReloadablePdp, watch
from fumehood.redaction import redacted_args
from fumehood.sessions import OpenSession, Sessions, current_session
from fumehood.shell import CallShell, Hands, current_call
from fumehood.waiting import Jobs, Waiters
from fumehood.wishes import Ask

if TYPE_CHECKING:
    from fumehood.confined_function import Place

__all__ = ["Guard", "current_call"]

P = ParamSpec("P")
R = TypeVar("R")

Trusted = BundleKey | str | os.PathLike[str] | Iterable[BundleKey | str | os.PathLike[str]] | None

BODY_THREADS = 64
HAND_THREADS = 4
MAX_DEFINITIONS = 1024
_NO_RELOAD = (
    "policies are reloaded by the embedded engine only; at an OPA server open a new Guard for new ones"
)
LOCK_DOWN = "fumehood.confine.pdp:lock_down"  # how the policy worker confines itself


class Guard:
    """Decides, holds, confines and records every tool call that goes through it.

    Args:
        policies: folders, bundles (.tar.gz), or names of packs (a name without "/" is always a pack).
        ledger: a path or an open ledger; else $FUMEHOOD_LEDGER, else the XDG state folder.
        isolation: where the embedded engine runs: "worker" (confined processes) or "thread".
        tier: the least confinement accepted for code: "full", or "no-userns" for hosts that
            forbid user namespaces.
        unattended: "wait" holds a call until a person decides; "deny" answers `nobody_to_ask`.
        pdp: the OPA server that decides instead of the embedded engine: its URL, or an `OpaServer` with
            certificates, a token, a deadline. "unix:///path" is a Unix socket.
        signed_by: the keys that have signed the policies: a `BundleKey`, the path of a public key, or a list
            of them. A folder or bundle that none of them has signed, whole, is refused.
        agent: the agent's name where a conversation was not given one.
        on_pending: called with each `Approval` that begins to wait (on a thread of the guard's).
        reload: look for changed policy files and decide by them, once they pass the gate, without a restart.
        durability: "process" survives a crash of every process, "power" a loss of power as well.
        mode: "enforce"; "observe" to decide and record as always and stop nothing by policy;
            "observe-packages" for that with the packages marked `custom: {mode: observe}` only.

    Raises:
        ConfigError: no policy, an unreadable or refused one.
        LedgerError: the ledger cannot be used.
        ConfinementError: the policy workers cannot be confined here.

    Thread-safe; usable from asyncio; after a fork the child opens its own engine and ledger handles.
    """

    def __init__(
        self,
        *policies: str | os.PathLike[str],
        ledger: Ledger | str | os.PathLike[str] | None = None,
        isolation: Literal["worker", "thread"] = "worker",
        tier: Literal["full", "no-userns"] = "full",
        unattended: Literal["wait", "deny"] = "wait",
        pdp: str | OpaServer | None = None,
        signed_by: Trusted = None,
        agent: str = "agent",
        on_pending: Callable[[Approval], None] | None = None,
        durability: Literal["process", "power"] = "process",
        reload: bool = False,
        mode: Literal["enforce", "observe", "observe-packages"] = "enforce",
    ) -> None:
        one_of("mode", mode, tuple(Mode))
        one_of("isolation", isolation, ("worker", "thread"))
        one_of("tier", tier, ("full", "no-userns"))
        one_of("unattended", unattended, ("wait", "deny"))
        if reload and pdp is not None:
            raise ConfigError(_NO_RELOAD)
        if not policies:
            raise ConfigError(
                'a guard needs policies: Guard("./policies") or the name of a pack: Guard("refund")'
            )
        self.tier = tier
        keys = keys_of(signed_by)
        trusted = server_of(pdp).files if pdp is not None else ()
        self._folders = (*folders_of(policies), *(key.path for key in keys if key.path), *trusted)
        self._on_pending = on_pending
        open_one = partial(open_pdp, isolation=isolation, url=pdp, lock_down=LOCK_DOWN)
        self._pdp = ReloadablePdp(policies, open_one, signed_by=keys, mode=Mode(mode))
        warn_of_parsers(self._pdp.bundle)
        self._is_watching, self._is_embedded = reload, pdp is None
        try:
            self._ledger = opened(ledger, durability)
        except BaseException:
            self._pdp.close()
            raise
        self._sessions = Sessions(self._ledger, agent)
        self._definitions: dict[tuple[str, object, str], FunctionTool] = {}
        self._can_ask = unattended == "wait"
        self._open_hands()
        _forget_after_fork(self)
        if said := told(self.bundle.observing, self.bundle.marked):
            sys.stderr.write(f"fumehood: {said}\n")

    def _open_hands(self) -> None:
        """Threads and the watch on the ledger; made anew after a fork, which has neither."""
        self._hands = Hands(
            pdp=self._pdp,
            ledger=self._ledger,
            waiters=Waiters(self._ledger),
            threads=ThreadPoolExecutor(HAND_THREADS, "fumehood-hands"),
            bodies=ThreadPoolExecutor(BODY_THREADS, "fumehood-body"),
            clock=time.time,
            can_ask=self._can_ask,
            announce=self._announce,
            new_approval=self._new_approval,
        )
        self._jobs = Jobs(self._ledger)
        self._unwatch = self._ledger.watch(self._look)
        self._unwatch_policies = watch(self._pdp, self._policies_changed) if self._is_watching else None

    # --- sessions ---

    def session(
        self,
        *,
        agent: str | None = None,
        user: str | None = None,
        roles: Iterable[str] = (),
        prompt: str | None = None,
        id: str | None = None,
        conversation_id: str | None = None,
    ) -> OpenSession:
        """Open a session, for `with` or `async with`; *id* resumes one.

        *prompt* is the user's own words: values found in it are trusted. Give nobody else's.

        Raises:
            LedgerError: it cannot be recorded, or the id belongs to another agent or user.
        """
        return self._sessions.open(
            agent=agent,
            user=user,
            roles=tuple(roles),
            prompt=prompt,
            id=id,
            conversation_id=conversation_id,
        )

    def find_session(
        self, *, bound: OpenSession | None = None, conversation_id: str | None = None
    ) -> OpenSession:
        """The session that a call made here and now belongs to (for adapters).

        Raises:
            Denied: it cannot be recorded, so nothing may run in it.
        """
        try:
            return self._sessions.find(bound, conversation_id)
        except Exception as error:
            text = "the session cannot be recorded"
            raise Denied(Decision.deny("no_session", text, detail=str(error))) from error

    async def afind_session(
        self, *, bound: OpenSession | None = None, conversation_id: str | None = None
    ) -> OpenSession:
        """`find_session`, awaited: a new session is recorded off the loop (for adapters)."""
        found = bound or current_session()
        if found is not None:
            return found
        find = partial(self.find_session, conversation_id=conversation_id)
        return await asyncio.get_running_loop().run_in_executor(self._hands.threads, find)

    # --- calls ---

    def call(
        self,
        name: str,
        arguments: Mapping[str, object],
        *,
        run: Callable[..., object],
        call_id: str | None = None,
        annotations: Annotations | Mapping[str, object] | None = None,
    ) -> object:
        """Call *run* with *arguments* as the tool *name*, if the policy lets it.

        Raises:
            Denied: nothing ran.
            Withheld: it ran, and its result is not released.
        """
        body = FunctionBody(self._tool(name, run, annotations), lambda: arguments, call_id)
        return self.enforce(body)

    async def acall(
        self,
        name: str,
        arguments: Mapping[str, object],
        *,
        run: Callable[..., object],
        call_id: str | None = None,
        annotations: Annotations | Mapping[str, object] | None = None,
    ) -> object:
        """`call`, awaited; *run* may be a coroutine function. The loop is never blocked."""
        body = FunctionBody(self._tool(name, run, annotations), lambda: arguments, call_id)
        return await self.aenforce(body)

    @overload
    def tool(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        confined: Literal[False] = False,
        **annotations: object,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        confined: Literal[True],
        profile: str = ...,
        env: Sequence[str] = ...,
        timeout_s: float = ...,
        read: Sequence[str | os.PathLike[str]] = ...,
        write: Sequence[str | os.PathLike[str]] = ...,
        limits: Mapping[str, Any] = ...,
        **annotations: object,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def tool(
        self,
        function: Callable[P, R] | None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        confined: bool = False,
        **options: Any,
    ) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
        """Make a function or coroutine function a governed tool; annotations as `kind="money"`.

        Args:
            confined: run the body in a confined process of its own, where its module is imported anew. It
                has to be at the top level of a module, take JSON and return JSON.
            profile: the loosest confinement that the body ever gets (`python-offline`); policy may name a
                stricter one.
            env: names of variables whose values are passed in; no other is.
            timeout_s: wall-clock seconds after which it is ended (30).
            read, write: paths of this host that it is shown, beside the package that it is in.
            limits: bounds of its own, as `{"memory_bytes": 100_000_000}`.

        Raises:
            ConfigError: the signature cannot be a schema, annotations do not fit it, or the function cannot
                run in a process of its own.
        """
        where, annotations = apart(options, is_confined=confined)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            place = self._place(function, where) if confined else None
            runs = Runs.CONFINED if confined else Runs.IN_PROCESS
            tool = tool_of(function, name=name, description=description, annotations=annotations, runs=runs)
            return cast("Callable[P, R]", self._governed(tool, place))

        return decorate if function is None else decorate(function)

    def enforce(self, body: Body, *, session: OpenSession | None = None) -> Any:
        """Send one call of an adapter's through the flow (for adapters)."""
        return drive(enforce(), self._shell(body, session))

    async def aenforce(self, body: Body, *, session: OpenSession | None = None) -> Any:
        """`enforce`, awaited (for adapters)."""
        return await adrive(enforce(), self._shell(body, session or await self.afind_session()))

    # --- the operator's side, in process ---

    @property
    def ledger(self) -> Ledger:
        """The ledger that this guard records in."""
        return self._ledger

    @property
    def pdp(self) -> Pdp:
        """The policy decision point that this guard asks."""
        return self._pdp

    @property
    def bundle(self) -> Bundle:
        """The policies that decide now."""
        return self._pdp.bundle

    def reload(self) -> str:
        """Read the policies again and decide by them from the next call on; the revision that decides now.

        Calls that wait for a person are decided again afterwards, and go on where the decision is the same.

        Raises:
            ConfigError: they are refused; those in use stay. Recorded and logged, too.
        """
        if not self._is_embedded:
            raise ConfigError(_NO_RELOAD)
        return self._pdp.reload(self._policies_changed)

    @property
    def jobs(self) -> Jobs:
        """The confined processes that run now; a stop ends them (for adapters)."""
        return self._jobs

    @property
    def protected_paths(self) -> tuple[str, ...]:
        """Paths that no confined code may ever write: the ledger's, the policies' (for adapters)."""
        return (*self._folders, self._ledger.path, f"{self._ledger.path}.leases")

    def close(self) -> None:
        """End the engine's workers and close the ledger. Waiting calls are cancelled."""
        self._unwatch()
        if self._unwatch_policies is not None:
            self._unwatch_policies()
        self._hands.waiters.give_up()
        self._hands.threads.shutdown(wait=False)
        self._hands.bodies.shutdown(wait=False)
        self._pdp.close()
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    # --- parts ---

    def _shell(self, body: Body, session: OpenSession | None) -> CallShell:
        return CallShell(self._hands, session or self.find_session(), body)

    def _tool(
        self, name: str, run: Callable[..., object], annotations: Annotations | Mapping[str, object] | None
    ) -> FunctionTool:
        key = (name, run, repr(annotations))
        try:
            found = self._definitions.get(key)
        except TypeError:  # a callable that cannot be hashed is read anew each time
            return tool_of(run, name=name, annotations=annotations)
        if found is None:
            if len(self._definitions) >= MAX_DEFINITIONS:
                self._definitions.clear()
            found = self._definitions[key] = tool_of(run, name=name, annotations=annotations)
        return found

    def _place(self, function: Callable[..., object], where: Mapping[str, Any]) -> Place:
        from fumehood.confined_function import Confinement, place_of

        return place_of(self, function, Confinement(**where))

    def _governed(self, tool: FunctionTool, place: Place | None) -> Callable[..., object]:
        function = tool.function

        def body(args: tuple[object, ...], kwargs: Mapping[str, object]) -> FunctionBody:
            given = partial(tool.arguments, args, kwargs)
            return FunctionBody(tool, given) if place is None else place.body(tool, given)

        def call(*args: object, **kwargs: object) -> object:
            return self.enforce(body(args, kwargs))

        async def acall(*args: object, **kwargs: object) -> object:
            return await self.aenforce(body(args, kwargs))

        is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        governed: Callable[..., Any] = acall if is_async else call
        update_wrapper(governed, function)
        del governed.__wrapped__  # type: ignore[attr-defined]  # nothing public leads round the guard
        governed.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        governed.fumehood_definition = tool.definition  # type: ignore[attr-defined]  # for `fumehood policy new`
        if place is not None:
            place.remember(governed, tool)
        return governed

    def _new_approval(self, wish: Ask) -> Approval:
        call, question, now = wish.call, wish.question, time.time()
        waits_for_ever = question.on_timeout == "wait"
        return Approval(
            id=secrets.token_hex(4),
            revision=1,
            state=State.PENDING,
            session_id=call.session.id,
            attempt_id=call.attempt_id,
            agent=call.session.subject.id,
            user=call.session.subject.user,
            tool=call.tool.name,
            definition_digest=call.tool.digest,
            call_id=call.call_id,
            digest=call.digest,
            args=redacted_args(call),
            injected=call.injected,
            reasons=wish.decision.approvals,
            policy_revision=wish.decision.revision,
            rules=wish.decision.rules,
            created_at=now,
            expires_at=None if waits_for_ever else now + question.timeout_s,
            lease=self._ledger.lease,
            waiter=this_process(),
        )

    def _announce(self, approval: Approval) -> None:
        """One line on stderr: what waits, and how to decide it."""
        until = "" if approval.expires_at is None else f" until {_clock(approval.expires_at)}"
        where = "" if self._ledger.path == str(default_path()) else f" --ledger {inert(self._ledger.path)}"
        sys.stderr.write(
            f"fumehood: {inert(approval.agent)} waits{until} for a person to decide {inert(approval.tool)} "
            f"({approval.risk.value} risk): fumehood approvals show|approve|deny {approval.id}{where}\n"
        )
        sys.stderr.flush()
        if self._on_pending is not None:
            self._on_pending(approval)

    def _policies_changed(self, kind: str, summary: str) -> None:
        """A line in the log and an event in the record: nobody is to wonder which policies decide."""
        say = logger().error if kind == "policy_refused" else logger().info
        say(kind, said=summary)
        if kind == "policy_reloaded":
            warn_of_parsers(self.bundle)
        with suppress(LedgerError):  # calls find out for themselves
            self._ledger.note(Session("policies", Subject("fumehood")), kind, summary)

    def _look(self) -> None:
        self._hands.waiters.look()
        self._jobs.look()


def _forget_after_fork(guard: Guard) -> None:
    """In a forked child the threads of the parent do not exist: open new ones."""
    there = weakref.ref(guard)

    def reopen() -> None:
        found = there()
        if found is not None:
            found._open_hands()

    os.register_at_fork(after_in_child=reopen)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%SZ")
