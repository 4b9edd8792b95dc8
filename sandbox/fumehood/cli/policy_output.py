"""What the verbs of `fumehood policy` share: how problems and refusals are printed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from fumehood.cli.output import echo_json
from fumehood.display import inert

if TYPE_CHECKING:
    from typing import Never

    from fumehood.errors import ConfigError, Problem

__all__ = ["FAILED", "POLICY", "USAGE", "problem_json", "refuse", "refusing", "say"]

FAILED, USAGE, POLICY = 1, 2, 3  # exit codes


def refuse(error: ConfigError, *, as_json: bool) -> Never:
    """Print why the policies cannot be used, and end: 3, or 2 where no policy was found to be wrong."""
    if as_json:
        problems = list(map(problem_json, error.problems))
        echo_json({"ok": False, "error": str(error).split("\n")[0], "problems": problems})
    else:
        say(str(error), err=True)
    raise click.exceptions.Exit(POLICY if error.problems else USAGE)


@contextmanager
def refusing(*, as_json: bool) -> Iterator[None]:
    """Around reading policies: a ConfigError ends the command as `refuse` does."""
    from fumehood.errors import ConfigError

    try:
        yield
    except ConfigError as error:
        refuse(error, as_json=as_json)


def problem_json(problem: Problem) -> dict[str, object]:
    """A finding for a program."""
    names = ("file", "line", "column", "message", "remedy", "source_line")
    return {name: getattr(problem, name) for name in names}


def say(text: str, *, indent: int = 0, err: bool = False) -> None:
    """Print text that a policy's author, or someone else, wrote."""
    for line in text.splitlines():
        click.echo(" " * indent + inert(line), err=err)
