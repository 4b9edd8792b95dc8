"""`fumehood policy check`."""

from __future__ import annotations

import click

from fumehood.cli.output import echo_json
from fumehood.cli.policy_output import refuse, say

__all__ = ["check"]


@click.command()
@click.argument("sources", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(sources: tuple[str, ...], *, as_json: bool) -> None:
    """Say what may not decide in SOURCES (folders, or names of packs; default ./policies), and what to write.

    Exit code: 0 nothing, 2 no such source, 3 something.
    """
    from fumehood.errors import ConfigError
    from fumehood.pdp import load_bundle

    try:
        bundle = load_bundle(sources or ("./policies",))
    except ConfigError as error:
        refuse(error, as_json=as_json)
    if as_json:
        echo_json(
            {"ok": True, "revision": bundle.revision, "packages": list(bundle.packages), "problems": []}
        )
    else:
        say(f"ok: {', '.join(bundle.packages)}\n{bundle.revision}")
