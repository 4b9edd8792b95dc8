"""`fumehood approvals`: what waits for a person, and a person's answer."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from fumehood.approval import Approval, IllegalTransition, Move, State, Verdict
from fumehood.cli.failures import known_ids
from fumehood.cli.output import (
    ago,
    clock,
    describe_ledger,
    echo_json,
    json_option,
    ledger_json,
    ledger_option,
    open_existing,
    print_table,
    user_name,
)
from fumehood.display import inert, pretty
from fumehood.model import Approve, Risk

if TYPE_CHECKING:
    from fumehood.ledger import Ledger

__all__ = ["approvals"]

_MARKS = {Risk.HIGH: "HIGH", Risk.MEDIUM: "med", Risk.LOW: "low"}


@click.group()
def approvals() -> None:
    """List, show, approve and deny what waits for a person.

    ID may be the beginning of an id (four characters at least) if it is the only one that begins so.
    """


@approvals.command()
@click.option("--all", "is_all", is_flag=True, help="Those that are decided as well.")
@ledger_option
@json_option
def ls(*, is_all: bool, ledger: str | None, as_json: bool) -> None:
    """List what waits, the oldest first."""
    book = open_existing(ledger)
    found = book.approvals(tuple(State) if is_all else (State.PENDING,), limit=-1)
    if as_json:
        echo_json({"ledger": ledger_json(book), "approvals": [as_dict(a) for a in found]})
        return
    click.echo(describe_ledger(book))
    if not found:
        click.echo("nothing waits for a person" if not is_all else "nothing was ever asked here")
        return
    headers = ("RISK", "LEFT" if not is_all else "STATE", "ID", "TOOL", "AGENT", "WHY")
    print_table(headers, [_row(a, with_state=is_all) for a in found])


@approvals.command()
@click.argument("id")
@ledger_option
@json_option
def show(*, id: str, ledger: str | None, as_json: bool) -> None:
    """Show one request: its arguments in full, and why somebody has to look."""
    approval = _found(open_existing(ledger), id)
    if as_json:
        echo_json(as_dict(approval))
    else:
        click.echo(described(approval))


@approvals.command()
@click.argument("id")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask (low and medium risk).")
@click.option("--confirm", metavar="ID", help="The whole id again: what a request of high risk needs.")
@click.option("--note", help="Recorded with the verdict.")
@ledger_option
@json_option
def approve(
    *, id: str, is_sure: bool, confirm: str | None, note: str | None, ledger: str | None, as_json: bool
) -> None:
    """Show a request, then approve it: exactly what was shown, once.

    Risk high: the whole id has to be typed, or given as --confirm.
    """
    book = open_existing(ledger)
    approval = _found(book, id)
    click.echo(described(approval), err=as_json)
    _require_pending(approval, Move.APPROVE)
    _confirm(approval, is_sure=is_sure, confirm=confirm)
    _give(book, approval, Move.APPROVE, note, as_json=as_json)


@approvals.command()
@click.argument("id")
@click.option("--reason", help="The agent is told.")
@ledger_option
@json_option
def deny(*, id: str, reason: str | None, ledger: str | None, as_json: bool) -> None:
    """Refuse a request: the call is not made."""
    book = open_existing(ledger)
    _give(book, _found(book, id), Move.DENY, reason, as_json=as_json)


def as_dict(approval: Approval) -> dict[str, object]:
    """A request for a program; times are Unix seconds."""
    return {
        "id": approval.id,
        "revision": approval.revision,
        "state": approval.state.value,
        "risk": approval.risk.value,
        "tool": approval.tool,
        "args": json.loads(approval.args),
        "injected": list(approval.injected),
        "agent": approval.agent,
        "user": approval.user,
        "session_id": approval.session_id,
        "attempt_id": approval.attempt_id,
        "call_id": approval.call_id,
        "reasons": [_reason_dict(r) for r in approval.reasons],
        "rules": list(approval.rules),
        "policy_revision": approval.policy_revision,
        "definition_digest": approval.definition_digest,
        "digest": approval.digest,
        "created_at": approval.created_at,
        "expires_at": approval.expires_at,
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at,
        "note": approval.note,
    }


def described(approval: Approval) -> str:
    """A request for a person: everything that a verdict is about, inert and in full."""
    lines = [
        f"request  {inert(approval.id)} ({_state(approval)})",
        f"risk     {_MARKS[approval.risk]}",
        f"tool     {inert(approval.tool)}",
        f"agent    {inert(approval.agent)}" + (f" for {inert(approval.user)}" if approval.user else ""),
        f"session  {inert(approval.session_id)}",
    ]
    for reason in approval.reasons:
        lines.append(
            f"why      {inert(reason.reason)}" + (f"  [{inert(reason.rule)}]" if reason.rule else "")
        )
    if approval.injected:
        lines.append(
            f"injected {', '.join(map(inert, approval.injected))} (not bound: added after the decision)"
        )
    lines.append("arguments")
    lines += [f"  {line}" for line in pretty(approval.args).splitlines()]
    return "\n".join(lines)


def _found(book: Ledger, id: str) -> Approval:
    with known_ids():
        return book.approval(id)


def _state(approval: Approval) -> str:
    if approval.state is not State.PENDING:
        who = f" by {inert(approval.decided_by)}" if approval.decided_by else ""
        return approval.state.value + who + (f": {inert(approval.note)}" if approval.note else "")
    if approval.expires_at is None:
        return "pending, without end"
    return f"pending until {clock(approval.expires_at)}"


def _row(approval: Approval, *, with_state: bool) -> tuple[str, ...]:
    left = approval.state.value if with_state else _left(approval.expires_at)
    why = "; ".join(r.reason for r in approval.reasons)
    return (_MARKS[approval.risk], left, approval.id, approval.tool, approval.agent, why)


def _left(expires_at: float | None) -> str:
    if expires_at is None:
        return "no end"
    return ago(expires_at) if expires_at > time.time() else "over"


def _require_pending(approval: Approval, move: Move) -> None:
    if approval.state is not State.PENDING:
        raise IllegalTransition(approval.state, move)


def _confirm(approval: Approval, *, is_sure: bool, confirm: str | None) -> None:
    """A person's yes. Without a terminal the command itself is one, but for high risk."""
    is_asked = sys.stdin.isatty()
    if approval.risk is Risk.HIGH:
        if confirm is None and is_asked:
            confirm = click.prompt("This is of high risk. Type the whole id to approve", err=True)
        if confirm != approval.id:
            raise click.UsageError(
                f"a request of high risk needs its whole id again: --confirm {inert(approval.id)}"
            )
    elif confirm is not None and confirm != approval.id:
        raise click.UsageError(f"--confirm names another request than {inert(approval.id)}")
    elif is_asked and not is_sure and confirm is None:
        click.confirm("Approve?", abort=True, err=True)


def _give(book: Ledger, approval: Approval, move: Move, note: str | None, *, as_json: bool) -> None:
    verdict = Verdict(approval.id, approval.revision, approval.digest, move, user_name(), note)
    after = book.decide(verdict)
    if as_json:
        echo_json(as_dict(after))
    else:
        click.echo(f"{after.state.value} {inert(after.id)} ({inert(after.tool)})")


def _reason_dict(reason: Approve) -> dict[str, object]:
    return {
        "reason": reason.reason,
        "risk": reason.risk.value,
        "timeout_s": reason.timeout_s,
        "on_timeout": reason.on_timeout,
        "controls": list(reason.controls),
        "rule": reason.rule,
    }
