"""`fumehood stop`: the hand on the sash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fumehood.cli.failures import UnknownIdError
from fumehood.cli.output import (
    clock,
    echo_json,
    json_option,
    ledger_option,
    open_existing,
    print_table,
    user_name,
)
from fumehood.display import inert

if TYPE_CHECKING:
    from fumehood.ledger import Ledger, Stop, StopScope

__all__ = ["stop"]


@click.command()
@click.argument("target", required=False, metavar="[SESSION|AGENT]")
@click.option("--all", "is_all", is_flag=True, help="Everything in this ledger.")
@click.option("--as", "kind", type=click.Choice(["session", "agent"]), help="What the name is, if it is new.")
@click.option("--lift", "is_lift", is_flag=True, help="Take the stop away again.")
@click.option("--list", "is_list", is_flag=True, help="List the stops that stand.")
@click.option("--reason", default="", help="Recorded, and shown to operators.")
@ledger_option
@json_option
def stop(
    *,
    target: str | None,
    is_all: bool,
    kind: str | None,
    is_lift: bool,
    is_list: bool,
    reason: str,
    ledger: str | None,
    as_json: bool,
) -> None:
    """Stop a session, an agent, or everything.

    What waits is cancelled, what runs confined is killed, and later calls are denied until the stop
    is lifted. Code that runs in the agent's own process cannot be interrupted; it gets no further call.
    """
    if is_list:
        _list(open_existing(ledger), as_json=as_json)
        return
    if (target is None) == (not is_all):
        raise click.UsageError("name a session or an agent, or say --all (or --list)")
    book = open_existing(ledger)
    scope, value = _scope(book, target, kind)
    if is_lift:
        _lift(book, scope, value, as_json=as_json)
    else:
        _stop(book, scope, value, reason, as_json=as_json)


def _scope(book: Ledger, target: str | None, kind: str | None) -> tuple[StopScope, str]:
    from fumehood.ledger import StopScope

    if target is None:
        return StopScope.ALL, ""
    if kind is not None:
        return StopScope(kind), target
    try:
        return book.scope_of(target), target
    except KeyError as error:
        raise UnknownIdError(f"{error.args[0]}; say which with --as session or --as agent") from error


def _stop(book: Ledger, scope: StopScope, value: str, reason: str, *, as_json: bool) -> None:
    made = book.stop(scope, value, by=user_name(), reason=reason)
    if as_json:
        echo_json(_as_dict(made))
    else:
        again = f"fumehood stop --lift {inert(value) or '--all'}"
        click.echo(f"stopped {_whom(made)}; later calls are denied until: {again}")


def _lift(book: Ledger, scope: StopScope, value: str, *, as_json: bool) -> None:
    count = book.lift(scope, value, by=user_name())
    if as_json:
        echo_json({"lifted": count, "scope": scope.value, "value": value})
    elif count:
        click.echo(f"lifted {count} stop{'s' if count > 1 else ''}")
    if not count:
        if not as_json:
            click.echo(f"no stop of {scope.value} {inert(value)} stands".replace("  ", " "), err=True)
        raise click.exceptions.Exit(1)


def _list(book: Ledger, *, as_json: bool) -> None:
    found = book.stops()
    if as_json:
        echo_json([_as_dict(s) for s in found])
    elif not found:
        click.echo("no stop stands")
    else:
        rows = [(clock(s.at), s.scope.value, s.value, s.by, s.reason) for s in found]
        print_table(("SINCE", "WHAT", "NAME", "BY", "WHY"), rows)


def _whom(made: Stop) -> str:
    return "everything" if not made.value else f"{made.scope.value} {inert(made.value)}"


def _as_dict(made: Stop) -> dict[str, object]:
    return {
        "seq": made.seq,
        "scope": made.scope.value,
        "value": made.value,
        "by": made.by,
        "reason": made.reason,
        "at": made.at,
    }
