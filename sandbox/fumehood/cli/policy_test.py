"""`fumehood policy test`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from fumehood.cli.policy_keys import signed_option
from fumehood.cli.policy_output import FAILED, USAGE, refuse, say
from fumehood.cli.policy_sources import opa_option, sources_argument
from fumehood.cli.policy_test_report import print_junit, print_report, report_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from fumehood.pdp.keys import Keys
    from fumehood.workbench import Report

__all__ = ["test"]


@click.command()
@sources_argument
@click.option("-v", "--verbose", is_flag=True, help="Show the tests that passed, and what tests print.")
@click.option("-r", "--run", "only", metavar="REGEX", help="Only tests in whose full name this is found.")
@click.option(
    "-m", "--mutate", is_flag=True, help="Also run hostile variants of each case: none may be looser."
)
@click.option("-c", "--coverage", is_flag=True, help="Say which lines of the policies no test evaluates.")
@click.option("--threshold", type=click.FloatRange(0, 100), help="The least coverage, in percent.")
@click.option("-w", "--watch", is_flag=True, help="Run again whenever a file changes.")
@click.option(
    "--engine",
    type=click.Choice(["embedded", "opa", "both"]),
    default="embedded",
    show_default=True,
    help="Which engine decides; both: they must agree.",
)
@opa_option
@signed_option
@click.option(
    "-f",
    "--format",
    "shape",
    type=click.Choice(["pretty", "json", "junit"]),
    default="pretty",
    show_default=True,
    help="How to print the results.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--fail-on-empty", is_flag=True, help="No test at all is a failure.")
def test(
    sources: tuple[str, ...],
    *,
    verbose: bool,
    only: str | None,
    mutate: bool,
    coverage: bool,
    threshold: float | None,
    watch: bool,
    engine: str,
    opa: str | None,
    signed_by: Keys,
    shape: str,
    as_json: bool,
    fail_on_empty: bool,
) -> None:
    """Run the *_test.rego and *_cases.yaml of SOURCES (folders, bundles, names of packs; default ./policies).

    Exit code: 0 all pass, 1 one does not, 2 no such source or no such test, 3 the policies cannot be loaded.
    """
    from fumehood.workbench import run_policy_tests

    covers = coverage or threshold is not None
    if covers and engine == "opa":
        raise click.UsageError("coverage needs the embedded engine: --engine embedded, or both")
    given = sources or ("./policies",)
    shape = "json" if as_json else shape

    def once() -> int:
        from fumehood.errors import ConfigError

        try:
            report = run_policy_tests(
                given,
                only=only,
                engines=engine,  # type: ignore[arg-type]  # click has checked it
                opa=opa,
                covers=covers,
                mutates=mutate,
                signed_by=signed_by,
            )
        except ConfigError as error:
            refuse(error, as_json=shape == "json")
        _print(report, shape, verbose=verbose)
        return _exit_code(report, threshold, is_narrowed=bool(only), fail_on_empty=fail_on_empty)

    if watch:
        _again_and_again(once, given)
    click.get_current_context().exit(once())


def _print(report: Report, shape: str, *, verbose: bool) -> None:
    if shape == "json":
        report_json(report)
    elif shape == "junit":
        print_junit(report)
    else:
        print_report(report, verbose=verbose)


def _exit_code(report: Report, threshold: float | None, *, is_narrowed: bool, fail_on_empty: bool) -> int:
    if not report.results and is_narrowed:
        return USAGE
    if not report.results and fail_on_empty:
        return FAILED
    if threshold is not None and report.coverage and report.coverage.percent < threshold:
        say(f"coverage is {report.coverage.percent:.2f}%, less than {threshold:.2f}%", err=True)
        return FAILED
    return 0 if report.is_ok else FAILED


def _again_and_again(once: Callable[[], int], given: tuple[str, ...]) -> None:
    """Until Ctrl-C. What cannot be loaded is said, and waited for."""
    from fumehood.workbench.watch import changes, folders_of

    for _ in changes(folders_of(given)):
        with contextlib.suppress(click.exceptions.Exit):
            once()
        say("watching for changes …", err=True)
