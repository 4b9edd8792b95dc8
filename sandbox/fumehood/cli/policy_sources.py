"""The argument and options that the verbs of `fumehood policy` share, with their completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

__all__ = ["opa_option", "sources_argument", "tools_option"]

F = TypeVar("F", bound=Callable[..., object])


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of packs, and folders."""
    import fumehood_policies

    names = sorted(path.name for path in fumehood_policies.PACKS.iterdir() if path.is_dir())
    packs = [CompletionItem(name, help="pack") for name in names if name.startswith(incomplete)]
    return [*packs, CompletionItem(incomplete, type="dir")]


def sources_argument(command: F) -> F:
    """SOURCES: folders, or names of packs."""
    return click.argument("sources", nargs=-1, shell_complete=_complete)(command)


def opa_option(command: F) -> F:
    """`--opa PATH`."""
    text = "The opa binary [default: $FUMEHOOD_OPA, else on PATH]."
    return click.option("--opa", type=click.Path(dir_okay=False), help=text)(command)


def tools_option(command: F) -> F:
    """`--tools WHERE`."""
    text = "The tools: module:name, or a tools.json."
    return click.option("--tools", metavar="MODULE:NAME", help=text)(command)
