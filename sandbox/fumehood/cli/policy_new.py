"""`fumehood policy new`."""

from __future__ import annotations

import click

from fumehood.cli.output import echo_json
from fumehood.cli.policy_output import refuse, say
from fumehood.cli.policy_sources import tools_option

__all__ = ["new"]


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@tools_option
@click.option("--name", help="The package: policies.NAME [default: as the folder is called].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new(folder: str, *, tools: str | None, name: str | None, as_json: bool) -> None:
    """Write a first policy into FOLDER: one permit, one approve, one deny, tests and a case table.

    It is about the tools that --tools names, else about two examples. What only you can know is marked in it;
    `fumehood policy check` refuses each mark until you have decided.

    Exit code: 0 written, 2 the folder is not empty, or the tools cannot be read.
    """
    import shlex
    from pathlib import Path

    from fumehood.errors import ConfigError
    from fumehood.workbench.scaffold import name_for, scaffold, write_new
    from fumehood.workbench.tools import load_tools

    where = Path(folder)
    try:
        files = scaffold(name or name_for(where), load_tools(tools) if tools else ())
        write_new(where, files)
    except ConfigError as error:
        refuse(error, as_json=as_json)
    if as_json:
        echo_json({"ok": True, "folder": folder, "files": sorted(files)})
        return
    for file in files:
        say(str(where / file))
    shown = shlex.quote(folder if "/" in folder else f"./{folder}".removesuffix("."))
    say(f"next: fumehood policy test {shown}, then fumehood policy check {shown} for what is left to decide")
