"""`fumehood tui`: found by entry point. Loads textual only when it runs."""

from __future__ import annotations

import locale
import os
import sys

import click

__all__ = ["tui"]


@click.command()
@click.option(
    "--ledger", type=click.Path(), help="The ledger's file [default: $FUMEHOOD_LEDGER, else XDG state]."
)
@click.option("--ascii", "is_ascii", is_flag=True, help="Draw with ASCII only; other characters as <U+XXXX>.")
@click.option(
    "--no-color", "is_colorless", is_flag=True, help="Words and signs, no colour; so does $NO_COLOR."
)
def tui(ledger: str | None, is_ascii: bool, is_colorless: bool) -> int:
    """Watch live traces; approve, deny and stop, in a terminal.

    Waits for the ledger if it does not exist yet. What waits goes on waiting when this is closed.
    """
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError(
            "this needs a terminal for stdin, stdout and stderr (it draws on stderr); "
            "in a script use: fumehood approvals ls, fumehood trace tail"
        )
    return _run(ledger, is_ascii=is_ascii or _needs_ascii(), is_colorless=is_colorless)


def _needs_ascii() -> bool:
    """True where the locale or the terminal cannot show more than ASCII."""
    encoding = locale.getpreferredencoding(False).lower().replace("-", "")
    return encoding != "utf8" or os.environ.get("TERM") == "linux"


def _run(ledger: str | None, /, *, is_ascii: bool, is_colorless: bool) -> int:
    from functools import partial

    from fumehood.ledger import open_ledger
    from fumehood.ledger.files import locate
    from fumehood_tui.app import FumehoodApp
    from fumehood_tui.store import Store

    store = Store(locate(ledger), partial(open_ledger, create=False))
    try:
        store.open()  # an unusable ledger is told here, in the shell, with its own exit code
        app = FumehoodApp(store, is_ascii=is_ascii, is_colorless=is_colorless)
        app.run()
    finally:
        store.close()
    return app.return_code or 0
