"""`fumehood policy test`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fumehood.cli.output import echo_json
from fumehood.cli.policy_output import FAILED, USAGE, refuse, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fumehood.pdp import TestResult

__all__ = ["test"]

_MARKS = {"pass": "PASS", "fail": "FAIL", "error": "ERROR", "skip": "SKIP"}


@click.command()
@click.argument("sources", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show the tests that passed, and what tests print.")
@click.option("--run", "only", metavar="REGEX", help="Only tests whose full name matches.")
def test(sources: tuple[str, ...], *, as_json: bool, verbose: bool, only: str | None) -> None:
    """Run the *_test.rego of SOURCES (folders, or names of packs; default ./policies), as `opa test` does.

    Exit code: 0 all pass, 1 one does not, 2 no such source or no such test, 3 the policies cannot be loaded.
    """
    from fumehood.errors import ConfigError
    from fumehood.pdp import run_tests

    try:
        results = run_tests(sources or ("./policies",), only=only)
    except ConfigError as error:
        refuse(error, as_json=as_json)
    if as_json:
        echo_json([_fields(result) for result in results])
    else:
        _report(results, verbose=verbose)
    if not results:
        click.get_current_context().exit(USAGE)
    if any(result.outcome in ("fail", "error") for result in results):
        click.get_current_context().exit(FAILED)


def _report(results: Sequence[TestResult], *, verbose: bool) -> None:
    for result in results:
        if verbose or result.outcome != "pass":
            say(f"{_MARKS[result.outcome]} {result.name}  {result.file}:{result.line}")
            say(result.message, indent=2)
        if verbose or result.outcome in ("fail", "error"):
            say(result.output, indent=2)
    counts = {mark: sum(_MARKS[r.outcome] == mark for r in results) for mark in _MARKS.values()}
    said = ", ".join(f"{count} {mark.lower()}" for mark, count in counts.items() if count)
    say(said or "no tests were found")


def _fields(result: TestResult) -> dict[str, object]:
    names = ("name", "file", "line", "outcome", "message", "output", "duration_s")
    return {name: getattr(result, name) for name in names}
