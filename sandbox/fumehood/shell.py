"""Fulfils the wishes of one call's flow: the only place where the flow meets the world.

`perform` blocks; `aperform` does the same without blocking the event loop: the ledger and the
policy engine are asked on the guard's own threads, a person is awaited, and a body that is not a
coroutine runs in a thread of the guard's.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from fumehood import wishes
from fumehood.approval import Approval, IllegalTransition, Move
from fumehood.binding import Body, Bound, make_call
from fumehood.canonical import JSON, canonical, parse
from fumehood.errors import BindError, Denied, FumehoodError
from fumehood.ledger.protocol import Claimed, ClaimState, Ledger, Outcome
from fumehood.model import Decision, Pdp, PolicyInput, Runs, ToolCall
from fumehood.parsed import parsed_arguments
from fumehood.policy_input import execute_document, result_document
from fumehood.sessions import OpenSession
from fumehood.waiting import Waiters

__all__ = ["CallShell", "Hands", "current_call"]

_current: ContextVar[CallShell | None] = ContextVar("fumehood_call", default=None)


def current_call() -> CallShell | None:
    """The governed call whose body this code is part of, if any."""
    return _current.get()


@dataclass(frozen=True, slots=True)
class Hands:
    """What a guard lends to each of its calls."""

    pdp: Pdp
    ledger: Ledger
    waiters: Waiters
    threads: Executor
    bodies: Executor
    clock: Callable[[], float]
    can_ask: bool
    announce: Callable[[Approval], None]
    new_approval: Callable[[wishes.Ask], Approval]


@dataclass(slots=True, eq=False)
class CallShell:
    """One call's shell. `detail` is what the record gets beside the outcome (confinement)."""

    hands: Hands
    session: OpenSession
    body: Body
    detail: dict[str, JSON] = field(default_factory=dict)
    call: ToolCall | None = None
    _is_faithful: bool = False
    _began: float = 0.0
    _judged_at: float = 0.0

    def perform(self, wish: wishes.Wish[object], /) -> object:
        """Fulfil *wish*, blocking."""
        return _PERFORM[type(wish)](self, wish)

    async def aperform(self, wish: wishes.Wish[object], /) -> object:
        """Fulfil *wish* without blocking the loop."""
        match wish:
            case wishes.Ask():
                return await self._aask(wish)
            case wishes.Run():
                return await self._arun(wish)
            case wishes.Claim():
                return await self._aclaim(wish)
            case wishes.Bind() | wishes.View() | wishes.Rebuild() | wishes.IsInterrupt() | wishes.Replay():
                return self.perform(wish)
            case _:
                return await asyncio.shield(self._in_thread(self.perform, wish))

    def _in_thread(self, function: Callable[..., object], *args: object) -> asyncio.Future[object]:
        """Begun, it runs to its end, whatever becomes of who awaits it (behind a shield)."""
        return asyncio.get_running_loop().run_in_executor(self.hands.threads, function, *args)

    # --- before it runs ---

    def _bind(self, _: wishes.Bind) -> tuple[ToolCall, Bound]:
        definition = self.body.definition
        if self.session.halted is not None:
            raise Denied(Decision.deny("session_halted", self.session.halted))
        try:
            bound = self.body.bind()
        except BindError as error:
            self._note("refused", f"{definition.name}: bad arguments: {error}")
            raise
        outer = _current.get()
        parent = outer.call.attempt_id if outer is not None and outer.call is not None else None
        self.call = make_call(
            definition, self.session.session, bound, call_id=self.body.call_id, parent_attempt_id=parent
        )
        return self.call, bound

    def _earlier(self, wish: wishes.Earlier) -> wishes.Claimed | None:
        if wish.call.call_id is None:
            return None
        found = self.hands.ledger.find_claim(wish.call)
        return None if found is None else _claimed(found)

    def _assemble(self, wish: wishes.Assemble) -> PolicyInput:
        call, facts = wish.call, self.hands.pdp.facts
        past = self.hands.ledger.past(call.session, with_history=facts.reads_history)
        args = parse(call.args)
        document = execute_document(
            call,
            at=self.hands.clock(),
            history=past.history if facts.reads_history else None,
            counters=past.counters,
            provenance=self.session.provenance(args, call.tool, wish.bound.defaults),
            normalised=parsed_arguments(
                args, facts.reads_parsed, cwd=_cwd(call), sql_dialect=call.tool.annotations.sql_dialect
            ),
        )
        return replace(document, revision=facts.revision)

    def _assemble_result(self, wish: wishes.AssembleResult) -> PolicyInput | None:
        if not self.hands.pdp.facts.has_result_rules:
            return None
        self._judged_at = self.hands.clock()
        return result_document(wish.call, wish.view, at=self._judged_at, is_error=wish.is_error)

    def _evaluate(self, wish: wishes.Evaluate) -> Decision:
        return self.hands.pdp.evaluate(wish.document)

    def _record(self, wish: wishes.Record) -> Decision:
        document = wish.document.body if wish.document is not None else b""
        recorded = self.hands.ledger.record(
            wish.call, wish.decision, document=document, count_limits=wish.count_limits
        )
        return recorded.decision

    # --- asking ---

    def _request(self, wish: wishes.Ask) -> Approval:
        if not self.hands.can_ask:
            text = "this call needs a person's agreement, and nobody can be asked here"
            refused = Decision.deny("nobody_to_ask", text, revision=wish.decision.revision)
            self.hands.ledger.record(wish.call, refused, document=b"", count_limits=False)
            raise Denied(refused)
        return self.hands.new_approval(wish)

    def _ask(self, wish: wishes.Ask) -> Approval:
        approval = self._request(wish)
        future = self.hands.waiters.enter(approval.id)
        try:
            self._begin(approval)
            return self._verdict(future, approval)
        except BaseException:  # whatever it was: nobody waits any more
            self._withdraw(approval)
            raise
        finally:
            self.hands.waiters.leave(approval.id)

    def _verdict(self, future: Future[Approval], approval: Approval) -> Approval:
        try:
            return future.result(self._remaining(approval))
        except FutureTimeout:
            return self._end(approval, Move.EXPIRE)

    async def _aask(self, wish: wishes.Ask) -> Approval:
        approval = self._request(wish) if self.hands.can_ask else await self._off_loop(self._request, wish)
        future = asyncio.wrap_future(self.hands.waiters.enter(approval.id))
        begun = self.hands.threads.submit(self._begin, approval)
        try:
            await asyncio.shield(asyncio.wrap_future(begun))
            return await self._averdict(future, approval)
        except BaseException:  # the run was cancelled: nobody waits any more, however often it is cancelled
            await asyncio.shield(self._in_thread(self._withdraw, approval, begun))
            raise
        finally:
            self.hands.waiters.leave(approval.id)

    async def _averdict(self, future: asyncio.Future[Approval], approval: Approval) -> Approval:
        try:
            async with asyncio.timeout(self._remaining(approval)):
                return await future
        except TimeoutError:
            return cast("Approval", await asyncio.shield(self._in_thread(self._end, approval, Move.EXPIRE)))

    def _withdraw(self, approval: Approval, begun: Future[None] | None = None) -> None:
        """Cancel the request. If that cannot be recorded, its lease ends with this process."""
        if begun is not None:
            wait([begun])
        with suppress(KeyError, FumehoodError):  # KeyError: it was never asked
            self._end(approval, Move.CANCEL)

    def _begin(self, approval: Approval) -> None:
        self.hands.ledger.ask(approval)
        self.hands.announce(approval)
        self.hands.waiters.look(approval.id)

    def _remaining(self, approval: Approval) -> float | None:
        if approval.expires_at is None:
            return None
        return max(0.0, approval.expires_at - self.hands.clock())

    def _end(self, approval: Approval, move: Move) -> Approval:
        try:
            return self.hands.ledger.move(approval.id, move)
        except IllegalTransition:  # a person was faster
            return self.hands.ledger.approval(approval.id)

    def _drop(self, wish: wishes.Drop) -> None:
        self._end(wish.approval, Move.CANCEL)

    # --- running ---

    def _claim(self, wish: wishes.Claim) -> wishes.Claimed:
        approval_id = wish.approval.id if wish.approval is not None else None
        return _claimed(self.hands.ledger.claim(wish.call, approval_id))

    async def _aclaim(self, wish: wishes.Claim) -> wishes.Claimed:
        """Claim; if the run is cancelled meanwhile, give back what was claimed: nothing will run."""
        taken = self.hands.threads.submit(self._claim, wish)
        try:
            return await asyncio.shield(asyncio.wrap_future(taken))
        except asyncio.CancelledError:
            await asyncio.shield(self._in_thread(self._give_back, wish, taken))
            raise

    def _give_back(self, wish: wishes.Claim, taken: Future[wishes.Claimed]) -> None:
        with suppress(FumehoodError):  # it was not taken, or stays open until this process ends
            if taken.result().is_mine:
                self._finish(wishes.Finish(wish.call, "interrupted", is_claimed=True))

    def _run(self, wish: wishes.Run) -> object:
        token = _current.set(self)
        self._began = time.monotonic()
        try:
            return self.body.run(wish.bound, wish.confinements)
        finally:
            _current.reset(token)

    async def _arun(self, wish: wishes.Run) -> object:
        if not self.body.is_async:
            inside = contextvars.copy_context()
            return await self._off_loop(inside.run, self._run, wish, on=self.hands.bodies)
        token = _current.set(self)
        self._began = time.monotonic()
        try:
            return await self.body.arun(wish.bound, wish.confinements)
        finally:
            _current.reset(token)

    async def _off_loop(self, function: Callable[..., Any], *args: object, on: Executor | None = None) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(on or self.hands.threads, function, *args)

    # --- after it ran ---

    def _view(self, wish: wishes.View) -> JSON:
        view, self._is_faithful = self.body.view(wish.result)
        return view

    def _rebuild(self, wish: wishes.Rebuild) -> object:
        return self.body.rebuild(wish.result, wish.view)

    def _replay(self, wish: wishes.Replay) -> object:
        return self.body.replay(wish.view)

    def _is_interrupt(self, wish: wishes.IsInterrupt) -> bool:
        return self.body.is_interrupt(wish.error)

    def _finish(self, wish: wishes.Finish) -> None:
        notes = wish.call.tool.annotations
        is_kept = wish.is_kept and self._is_faithful and not notes.secret_result
        outcome = Outcome(
            state=ClaimState(wish.state),
            result=canonical(wish.view) if is_kept else None,
            error_type=type(wish.error).__name__ if wish.error is not None else None,
            labels=wish.labels,
            withheld=wish.withheld,
            observed=wish.observed,
            judged=wish.judged,
            judged_at=self._judged_at,
            duration_s=time.monotonic() - self._began if self._began else 0.0,
            detail=json.dumps(self.detail).encode(),
        )
        try:
            self.hands.ledger.finish(wish.call, outcome, claimed=wish.is_claimed)
        except Exception:
            self.session.halted = "an outcome could not be recorded, so nothing more is run in this session"
            raise
        if wish.withheld is None and wish.view is not None:
            self.session.learn(wish.call.tool.name, notes, wish.view, wish.labels)

    def _note(self, kind: str, summary: str) -> None:
        self.hands.ledger.note(self.session.session, kind, summary, tool=self.body.definition.name)


_PERFORM: dict[type, Callable[[CallShell, Any], object]] = {
    wishes.Bind: CallShell._bind,
    wishes.Earlier: CallShell._earlier,
    wishes.Assemble: CallShell._assemble,
    wishes.AssembleResult: CallShell._assemble_result,
    wishes.Evaluate: CallShell._evaluate,
    wishes.Record: CallShell._record,
    wishes.Ask: CallShell._ask,
    wishes.Drop: CallShell._drop,
    wishes.Claim: CallShell._claim,
    wishes.Run: CallShell._run,
    wishes.View: CallShell._view,
    wishes.Rebuild: CallShell._rebuild,
    wishes.Replay: CallShell._replay,
    wishes.IsInterrupt: CallShell._is_interrupt,
    wishes.Finish: CallShell._finish,
}


def _cwd(call: ToolCall) -> str | None:
    """What a relative path is relative to: this process's folder, if the tool runs in it."""
    try:
        return os.getcwd() if call.tool.runs is Runs.IN_PROCESS else None  # noqa: PTH109
    except OSError:  # the folder is gone: relative paths mean nothing
        return None


def _claimed(found: Claimed) -> wishes.Claimed:
    when = datetime.fromtimestamp(found.at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    view = parse(found.result) if found.result is not None else None
    return wishes.Claimed(found.is_mine, found.state.value, when, view, is_kept=found.result is not None)
