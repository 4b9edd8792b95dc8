"""`fumehood policy replay`: recorded calls, decided again by the policies at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fumehood.cli.output import describe_ledger, echo_json, ledger_option, open_existing
from fumehood.cli.policy_keys import signed_option
from fumehood.cli.policy_output import refusing
from fumehood.cli.policy_sources import sources_argument
from fumehood.display import inert

if TYPE_CHECKING:
    from fumehood.pdp.keys import Keys
    from fumehood.workbench.replay_run import Summary

__all__ = ["replay"]

_FAILED = 1


@click.command()
@sources_argument
@signed_option
@click.option("--session", help="Only this session.")
@click.option("--agent", help="Only this agent.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="How to print it; markdown is for a pull request.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--fail-on",
    type=click.Choice(["permitted", "unsure", "changed"]),
    default="permitted",
    show_default=True,
    help="End with 1 if a call that was denied or asked would be permitted; also where it cannot be told; "
    "at any change.",
)
@click.option(
    "--processes", type=click.IntRange(1, 64), help="How many [default: the processors, at most 8]."
)
@click.option(
    "--examples", type=click.IntRange(0, 1000), default=5, show_default=True, help="Events of each kind."
)
@ledger_option
def replay(
    *,
    sources: tuple[str, ...],
    signed_by: Keys,
    session: str | None,
    agent: str | None,
    form: str,
    as_json: bool,
    fail_on: str,
    processes: int | None,
    examples: int,
    ledger: str | None,
) -> None:
    """Decide the calls in the ledger again by SOURCES (folders, bundles, names of packs; default ./policies).

    The time is the recorded one. Results are decided again as well, as far as they are recorded.

    Exit code: 0 nothing that was denied or asked would be permitted, and nothing that was withheld be
    released, 1 something would (see --fail-on), 2 no such source, 3 the policies cannot be used, 5 the ledger
    cannot be used.
    """
    from fumehood.workbench.replay_run import Wanted
    from fumehood.workbench.replay_run import replay as run

    book = open_existing(ledger)
    form = "json" if as_json else form
    if form == "text":
        click.echo(describe_ledger(book), err=True)
    wanted = Wanted(book.path, session, agent)
    with refusing(as_json=form == "json"):
        found = run(
            sources or ("./policies",), wanted, processes=processes, examples=examples, signed_by=signed_by
        )
    _print(found, form)
    if _is_failure(found, fail_on):
        click.get_current_context().exit(_FAILED)


def _print(found: Summary, form: str) -> None:
    from fumehood.workbench.replay_text import as_dict, markdown_lines, text_lines

    if form == "json":
        echo_json(as_dict(found))
        return
    for line in markdown_lines(found) if form == "markdown" else text_lines(found):
        click.echo(inert(line))


def _is_failure(found: Summary, fail_on: str) -> bool:
    from fumehood.workbench.replay import Change

    counts = found.counts + found.result_counts
    if found.permitted or found.released:
        return True
    if fail_on == "changed":
        return counts.total() != counts[Change.SAME]
    return fail_on == "unsure" and bool(counts[Change.UNSURE])
