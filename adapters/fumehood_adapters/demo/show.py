"""How the demo looks: its progress, a table of each story's calls, the end. All text is inert."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import click

from fumehood.cli.output import print_table
from fumehood.display import clip, inert
from fumehood_adapters.demo.record import Happened, as_words
from fumehood_adapters.demo.stories import Story

__all__ = ["begun", "ended", "next_commands", "progress", "table", "tried"]

_HEADERS = ("SEQ", "TOOL", "ARGUMENTS", "DECISION", "RAN", "WHY")
_WIDEST = 32
_FOLD = 3  # so many rows that say the same are shown; of more, the first and the last

_WHY = {
    "limit_exceeded": "the limit is reached",
    "denied_by_policy": "the policy refuses it",
}


def begun(told: Story, number: int, count: int, models: str, *, err: bool) -> None:
    """The head of one story."""
    click.echo(f"\n{number}/{count}  {told.name}: {told.title}", err=err)
    click.echo(f"     {told.user} says: {inert(told.prompt.format(models=models))}", err=err)


def progress(line: dict[str, Any], *, err: bool) -> None:
    """What a child process told, in one line."""
    if line["what"] == "waits":
        words = f"waits     {line['tool']} {as_words(line['args'])}  ({line['risk']} risk: {line['why']})"
    elif line["what"] == "decides":
        reason = shlex.quote(line["reason"])
        words = f"operator  $ fumehood approvals deny {line['id']} --reason {reason}"
    elif line["what"] == "text":
        words = line["text"]
    else:
        return
    click.echo(f"     {inert(clip(words, 400))}", err=err)


def table(calls: Sequence[Happened], *, agent: str, user: str, session: str) -> None:
    """What the ledger has of one session."""
    click.echo(f"     In the record: agent {inert(agent)}, for {user}, session {inert(session)}\n")
    rows = [_row(call) for call in calls]
    folded = [row for _, same in groupby(rows, key=_alike) for row in _folded(list(same))]
    print_table(_HEADERS, folded)


def tried(calls: Sequence[Happened], got_through: Sequence[str]) -> None:
    """What confined code tried, by the record, and what came of it outside."""
    attempts = [attempt for call in calls for attempt in call.tried]
    if attempts:
        click.echo("\n     What it tried when it was loaded, as the supervisor outside saw it:\n")
        print_table(("TRIED", "VERDICT", "TARGET"), [(what, verdict, to) for what, to, verdict in attempts])
        came = "; ".join(got_through) or "no file was written, nobody connected, no process was started"
        click.echo(f"\n     What came of it outside: {came}.")


def _row(call: Happened) -> tuple[str, ...]:
    ran = ("confined" if call.confinement else "yes") if call.is_run else "no"
    why = "; ".join(call.asks) or _WHY.get(call.ends, "" if call.is_run else call.ends)
    return (str(call.seq), call.tool, _short(as_words(call.args)), _decision(call), ran, why)


def _short(text: str) -> str:
    """*text* without its middle, where it is long."""
    return text if len(text) <= _WIDEST else f"{text[:5]}…{text[6 - _WIDEST :]}"


def _decision(call: Happened) -> str:
    if call.asks:
        return f"asked: {call.answer or 'no answer'}"
    return "permit" if call.is_run else "deny"


def _alike(row: tuple[str, ...]) -> tuple[str, ...]:
    return row[1], *row[3:]


def _folded(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    if len(rows) <= _FOLD:
        return rows
    return [rows[0], ("…", rows[0][1], f"({len(rows) - 2} more)", *rows[0][3:]), rows[-1]]


def next_commands(ledger: str, calls: Sequence[Happened]) -> list[str]:
    """Four commands that work on what this run left behind."""
    where = f"--ledger {shlex.quote(inert(ledger))}"
    seq = next((c.seq for c in calls if c.asks), next((c.seq for c in calls), 1))
    return [
        f"fumehood trace tail -n 40 {where}",
        f"fumehood trace show {seq} --input {where}",
        f"fumehood approvals ls --all {where}",
        f"fumehood tui {where}",
    ]


def ended(stories: Sequence[tuple[Story, Sequence[str]]], commands: Sequence[str], folder: str) -> None:
    """What was prevented, what differed, and what to look at next."""
    if kept := [text for told, wrong in stories if not wrong for text in told.prevented]:
        click.echo("\nWhat was prevented")
        for text in kept:
            click.echo(f"  {text}")
    if differed := [(told, text) for told, wrong in stories for text in wrong]:
        click.echo("\nWhat differed from what was expected")
        for told, text in differed:
            click.echo(f"  {told.name}: {inert(clip(text, 400))}")
    click.echo("\nTry next")
    for command in commands:
        click.echo(f"  {command}")
    click.echo(f"\nEverything is kept in {inert(folder)}; remove it when you have seen it.")
