"""Prints what the tests of policies said, in the lines of `opa test`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from fumehood.cli.output import echo_json
from fumehood.cli.policy_output import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fumehood.pdp import TestResult
    from fumehood.workbench import Report

__all__ = ["print_junit", "print_report", "report_json"]

_MARKS = {"pass": "PASS", "fail": "FAIL", "error": "ERROR", "skip": "SKIPPED"}
_RULE = "-" * 80


def print_report(report: Report, *, verbose: bool) -> None:
    """For a person: what did not pass, or everything; then the counts and the coverage."""
    shown = [row for row in report.results if verbose or row.outcome != "pass"]
    for file, rows in groupby(shown, key=lambda row: row.file):
        say(f"{file}:")
        for row in rows:
            _print_row(row, verbose=verbose)
        say("")
    if shown:
        say(_RULE)
    _print_counts(report.results)
    if report.mutants:
        say(f"MUTANTS: {report.mutants}")
    if report.coverage:
        _print_coverage(report)


def _print_row(row: TestResult, *, verbose: bool) -> None:
    took = f" ({row.duration_s * 1000:.1f}ms)" if row.duration_s else ""
    say(f"{row.name}: {_MARKS[row.outcome]}{took}")
    if row.outcome in ("fail", "error"):
        say(f"{row.file}:{row.line}", indent=2)
    say(row.message, indent=2)
    if verbose or row.outcome in ("fail", "error"):
        say(row.output, indent=2)


def _print_counts(results: Sequence[TestResult]) -> None:
    total = len(results)
    counts = {mark: sum(row.outcome == name for row in results) for name, mark in _MARKS.items()}
    lines = [f"{mark}: {count}/{total}" for mark, count in counts.items() if count]
    say("\n".join(lines) or "no tests were found")


def _print_coverage(report: Report) -> None:
    assert report.coverage is not None
    for file in report.coverage.files:
        missing = f"  not covered: {file.missing()}" if file.missed else ""
        say(f"{file.percent:6.2f}%  {file.path}{missing}")
    say(f"{report.coverage.percent:6.2f}%  coverage of all lines")


def report_json(report: Report) -> None:
    """For a program: `{ok, tests, mutants?, coverage?}`, the last in the shape of `opa test --coverage`."""
    said: dict[str, object] = {"ok": report.is_ok, "tests": [_fields(row) for row in report.results]}
    if report.mutants:
        said["mutants"] = report.mutants
    if report.coverage:
        said["coverage"] = report.coverage.as_json()
    echo_json(said)


def _fields(row: TestResult) -> dict[str, object]:
    names = ("name", "file", "line", "outcome", "message", "output", "duration_s")
    found = {name: getattr(row, name) for name in names}
    return found | {"details": row.details} if row.details else found


def print_junit(report: Report) -> None:
    """For a CI system."""
    from fumehood.workbench.junit import junit_xml

    click.echo(junit_xml(report.results), nl=False)
