"""`fumehood policy report`: what policies that are only observed would have stopped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from fumehood.cli.output import (
    describe_ledger,
    each_event,
    echo_json,
    json_option,
    ledger_json,
    ledger_option,
    open_existing,
)
from fumehood.display import inert

if TYPE_CHECKING:
    from fumehood.workbench.report import Group, Report

__all__ = ["report"]

_WORDS = {
    "deny": "would have been DENIED",
    "ask": "would have waited for a person",
    "limit": "would have been over a LIMIT",
    "withhold": "would have been WITHHELD (the result)",
}


@click.command()
@click.option("--session", help="Only this session.")
@click.option("--agent", help="Only this agent.")
@click.option(
    "--examples", type=click.IntRange(0), default=3, show_default=True, help="Calls to name a group."
)
@ledger_option
@json_option
def report(
    *, session: str | None, agent: str | None, examples: int, ledger: str | None, as_json: bool
) -> None:
    """Say what policies that are only observed would have stopped, by rule, tool and agent.

    Guard(…, mode="observe") or mode="observe-packages" observes; see the documentation.

    Exit code: 0 (an observation is no failure), 5 the ledger cannot be used.
    """
    from fumehood.workbench.report import report_on

    book = open_existing(ledger)
    found = report_on(each_event(book, session=session, agent=agent), examples=examples)
    if as_json:
        echo_json({"ledger": ledger_json(book), **dataclasses.asdict(found)})
        return
    click.echo(describe_ledger(book), err=True)
    _print(found)


def _print(found: Report) -> None:
    if not found.observed:
        click.echo(
            'Nothing was observed: every guard that wrote here enforces. See Guard(…, mode="observe").'
        )
        return
    click.echo(
        f"{found.observed} calls were observed, NOT ENFORCED: {found.stopped} of them would not just have "
        f"run, and {found.results} results would have been withheld."
    )
    for group in found.groups:
        _print_group(group)


def _print_group(group: Group) -> None:
    calls = "call" if group.count == 1 else "calls"
    click.echo(f"\n{group.count} {calls} {_WORDS.get(group.would, group.would)} by {inert(group.rule)}")
    click.echo(f"  tool {inert(group.tool)}, agent {inert(group.agent)}: {inert(group.reason)}")
    for example in group.examples:
        detail = f"  ({inert(example.detail)})" if example.detail else ""
        click.echo(f"    {example.seq:>6}  {inert(example.arguments)}{detail}")
    if group.count > len(group.examples) > 0:
        click.echo(f"    … {group.count - len(group.examples)} more")
