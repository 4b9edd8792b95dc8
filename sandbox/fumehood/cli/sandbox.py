"""`fumehood sandbox`: run something confined, print a plan, ask the host what it can do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fumehood.cli.failures import UnknownIdError
from fumehood.cli.output import echo_json
from fumehood.display import inert

if TYPE_CHECKING:
    from fumehood.confine.doctor import Finding
    from fumehood.confine.outcome import Outcome, Tier

_REFUSED = 1
_CANNOT_CONFINE = 4
_TIER = click.Choice(["full", "no-userns"])


@click.group()
def sandbox() -> None:
    """Run code confined, and see what that means on this host."""


@sandbox.command(context_settings={"ignore_unknown_options": True})
@click.option("--profile", default="python-offline", show_default=True, help="Which profile; several: a,b.")
@click.option("--tier", type=_TIER, default="full", show_default=True, help="The least that is accepted.")
@click.option("--timeout", "timeout_s", type=float, default=None, help="Wall-clock seconds.")
@click.option("--workdir", type=click.Path(exists=True, file_okay=False), help="A folder it may write.")
@click.option("--raw", is_flag=True, help="Pass its output through as it is, even to a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of its output.")
@click.argument("command", nargs=-1, required=True)
@click.pass_context
def run(context: click.Context, /, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND confined. Exit 0 if it ended with 0, 1 if not, 4 if this host cannot confine it."""
    from fumehood import confine

    try:
        outcome = confine.run(
            command,
            profile=_known(options["profile"]),
            tier=options["tier"],
            timeout_s=options["timeout_s"],
            workdir=options["workdir"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if options["as_json"]:
        echo_json(_as_json(outcome))
    else:
        _show(outcome, raw=options["raw"])
    context.exit(0 if outcome.exit.is_success else _REFUSED)


@sandbox.command()
@click.argument("profile")
@click.option("--tier", type=_TIER, default="full", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def explain(profile: str, tier: Tier, as_json: bool) -> None:
    """Print what would be done to a child under PROFILE, without doing it."""
    from fumehood.confine import explain as explaining

    document = explaining.explain(_known(profile), tier=tier)
    if as_json:
        echo_json(document)
    else:
        click.echo(inert(explaining.as_text(document), multiline=True))


def _known(names: str) -> list[str]:
    """The profiles named, "a,b". An unknown one is the user's mistake, not the host's."""
    from fumehood.confine import profile as profiles

    for name in (wanted := names.split(",")):
        if name not in profiles.names():
            raise UnknownIdError(
                f"there is no profile named {name!r}; there are {', '.join(profiles.names())}"
            )
    return wanted


@sandbox.command()
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def doctor(context: click.Context, /, as_json: bool) -> None:
    """Try every layer of both tiers. Exit 0 if the full tier works, 4 if not."""
    from fumehood.confine import doctor as doctoring

    found = doctoring.examine_all()
    able = {tier: doctoring.is_confinable(findings) for tier, findings in found.items()}
    if as_json:
        echo_json({tier: _tier_json(able[tier], findings) for tier, findings in found.items()})
    else:
        for tier, findings in found.items():
            click.echo(f"{tier}: {'works' if able[tier] else 'does not work'}")
            for finding in findings:
                _say_finding(finding)
    context.exit(0 if able["full"] else _CANNOT_CONFINE)


def _say_finding(finding: Finding) -> None:
    click.echo(f"  {'ok     ' if finding.works else 'MISSING'} {finding.layer}")
    for text in filter(None, (finding.detail, finding.remedy)):
        click.echo(f"          {inert(text, multiline=True)}")


def _tier_json(works: bool, findings: tuple[Finding, ...]) -> dict[str, Any]:
    layers = [{"layer": f.layer, "works": f.works, "detail": f.detail, "remedy": f.remedy} for f in findings]
    return {"works": works, "layers": layers}


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "exit": {"kind": outcome.exit.kind, "code": outcome.exit.code},
        "stdout": outcome.stdout.decode(errors="backslashreplace"),
        "stderr": outcome.stderr.decode(errors="backslashreplace"),
        "profile": outcome.profile,
        "tier": outcome.tier,
        "layers": list(outcome.layers),
        "refused": [
            {"operation": a.operation, "target": a.target, "verdict": a.verdict} for a in outcome.refused
        ],
    }


def _show(outcome: Outcome, *, raw: bool) -> None:
    for body, stream in ((outcome.stdout, sys.stdout), (outcome.stderr, sys.stderr)):
        if raw or not stream.isatty():
            stream.buffer.write(body)
            stream.buffer.flush()
        else:
            click.echo(inert(body.decode(errors="backslashreplace"), multiline=True), nl=False, file=stream)
    if outcome.exit.kind != "exited":
        click.echo(f"fumehood: it ended by: {outcome.exit.kind} ({outcome.exit.code})", err=True)
    for attempt in outcome.refused:
        click.echo(f"fumehood: {attempt.verdict}: {attempt.operation} {inert(attempt.target)}", err=True)
