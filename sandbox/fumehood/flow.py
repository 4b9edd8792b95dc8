"""What happens to one tool call, from arguments to released result. Read this file to trust the rest.

`enforce` is a generator: it yields *wishes* (values such as `Evaluate`, `Ask`, `Run`) and receives
what came of them. It never awaits, sleeps, logs or reads a clock, so the same lines serve
synchronous and asynchronous callers, and a test can play any story against it by answering wishes.
`drive` and `adrive` at the end are the only two ways to run it.

    1 Bind       arguments, once, to one canonical document; that document is what runs
    2 Assemble   history, counters, provenance → the policy input
    3 Evaluate   the policy → a decision; an obligation that nobody knows is a denial
    4 Record     the decision, stops and limits in the same transaction, before anything runs
    5 Ask        a person, if a rule says so; bound to the digest of what they are shown
    6 Re-decide  after waiting; it stands only if nothing about it changed
    7 Claim      every call that is not a read: once per (session, call id, digest)
    8 Run        in this process, or confined under the strictest profile that any rule named
    9 Evaluate   the result → redact, label or withhold
   10 Record     the outcome

A policy that is only observed (`observe_mode`) is asked and recorded as any other. What it refuses is
already left out of the decision that comes back from step 3 or 9; nothing below knows of it.

Whatever goes wrong before step 8 is `Denied`: nothing ran. Whatever goes wrong after it is
`Withheld`: the tool ran and its result is not released.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar, cast

from fumehood.approval import Approval, IllegalTransition, State, ended, joined, refusal
from fumehood.binding import Bound
from fumehood.canonical import JSON
from fumehood.display import clip, inert
from fumehood.errors import BindError, ConfinementError, Denied, LedgerError, PdpError, Withheld
from fumehood.model import Confine, Decision, Effect, PolicyInput, Reason, Runs, ToolCall, understood
from fumehood.release import Shown, redact
from fumehood.wishes import (
    Ask,
    Assemble,
    AssembleResult,
    Bind,
    Claim,
    Claimed,
    Drop,
    Earlier,
    Evaluate,
    Finish,
    Flow,
    IsInterrupt,
    Rebuild,
    Record,
    Replay,
    Run,
    View,
    Wish,
    want,
)

__all__ = ["Flow", "Shell", "adrive", "drive", "enforce"]

MAX_WORDS = 500  # characters of a refusal that names an argument: its name is the model's choice

T = TypeVar("T")


def enforce() -> Flow[object]:
    """Run one call only if it is permitted and every obligation is met.

    Raises:
        Denied: nothing was run.
        Withheld: it ran, and its result is not released.
        Exception: the tool's own, where the policy lets it pass.
    """
    try:
        call, bound = yield from want(Bind())
        earlier = yield from want(Earlier(call))
        if earlier is not None:
            return (yield from repeated(earlier))
        decision = yield from decided(call, bound)
        approval = yield from approved(call, bound, decision) if decision.approvals else nothing()
        is_claimed = approval is not None or not call.is_read
        if is_claimed:
            claim = yield from want(Claim(call, approval))
            if not claim.is_mine:
                return (yield from repeated(claim))
    except Denied:
        raise
    except BindError as error:
        raise Denied(as_denial(error)) from None  # what lies behind it quotes the arguments
    except Exception as error:
        raise Denied(as_denial(error)) from error
    return (yield from released(call, bound, decision.confinements, is_claimed=is_claimed))


def decided(call: ToolCall, bound: Bound) -> Flow[Decision]:
    """Steps 2 to 4: a permit that is on record. Denials are recorded too, then raised."""
    document, decision = yield from evaluated(call, bound)
    decision = yield from want(Record(call, decision, document))
    if not decision.is_permit:
        raise Denied(decision)
    return decision


def evaluated(call: ToolCall, bound: Bound) -> Flow[tuple[PolicyInput | None, Decision]]:
    """What the policy says of the call. A PDP that cannot say is a denial, with the code of why."""
    document: PolicyInput | None = None
    try:
        document = yield from want(Assemble(call, bound))
        decision = understood((yield from want(Evaluate(document))))
    except PdpError as error:
        return document, Decision(Effect.INDETERMINATE, as_denial(error).reasons)
    if decision.confinements and call.tool.runs is not Runs.CONFINED:
        text = f"the policy wants {call.tool.name} confined, and this tool runs in the agent's own process"
        remedy = "Its developer can let it run confined: @guard.tool(confined=True)."
        reason = Reason("cannot_confine", text, remedy)
        return document, decision.refused(reason)
    return document, decision


def approved(call: ToolCall, bound: Bound, decision: Decision) -> Flow[Approval | None]:
    """Steps 5 and 6: a person agreed, and the policy still says what it said when they were asked."""
    approval = yield from want(Ask(call, joined(decision.approvals), decision))
    if approval.state is not State.APPROVED:
        refused = refusal(approval)
        yield from want(Record(call, refused, None, count_limits=False))
        raise Denied(refused)
    try:
        document, again = yield from evaluated(call, bound)
    except BaseException:
        yield from want(Drop(approval))
        raise
    if not again.same_as(decision):
        text = "the policy's answer changed while a person was being asked; call again to be decided anew"
        changed = Decision.deny("decision_changed", text, revision=again.revision, retryable=True)
        yield from want(Drop(approval))
        yield from want(Record(call, changed, document, count_limits=False))
        raise Denied(changed)
    return approval


def repeated(earlier: Claimed) -> Flow[object]:
    """The same call came again (a resume, a retry): it is not made twice."""
    if earlier.state == "done" and earlier.is_kept:
        return (yield from want(Replay(earlier.view)))
    words = {
        "done": ("already_done", f"this call was already done at {earlier.when}; its result was not kept"),
        "open": ("already_running", f"this call is already running since {earlier.when}"),
        "outcome_unknown": (
            "outcome_unknown",
            f"this call was begun at {earlier.when} and its outcome is unknown; "
            "it is not repeated: a person has to look",
        ),
    }
    raise Denied(Decision.deny(*words[earlier.state]))


def released(
    call: ToolCall, bound: Bound, confinements: tuple[Confine, ...], *, is_claimed: bool
) -> Flow[object]:
    """Steps 8 to 10. From here on the tool may have run, so failures are `Withheld`."""
    try:
        result = yield from want(Run(call, bound, confinements))
    except (Denied, Withheld) as error:  # a governed call inside this one was refused; this one did run
        yield from finished(Finish(call, "failed", is_claimed, error=error))
        text = f"a call that {call.tool.name} made was refused: {error.code}"
        raise Withheld(Decision.deny("inner_call_refused", text, detail=str(error))) from None
    except Exception as error:
        if isinstance(error, ConfinementError) and call.tool.runs is Runs.CONFINED:  # nothing ran
            yield from finished(Finish(call, "failed", is_claimed, error=error))
            raise Denied(as_denial(error)) from error
        yield from failed(call, error, is_claimed=is_claimed)
        raise
    except BaseException as error:  # cancelled: the body may have been anywhere
        with suppress(Withheld):  # not recorded: the session is halted, and the caller still cancelled
            yield from finished(Finish(call, "outcome_unknown", is_claimed, error=error))
        raise
    return (yield from passed(call, result, is_claimed=is_claimed))


def passed(call: ToolCall, result: object, *, is_claimed: bool) -> Flow[object]:
    """Step 9 for a result: what the agent may see of it."""
    try:
        view = yield from want(View(result))
        decision = yield from judged(call, view, is_error=False)
        shown = redact(view, decision.redactions)
        if shown.is_changed:
            result = yield from want(Rebuild(result, shown.value))
    except Exception as error:  # noqa: BLE001 - whatever it is, the tool ran and nothing is released
        withheld = as_denial(error)
        yield from finished(Finish(call, "done", is_claimed, withheld=withheld, judged=withheld))
        raise Withheld(withheld) from None
    if not decision.is_permit:
        yield from finished(Finish(call, "done", is_claimed, withheld=decision, judged=decision))
        raise Withheld(decision)
    labels = decision.labels or (call.tool.annotations.result.value,)
    outcome = Finish(call, "done", is_claimed, shown.value, is_kept=True, labels=labels, judged=decision)
    yield from finished(replace(outcome, observed=decision.observed))
    return result


def failed(call: ToolCall, error: Exception, *, is_claimed: bool) -> Flow[None]:
    """Step 9 for the tool's own exception: returns if it may pass as it is, else raises `Withheld`."""
    if (yield from want(IsInterrupt(error))):
        yield from finished(Finish(call, "interrupted", is_claimed))
        return
    try:
        view = yield from want(View(error))
        decision = yield from judged(call, view, is_error=True)
        shown = redact(view, decision.redactions)
    except Exception as problem:  # noqa: BLE001 - whatever it is, the tool ran and nothing is released
        decision, shown = as_denial(problem), Shown(None, is_changed=False)
    said = decision
    if shown.is_changed:
        text = "the tool failed, and the policy redacts part of what it said"
        decision = Decision.deny("error_redacted", text, revision=decision.revision)
    withheld = None if decision.is_permit else decision
    labels = decision.labels or (call.tool.annotations.result.value,)
    outcome = Finish(call, "failed", is_claimed, shown.value, error=error, labels=labels, withheld=withheld)
    yield from finished(replace(outcome, observed=decision.observed, judged=said))
    if withheld is not None:
        raise Withheld(withheld) from None


def judged(call: ToolCall, view: JSON, *, is_error: bool) -> Flow[Decision]:
    """What the policy says of a result; without any rule that could speak, it is released untrusted."""
    document = yield from want(AssembleResult(call, view, is_error))
    if document is None:
        return Decision(Effect.PERMIT)
    return understood((yield from want(Evaluate(document))))


def finished(outcome: Finish) -> Flow[None]:
    """Step 10. An outcome that cannot be recorded withholds the result."""
    try:
        yield from want(outcome)
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows what the record says
        text = "the tool ran, but its outcome could not be recorded"
        raise Withheld(Decision.deny("outcome_unknown", text, detail=str(error))) from None


def nothing() -> Flow[None]:
    """A flow that wishes for nothing."""
    yield from ()


def as_denial(error: Exception) -> Decision:
    """The denial that stands for an error of our own; its words hold no value of the call's."""
    if isinstance(error, Denied | Withheld):
        return error.decision
    if isinstance(error, BindError):
        return Decision.deny("bad_arguments", clip(inert(str(error)), MAX_WORDS))
    if isinstance(error, IllegalTransition):  # of the approval, at the claim
        return Decision.deny_with(ended(error.state))
    if isinstance(error, PdpError):
        return Decision.deny(error.code, "the policy engine gave no usable answer", detail=str(error))
    if isinstance(error, LedgerError):
        texts = {"stopped": "this run was stopped by an operator"}
        return Decision.deny(
            error.code, texts.get(error.code, "the ledger cannot be used"), detail=str(error)
        )
    if isinstance(error, ConfinementError):
        return Decision.deny("cannot_confine", "this host cannot confine the call", detail=str(error))
    detail = f"{type(error).__name__}: {error}"
    return Decision.deny("internal_error", "the guard failed; nothing is released", detail=detail)


# --- the two ways to run it ------------------------------------------------------------------------


class Shell(Protocol):
    """Fulfils wishes: `perform` blocks, `aperform` must not block the loop."""

    def perform(self, wish: Wish[object], /) -> object: ...
    async def aperform(self, wish: Wish[object], /) -> object: ...


def bare(error: Withheld) -> Withheld:
    """*error* without what leads back to the result: frames, and exceptions behind it."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def drive(flow: Flow[T], shell: Shell) -> T:
    """Run *flow* to its end in this thread."""
    try:
        wish = next(flow)
        while True:
            try:
                reply = shell.perform(wish)
            except BaseException as raised:  # noqa: BLE001 - the flow decides what each error means
                wish = flow.throw(raised)
            else:
                wish = flow.send(reply)
    except StopIteration as stop:
        return cast("T", stop.value)
    except Withheld as withheld:
        error = bare(withheld)
    raise error


async def adrive(flow: Flow[T], shell: Shell) -> T:
    """Run *flow* to its end on this event loop."""
    try:
        wish = next(flow)
        while True:
            try:
                reply = await shell.aperform(wish)
            except BaseException as raised:  # noqa: BLE001 - the flow decides what each error means
                wish = flow.throw(raised)
            else:
                wish = flow.send(reply)
    except StopIteration as stop:
        return cast("T", stop.value)
    except Withheld as withheld:
        error = bare(withheld)
    raise error
