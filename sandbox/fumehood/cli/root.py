"""`fumehood`: finds a command when it is called, and turns errors into exit codes.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the answer is no: denied, lost race, expired, failing test (`code` in JSON says which) |
| 2 | wrong usage, or an id that nothing has |
| 3 | configuration or policy |
| 4 | this host cannot confine as asked |
| 5 | the ledger cannot be used |
| 130 | interrupted |
| 141 | nobody reads the output any more |
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import click
from click.shell_completion import CompletionItem

__all__ = ["main", "root"]

INTERRUPTED = 130
NOBODY_READS = 141  # 128 + SIGPIPE, as a shell reports it


@dataclass(frozen=True, slots=True)
class _Command:
    """Where a command lives ("" : an entry point of group `fumehood.commands`) and its line in --help."""

    where: str
    help: str


_COMMANDS = {
    "demo": _Command("", "Three attacks on an agent, and what stops them."),
    "tui": _Command("", "Watch live traces; approve, deny and stop, in a terminal."),
    "approvals": _Command("fumehood.cli.approvals:approvals", "List, show, approve and deny what waits."),
    "trace": _Command("fumehood.cli.trace:trace", "Follow, show and export what was decided and done."),
    "stop": _Command("fumehood.cli.stop:stop", "Stop a session, an agent or everything; lift a stop."),
    "policy": _Command("fumehood.cli.policy:policy", "Check, test, build and inspect policies."),
    "sandbox": _Command(
        "fumehood.cli.sandbox:sandbox", "Run confined; explain a profile; examine this host."
    ),
}

# What a missing module means: the extra that brings it.
_EXTRAS = {
    "langchain": "langchain",
    "langchain_core": "langchain",
    "langgraph": "langchain",
    "opa_client": "opa",
}


class _Lazy(click.Group):
    """A group that imports a command only to run it; help and completion use the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = _COMMANDS.get(cmd_name)
        if known is not None and known.where:
            module, _, name = known.where.partition(":")
            return cast("click.Command", getattr(importlib.import_module(module), name))
        return _from_entry_point(cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # before click makes it exit code 1, which means "no" here
            _be_quiet()
            raise click.exceptions.Exit(NOBODY_READS) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(n, help=c.help) for n, c in _COMMANDS.items() if n.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=lambda c, p, v: _version(c, v)
)
def root() -> None:
    """Decides, confines, asks and records every tool call that an AI agent makes."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if args is None else args)
    code = _run(given)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.exit(code)
    _be_quiet()
    sys.exit(NOBODY_READS)


def _run(args: list[str]) -> int:
    try:
        answer = root.main(args, prog_name="fumehood", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _show_usage(error, as_json="--json" in args)
    except (click.Abort, KeyboardInterrupt) as error:
        return _aborted(error)
    except Exception as error:  # noqa: BLE001 - what is no error of ours is raised again
        return _report(error, as_json="--json" in args)
    return answer if isinstance(answer, int) else 0


def _report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong; the exit code. What is not an error of ours is a bug, and is raised."""
    from fumehood.cli import failures

    found = failures.explain(error, extras=_EXTRAS)
    if found is None:
        raise error
    failures.show(found, as_json=as_json)
    return found.exit_code


def _show_usage(error: click.ClickException, *, as_json: bool) -> int:
    from fumehood.cli import failures

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and not as_json:
        click.echo(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.", err=True)
    failures.show(failures.Failure(error.format_message(), "usage", error.exit_code), as_json=as_json)
    return error.exit_code


def _aborted(error: BaseException) -> int:
    """Ctrl-C is 130; the end of input at a question is a no."""
    sys.stderr.write("\n")
    return 1 if isinstance(error.__cause__ or error.__context__, EOFError) else INTERRUPTED


def _be_quiet() -> None:
    """Nobody reads stdout: what is still in its buffer goes nowhere, without a complaint at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _from_entry_point(name: str) -> click.Command | None:
    from importlib.metadata import entry_points

    for found in entry_points(group="fumehood.commands", name=name):
        return cast("click.Command", found.load())
    return None


def _version(ctx: click.Context, is_asked: object) -> None:
    if is_asked:
        from importlib.metadata import version

        click.echo(f"fumehood {version('fumehood')}")
        ctx.exit()
