"""`fumehood policy check|test`: what policies may not say, and what their tests say about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from fumehood.cli.policy_bench import bench
from fumehood.cli.policy_explain import evaluate, explain
from fumehood.cli.policy_replay import replay
from fumehood.cli.policy_report import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fumehood.errors import ConfigError, Problem
    from fumehood.pdp import TestResult

__all__ = ["policy"]

_POLICY_EXIT = 3  # configuration or policy
_FAILED_EXIT = 1
_MARKS = {"pass": "PASS", "fail": "FAIL", "error": "ERROR", "skip": "SKIP"}


@click.group()
def policy() -> None:
    """Check and test policies."""


@policy.command()
@click.argument("sources", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(sources: tuple[str, ...], *, as_json: bool) -> None:
    """Say what may not decide in SOURCES (folders, or names of packs; default ./policies), and what to write.

    Exit code: 0 nothing, 2 no such source, 3 something.
    """
    from fumehood.errors import ConfigError
    from fumehood.pdp import load_bundle

    given = sources or ("./policies",)
    try:
        bundle = load_bundle(given)
    except ConfigError as error:
        _refuse(error, as_json=as_json)
        return
    if as_json:
        _print({"ok": True, "revision": bundle.revision, "packages": list(bundle.packages), "problems": []})
    else:
        _say(f"ok: {', '.join(bundle.packages)}\n{bundle.revision}")


@policy.command()
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
        _refuse(error, as_json=as_json)
        return
    if as_json:
        _print([_fields(result) for result in results])
    else:
        _report(results, verbose=verbose)
    if not results:
        click.get_current_context().exit(2)
    if any(result.outcome in ("fail", "error") for result in results):
        click.get_current_context().exit(_FAILED_EXIT)


for command in (bench, evaluate, explain, replay, report):
    policy.add_command(command)


def _report(results: Sequence[TestResult], *, verbose: bool) -> None:
    for result in results:
        if verbose or result.outcome != "pass":
            _say(f"{_MARKS[result.outcome]} {result.name}  {result.file}:{result.line}")
            _say(result.message, indent=2)
        if verbose or result.outcome in ("fail", "error"):
            _say(result.output, indent=2)
    counts = {mark: sum(_MARKS[r.outcome] == mark for r in results) for mark in _MARKS.values()}
    _say(
        ", ".join(f"{count} {mark.lower()}" for mark, count in counts.items() if count)
        or "no tests were found"
    )


def _refuse(error: ConfigError, *, as_json: bool) -> None:
    """Print why the policies cannot be used, and end."""
    if as_json:
        _print(
            {"ok": False, "error": str(error).split("\n")[0], "problems": list(map(_problem, error.problems))}
        )
    else:
        _say(str(error), err=True)
    click.get_current_context().exit(_POLICY_EXIT if error.problems else 2)


def _problem(problem: Problem) -> dict[str, object]:
    names = ("file", "line", "column", "message", "remedy", "source_line")
    return {name: getattr(problem, name) for name in names}


def _fields(result: TestResult) -> dict[str, object]:
    names = ("name", "file", "line", "outcome", "message", "output", "duration_s")
    return {name: getattr(result, name) for name in names}


def _print(document: object) -> None:
    click.echo(json.dumps(document, indent=2))


def _say(text: str, *, indent: int = 0, err: bool = False) -> None:
    """Print text that a policy's author, or someone else, wrote."""
    from fumehood.display import inert

    for line in text.splitlines():
        click.echo(" " * indent + inert(line), err=err)
