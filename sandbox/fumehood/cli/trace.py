"""`fumehood trace`: what was decided and done, as it happens and afterwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from fumehood.cli.failures import known_ids
from fumehood.cli.output import (
    clock,
    describe_ledger,
    echo_json,
    json_option,
    ledger_option,
    open_existing,
)
from fumehood.display import clip, inert, pretty

if TYPE_CHECKING:
    from fumehood.ledger import Event, Ledger

__all__ = ["trace"]

_PAGE = 1000
_LINE = 300  # characters of a summary in one line of the trace


@click.group()
def trace() -> None:
    """Follow, show and export what was decided and done."""


@trace.command()
@click.option(
    "-n", "count", type=click.IntRange(0), default=20, show_default=True, help="How many to begin with."
)
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on as they happen, until Ctrl-C.")
@click.option("--session", help="Only this session.")
@ledger_option
@json_option
def tail(*, count: int, is_followed: bool, session: str | None, ledger: str | None, as_json: bool) -> None:
    """Print the last events, one a line."""
    book = open_existing(ledger)
    if not as_json:
        click.echo(describe_ledger(book), err=True)
    last = book.last_events(1)
    newest = last[-1].seq if last else 0
    for event in _last(book, count, session):
        _print_line(event, as_json=as_json)
    if is_followed:
        for event in _following(book, newest, session):
            _print_line(event, as_json=as_json)


@trace.command()
@click.argument("seq", type=click.IntRange(1))
@click.option("--input", "is_input", is_flag=True, help="The exact policy input of a decision, as JSON.")
@ledger_option
@json_option
def show(*, seq: int, is_input: bool, ledger: str | None, as_json: bool) -> None:
    """Show one event by its number, with everything that was recorded."""
    book = open_existing(ledger)
    if is_input:
        with known_ids():
            document = book.policy_input(seq)
        echo_json(json.loads(document))
        return
    with known_ids():
        event = book.event(seq)
    if as_json:
        echo_json(as_dict(event))
        return
    click.echo(line(event))
    click.echo(pretty(event.attributes))


@trace.command()
@click.option("--format", "form", type=click.Choice(["jsonl"]), default="jsonl", show_default=True)
@click.option("--session", help="Only this session.")
@ledger_option
def export(*, form: str, session: str | None, ledger: str | None) -> None:
    """Write every event to stdout, one JSON object a line, in ASCII."""
    for event in _pages(open_existing(ledger), 0, session):
        echo_json(as_dict(event), indent=None)


def as_dict(event: Event) -> dict[str, object]:
    """An event for a program. `attributes` has OpenTelemetry's names where they exist."""
    return {
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "session_id": event.session_id,
        "agent": event.agent,
        "tool": event.tool,
        "attempt_id": event.attempt_id,
        "effect": event.effect,
        "summary": event.summary,
        "attributes": json.loads(event.attributes),
    }


def line(event: Event) -> str:
    """An event in one inert line."""
    tool = f" {inert(clip(event.tool, 60))}" if event.tool else ""
    effect = f" {event.effect.upper()}" if event.effect == "deny" else ""
    agent = inert(clip(event.agent, 40)) or "-"
    summary = clip(inert(clip(event.summary, _LINE)), 2 * _LINE)
    return f"{event.seq:>6}  {clock(event.at)}  {agent}  {inert(event.kind)}{tool}{effect}  {summary}"


def _print_line(event: Event, *, as_json: bool) -> None:
    if as_json:
        echo_json(as_dict(event), indent=None)
    else:
        click.echo(line(event))


def _last(book: Ledger, count: int, session: str | None) -> list[Event]:
    if session is None:
        return book.last_events(count)
    return list(_pages(book, 0, session))[-count:] if count else []


def _pages(book: Ledger, after: int, session: str | None) -> Iterator[Event]:
    while page := book.events(after, limit=_PAGE, session=session):
        yield from page
        after = page[-1].seq


def _following(book: Ledger, after: int, session: str | None) -> Iterator[Event]:
    """Events as they come, without polling."""
    changed = threading.Event()
    end = book.watch(changed.set)
    try:
        while True:
            for event in _pages(book, after, session):
                after = event.seq
                yield event
            changed.wait()
            changed.clear()
    finally:
        end()
