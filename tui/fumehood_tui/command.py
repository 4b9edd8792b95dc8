"""`fumehood tui`: found by entry point. Loads textual only when it runs."""

from __future__ import annotations

import locale
import os
import sys

import click

__all__ = ["tui"]


class _Unusable(click.ClickException):
    """The ledger is there and cannot be used."""

    exit_code = 5


@click.command()
@click.option(
    "--ledger", type=click.Path(), help="The ledger's file [default: $FUMEHOOD_LEDGER, else XDG state]."
)
@click.option("--ascii", "is_ascii", is_flag=True, help="Draw with ASCII only; other characters as <U+XXXX>.")
@click.option(
    "--no-color", "is_colorless", is_flag=True, help="Words and signs, no colour; so does $NO_COLOR."
)
def tui(ledger: str | None, is_ascii: bool, is_colorless: bool) -> None:
    """Watch live traces; approve, deny and stop, in a terminal.

    Waits for the ledger if it does not exist yet. What waits goes on waiting when this is closed.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            "this needs a terminal on both ends; in a script use: fumehood approvals ls, fumehood trace tail"
        )
    _run(ledger, is_ascii=is_ascii or _needs_ascii(), is_colorless=is_colorless)


def _needs_ascii() -> bool:
    """True where the locale or the terminal cannot show more than ASCII."""
    encoding = locale.getpreferredencoding(False).lower().replace("-", "")
    return encoding != "utf8" or os.environ.get("TERM") == "linux"


def _run(ledger: str | None, /, *, is_ascii: bool, is_colorless: bool) -> None:
    from fumehood.display import inert
    from fumehood.errors import LedgerError
    from fumehood.ledger import open_ledger
    from fumehood.ledger.files import locate
    from fumehood_tui.app import FumehoodApp
    from fumehood_tui.store import Store

    store = Store(locate(ledger), open_ledger)
    try:
        store.poll()  # an unusable ledger is said here, in the shell, with its own exit code
        app = FumehoodApp(store, is_ascii=is_ascii, is_colorless=is_colorless)
        app.run()
    except (LedgerError, OSError) as error:
        raise _Unusable(inert(str(error))) from error
    finally:
        store.close()
    if app.return_code:
        sys.exit(app.return_code)
