"""`fumehood policy bench`: how long the policies take to decide."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fumehood.cli.output import echo_json, json_option, print_table
from fumehood.cli.policy_keys import signed_option
from fumehood.cli.policy_output import refusing
from fumehood.cli.policy_sources import sources_argument
from fumehood.display import inert

if TYPE_CHECKING:
    from fumehood.pdp.keys import Keys
    from fumehood.workbench.bench import Timing

__all__ = ["bench"]

_FAILED = 1


@click.command()
@sources_argument
@signed_option
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file with one call or a list of them, or a case table (*_cases.yaml). May be repeated.",
)
@click.option("--pdp", "url", metavar="URL", help="An OPA server to ask as well.")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="Decisions a case.",
)
@json_option
def bench(
    *,
    sources: tuple[str, ...],
    signed_by: Keys,
    inputs: tuple[Path, ...],
    url: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Time how long SOURCES (folders, bundles, names of packs; default ./policies) take to decide each call.

    Calls are written as for `fumehood policy eval`, or are the rows of case tables: without -i of those among
    SOURCES. Each is decided in a thread, in a confined worker, and with --pdp at an OPA server; times are of
    one call after another, p50 and p99.

    A call for which the policies take longer than the guard waits is asked three times, and not in a thread.

    Exit code: 0 measured, 1 the policies take too long for a call, or crash the engine, 2 a call is not
    understood or none is given, or no such source, 3 the policies or the server cannot be used, 4 no worker
    can be confined here.
    """
    from fumehood.pdp import load_bundle
    from fumehood.workbench.bench import ENDED, calls_in, rows_of
    from fumehood.workbench.bench import bench as run
    from fumehood.workbench.loading import tools_of

    given = sources or ("./policies",)
    with refusing(as_json=as_json):
        bundle = load_bundle(given, signed_by=signed_by)
        tools = tools_of(given, signed_by) if inputs else ()
        cases = [case for path in inputs for case in calls_in(path, tools)]
        if not inputs:
            cases = rows_of(given, signed_by)
    if not cases:
        raise click.UsageError("no calls to decide; name a file with -i, or write a case table")
    rows = list(run(bundle, cases, count=count, url=url))
    if as_json:
        echo_json({"revision": bundle.revision, "timings": [dataclasses.asdict(row) for row in rows]})
    else:
        _print(rows)
    late = sorted({row.case for row in rows if row.answer in ENDED})
    for case in late:
        click.echo(f"{inert(case)}: the policies take too long, or crash the engine: a denial", err=True)
    if late:
        click.get_current_context().exit(_FAILED)


def _print(rows: list[Timing]) -> None:
    headers = ("ENGINE", "P50", "P99", "ANSWER", "CASE")
    cells = [(r.engine, f"{r.p50_us:.0f} µs", f"{r.p99_us:.0f} µs", r.answer, r.case) for r in rows]
    print_table(headers, cells)
