"""`fumehood policy check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fumehood.cli.output import echo_json
from fumehood.cli.policy_keys import signed_option
from fumehood.cli.policy_output import POLICY, problem_json, refuse, say
from fumehood.cli.policy_sources import opa_option, sources_argument, tools_option

if TYPE_CHECKING:
    from fumehood.pdp import Bundle
    from fumehood.pdp.keys import Keys
    from fumehood.workbench.lint import Checked, Finding

__all__ = ["check"]


@click.command()
@sources_argument
@tools_option
@opa_option
@signed_option
@click.option("--strict", is_flag=True, help="Warnings refuse, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    sources: tuple[str, ...],
    *,
    tools: str | None,
    opa: str | None,
    signed_by: Keys,
    strict: bool,
    as_json: bool,
) -> None:
    """Say what may not decide in SOURCES (folders, bundles, names of packs; default ./policies), and what to
    write instead.

    Exit code: 0 nothing but warnings, 2 no such source, 3 something.
    """
    from fumehood.errors import ConfigError
    from fumehood.workbench.lint import check_policies
    from fumehood.workbench.tools import load_tools

    given = sources or ("./policies",)
    try:
        checked = check_policies(
            given, tools=load_tools(tools) if tools else (), opa=opa, signed_by=signed_by
        )
    except ConfigError as error:
        refuse(error, as_json=as_json)
    is_ok = not (checked.findings if strict else checked.errors)
    if as_json:
        _print_json(checked, checked.bundle, is_ok=is_ok)
    else:
        _print(checked, checked.bundle, is_ok=is_ok)
    click.get_current_context().exit(0 if is_ok else POLICY)


def _print(checked: Checked, bundle: Bundle | None, *, is_ok: bool) -> None:
    errors = len(checked.errors)
    counts = [(errors, "problem"), (len(checked.findings) - errors, "warning")]
    said = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count)
    if not is_ok:
        say(f"the policies cannot be used: {said}", err=True)
    for finding in checked.findings:
        say(_text(finding), err=not is_ok)
    if is_ok and bundle:
        say(f"ok: {', '.join(bundle.packages)}{f' ({said})' if said else ''}\n{bundle.revision}")


def _text(finding: Finding) -> str:
    if finding.is_error:
        return str(finding.problem)
    return str(finding.problem._replace(message=f"warning: {finding.problem.message}"))


def _print_json(checked: Checked, bundle: Bundle | None, *, is_ok: bool) -> None:
    said: dict[str, object] = {"ok": is_ok, "opa": checked.with_opa}
    if bundle:
        said |= {"revision": bundle.revision, "packages": list(bundle.packages)}
    said["problems"] = [
        problem_json(finding.problem) | {"severity": finding.severity, "code": finding.code}
        for finding in checked.findings
    ]
    echo_json(said)
