"""A plan as a document and as text, for `fumehood sandbox explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fumehood.confine import landlock
from fumehood.confine import plan as plans
from fumehood.confine import profile as profiles
from fumehood.confine.facts import compiler_fault
from fumehood.confine.outcome import Tier
from fumehood.confine.seccomp import Answer, FilterSpec, Rule, allowed_calls, rules

_MIB: Final = 1 << 20


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
    here = (
        allowed_calls(spec) if not compiler_fault() else None
    )  # None: which ones this machine has is not known
    listed = [rule for rule in rules(spec) if here is None or rule.name in here or not _lets_pass(rule)]
    allowed = {rule.name for rule in listed if _lets_pass(rule) and not rule.where}
    bounded = {rule.name for rule in listed if _lets_pass(rule) and rule.where}
    return {
        "otherwise": "ENOSYS",
        "allowed": sorted(allowed),
        "bounded": [_bounded(rule) for rule in listed if _lets_pass(rule) and rule.where],
        "bounded_calls": sorted(bounded - allowed),
        "refused": sorted({rule.name for rule in listed if rule.answer is Answer.EPERM} - bounded),
    }


def _lets_pass(rule: Rule) -> bool:
    return rule.answer is Answer.ALLOW


def _bounded(rule: Rule) -> str:
    return f"{rule.name}: " + " and ".join(f"arg{m.index} & {m.mask:#x} == {m.value:#x}" for m in rule.where)


# --- for a person ------------------------------------------------------------------------------------------


def as_text(document: dict[str, Any]) -> str:
    """The document for a person."""
    profile = document["profile"]
    lines = [f"{profile['name']}: {profile['about']}"]
    if "plan" in document:
        lines += _plan_lines(profile, document["plan"])
    return "\n".join([*lines, *_filter_lines(document["filter"])])


def _plan_lines(profile: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    return [
        f"tier: {plan['tier']}",
        f"layers: {', '.join(plan['layers'])}",
        f"working folder: {plan['workdir'] or 'a private one'}",
        "network: none",
        f"processes: {'of its own, and programs' if plan['exec'] else _without_exec(profile)}",
        f"observed: {'open, exec, socket, connect, unlink and their kin' if plan['observe'] else 'no'}",
        f"loaded beforehand: {', '.join(profile.get('imports') or ()) or 'nothing'}",
        "sees:",
        *_seen(plan),
        *_limits(plan),
        "environment:",
        *(f"  {name}={value or _made_later(name)}" for name, value in plan["env"]),
    ]


def _made_later(name: str) -> str:
    return "the working folder" if name in ("HOME", "TMPDIR") else ""


def _without_exec(profile: dict[str, Any]) -> str:
    return "of its own, but no program" if profile["fork"] else "itself only, and threads"


def _seen(plan: dict[str, Any]) -> list[str]:
    links = dict(plan["links"])
    return [
        *(f"  {'read, write' if bind['writable'] else 'read':<12} {bind['path']}" for bind in plan["binds"]),
        *(f"  {'link':<12} {path} to {links[path]}" for path in sorted(links)),
        *(f"  {'private':<12} {path}" for path in plan["folders"]),
        *(f"  {'device':<12} {path}" for path in plan["devices"]),
    ]


def _limits(plan: dict[str, Any]) -> list[str]:
    own = {name.lower(): value for name, value in plan["rlimits"]}
    return [
        "limits:",
        f"  wall clock {plan['timeout_s']:g} s, processor {own['cpu']} s",
        f"  memory {_size(plan['memory_bytes'])} of all its processes together",
        f"  {plan['processes']} processes and threads",
        f"  private folders {_size(plan['disk_bytes'])} and {plan['inodes']} entries together",
        f"  one file {_size(own['fsize'])}, {own['nofile']} open files",
        f"  output {_size(plan['output_bytes'])} of each stream",
        f"  of each process, by the kernel: {', '.join(f'{name} {value}' for name, value in own.items())}",
    ]


def _size(count: int) -> str:
    return f"{count // _MIB} MiB" if count % _MIB == 0 else f"{count / 1024:g} KiB"


def _filter_lines(found: dict[str, Any]) -> list[str]:
    free, bounded, refused = (len(found[key]) for key in ("allowed", "bounded_calls", "refused"))
    return [
        f"system calls: {free + bounded} allowed, {bounded} of them with some arguments only (--json: which)",
        f"  {refused} known ways out answer EPERM, every other number answers ENOSYS",
        "  through another architecture's table (x32, int 0x80): killed",
    ]
