"""`fumehood sandbox`: run something confined, look around inside, print a plan, examine this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fumehood.cli.output import echo_json, json_option
from fumehood.cli.sandbox_options import complete_profile, known_profiles, tier_option
from fumehood.cli.sandbox_run import run
from fumehood.cli.sandbox_shell import shell
from fumehood.display import inert

if TYPE_CHECKING:
    from fumehood.confine.diagnosis import Finding
    from fumehood.confine.doctor import Report
    from fumehood.confine.outcome import Tier

__all__ = ["sandbox"]

_SOMETHING_MISSING, _NOTHING_WORKS = 1, 4


@click.group()
def sandbox() -> None:
    """Run code confined, and see what that means on this host."""


sandbox.add_command(run)
sandbox.add_command(shell)


@sandbox.command()
@click.argument("profiles", nargs=-1, required=True, metavar="PROFILE…", shell_complete=complete_profile)
@tier_option
@json_option
def explain(profiles: tuple[str, ...], tier: Tier, as_json: bool) -> None:
    """Print what would be done to a child under PROFILE, without doing it. Several are met."""
    from fumehood.confine import explain as explaining

    document = explaining.explain(known_profiles(profiles), tier=tier)
    if as_json:
        echo_json(document)
    else:
        click.echo(inert(explaining.as_text(document), multiline=True))


@sandbox.command()
@json_option
@click.pass_context
def doctor(context: click.Context, /, as_json: bool) -> None:
    """Try every layer of both tiers; say what is missing, and what to do about it on this system.

    Exit 0 if every layer of the full tier works, 1 if something of it is missing and a tier works that needs
    less, 4 if no tier works. Nothing on this host is changed.
    """
    from fumehood.confine import doctor as doctoring

    report = doctoring.examine()
    if as_json:
        echo_json(_as_json(report))
    else:
        _say(report)
    able = [tier for tier in report.tiers if report.works(tier)]
    context.exit(0 if "full" in able else _SOMETHING_MISSING if able else _NOTHING_WORKS)


def _say(report: Report) -> None:
    facts = report.facts
    head = (
        f"{facts.title}, Linux {facts.kernel} on {facts.machine}, as {'root' if facts.is_root else 'a user'}"
    )
    click.echo(inert(head))
    said: set[str] = set()
    for tier, findings in report.tiers.items():
        click.echo(f"\n{tier}: {'works' if report.works(tier) else 'does not work'}")
        for finding in findings:
            _say_finding(finding, said)
    click.echo()
    for note in report.notes:
        click.echo(inert(f"note: {note}"))


def _say_finding(finding: Finding, said: set[str]) -> None:
    """A remedy that several layers share is printed once."""
    word = finding.state if finding.state == "ok" else finding.state.upper()
    click.echo(f"  {word:<8} {finding.layer}")
    remedy = finding.remedy if finding.remedy not in said else "(as above)"
    said.add(finding.remedy)
    for text in filter(None, (finding.detail, remedy if finding.remedy else "")):
        for line in text.splitlines():
            click.echo(inert(f"           {line}").rstrip())


def _as_json(report: Report) -> dict[str, Any]:
    facts = report.facts
    host = {
        "distribution": facts.distribution,
        "version": facts.version,
        "kernel": facts.kernel,
        "machine": facts.machine,
        "container": facts.container,
        "root": facts.is_root,
        "landlock": facts.numbers.get("landlock", 0),
        "delegated_cgroup": facts.delegated_cgroup,
        "tried": dict(facts.tried),
    }
    tiers = {
        tier: {"works": report.works(tier), "layers": [_finding_json(f) for f in findings]}
        for tier, findings in report.tiers.items()
    }
    return {"host": host, "tiers": tiers, "notes": list(report.notes)}


def _finding_json(finding: Finding) -> dict[str, str]:
    return {
        "layer": finding.layer,
        "state": finding.state,
        "detail": finding.detail,
        "remedy": finding.remedy,
    }
