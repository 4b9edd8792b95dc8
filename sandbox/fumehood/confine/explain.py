"""A plan as a document and as text, for `fumehood sandbox explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fumehood.confine import landlock
from fumehood.confine import plan as plans
from fumehood.confine import profile as profiles
from fumehood.confine.outcome import Tier
from fumehood.confine.seccomp import Answer, FilterSpec, Rule, rules


def explain(names: Sequence[str], *, tier: Tier) -> dict[str, Any]:
    """What would be done to a child under the profiles *names*, met.

    Raises:
        ConfinementError: there is no such profile.
    """
    profile = profiles.resolve(names)
    document: dict[str, Any] = {"profile": profile.model_dump(mode="json")}
    if profile.kind == "pdp":
        return {**document, "filter": _filter(FilterSpec(kind="pdp"))}
    plan = plans.plan(profile, plans.Host.here(), tier=tier)
    spec = plans.filter_spec(plan, profile=profile, landlock_abi=landlock.abi())
    return {**document, "plan": plan.to_wire(), "filter": _filter(spec)}


def _filter(spec: FilterSpec) -> dict[str, Any]:
    listed = rules(spec)
    return {
        "otherwise": "ENOSYS",
        "allowed": sorted({rule.name for rule in listed if rule.answer is Answer.ALLOW and not rule.where}),
        "bounded": [_bounded(rule) for rule in listed if rule.answer is Answer.ALLOW and rule.where],
        "refused": sorted({rule.name for rule in listed if rule.answer is Answer.EPERM}),
    }


def _bounded(rule: Rule) -> str:
    return f"{rule.name}: " + " and ".join(f"arg{m.index} & {m.mask:#x} == {m.value:#x}" for m in rule.where)


def as_text(document: dict[str, Any]) -> str:
    """The document for a person."""
    profile = document["profile"]
    lines = [f"{profile['name']}: {profile['about']}"]
    if "plan" in document:
        lines += _plan_lines(document["plan"])
    found = document["filter"]
    lines.append(f"system calls: {len(found['allowed'])} allowed, {len(found['bounded'])} rules by argument,")
    lines.append(f"  {len(found['refused'])} known ways out refused, every other unknown to it (ENOSYS)")
    return "\n".join(lines)


def _plan_lines(plan: dict[str, Any]) -> list[str]:
    return [
        f"tier: {plan['tier']}",
        f"layers: {', '.join(plan['layers'])}",
        f"working folder: {plan['workdir'] or 'a private one'}",
        "network: none",
        f"may start programs: {'yes' if plan['exec'] else 'only the one it is started as'}",
        f"observed: {'open, exec, socket, connect, unlink and their kin' if plan['observe'] else 'no'}",
        "sees:",
        *(f"  {'read, write' if bind['writable'] else 'read'}  {bind['path']}" for bind in plan["binds"]),
        *(f"  private      {path}" for path in plan["folders"]),
        f"limits: memory {plan['memory_bytes'] >> 20} MiB together, private folders "
        f"{plan['disk_bytes'] >> 20} MiB together, output {plan['output_bytes'] >> 10} KiB,",
        f"  {', '.join(f'{name} {value}' for name, value in plan['rlimits'])}, {plan['timeout_s']:g} s",
        f"environment: {', '.join(f'{name}={value}' for name, value in plan['env'])}",
    ]
