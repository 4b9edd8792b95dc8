"""What every command shares: its options, JSON, tables, and times. All text goes out inert."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import click

from fumehood.display import clip, inert

if TYPE_CHECKING:
    from fumehood.ledger import Event, Ledger

__all__ = [
    "ago",
    "clock",
    "describe_ledger",
    "each_event",
    "echo_json",
    "json_option",
    "ledger_json",
    "ledger_option",
    "open_existing",
    "print_table",
    "user_name",
]

F = TypeVar("F", bound=Callable[..., object])
_PAGE = 1000  # events in one reading
_WIDEST_CELL = 400  # characters of one cell where there is no terminal to fit into


def ledger_option(command: F) -> F:
    """`--ledger FILE`."""
    text = "The ledger's file [default: $FUMEHOOD_LEDGER, else the XDG state folder]."
    return click.option("--ledger", type=click.Path(), help=text)(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, in ASCII.")(command)


def open_existing(path: str | None) -> Ledger:
    """The ledger at *path*, until the command ends; a command of the shell never makes one.

    Raises:
        LedgerError: it is missing or cannot be used.
    """
    from fumehood.ledger import open_ledger

    opened = open_ledger(path, create=False)
    click.get_current_context().call_on_close(opened.close)
    return opened


def each_event(ledger: Ledger, *, session: str | None = None, agent: str | None = None) -> Iterator[Event]:
    """Every event, oldest first, a page at a time."""
    after = 0
    while page := ledger.events(after, limit=_PAGE, session=session, agent=agent):
        yield from page
        after = page[-1].seq


def echo_json(value: object, *, indent: int | None = 2) -> None:
    """*value* as JSON in printable ASCII: nothing in it can reach a terminal as a command."""
    text = json.dumps(value, ensure_ascii=True, indent=indent, allow_nan=False)
    click.echo(text.replace("\x7f", "\\u007f"))


def describe_ledger(ledger: Ledger) -> str:
    """Which ledger this is, who wrote to it last and when: an empty inbox is usually another ledger."""
    writer = ledger.writer()
    if writer is None:
        return f"ledger {inert(ledger.path)}, nothing written yet"
    about = f", about {inert(writer.agent)}" if writer.agent else ""
    who = f"{inert(writer.program)} (pid {writer.pid}){about}"
    return f"ledger {inert(ledger.path)}, last written {ago(writer.at)} ago by {who}"


def ledger_json(ledger: Ledger) -> dict[str, object]:
    """The same for a program."""
    writer = ledger.writer()
    said: dict[str, object] = {"path": ledger.path, "origin": ledger.origin}
    if writer is not None:
        last = {"agent": writer.agent, "program": writer.program, "pid": writer.pid, "at": writer.at}
        said.update(last_writer=last, age_s=round(max(0.0, time.time() - writer.at), 3))
    return said


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; the last one takes the rest of the terminal's width and is clipped to it."""
    shown = [[clip(inert(cell), _WIDEST_CELL) for cell in row] for row in (headers, *rows)]
    widths = [max(_width(row[i]) for row in shown) for i in range(len(headers) - 1)]
    room = _room() - sum(widths) - 2 * len(widths)
    for row in shown:
        cells = [_padded(cell, width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, _fitted(row[-1], room)]).rstrip())


def clock(at: float) -> str:
    """Local time of day, with the date if it is not today's."""
    when = datetime.fromtimestamp(at).astimezone()
    is_today = when.date() == datetime.now().astimezone().date()
    return when.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S")


def ago(at: float, *, now: float | None = None) -> str:
    """How long it is since *at* (or until it), in one or two units."""
    seconds = abs((time.time() if now is None else now) - at)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def user_name() -> str:
    """The local user's name: a label on a verdict, not proof of anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _room() -> int:
    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else sys.maxsize


def _fitted(text: str, room: int) -> str:
    room = max(room, 8)
    while _width(text) > room:
        text = text[: max(room - 1, len(text) - (_width(text) - room) - 1)].rstrip("…")[: len(text) - 2] + "…"
    return text


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
