"""Which packages a guard only watches, and the decision to act on then. The theory is in `observe_mode`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from fumehood.canonical import JSON
from fumehood.display import inert
from fumehood.errors import ConfigError, Problem
from fumehood.model import Decision, Phase
from fumehood.observe_mode import Mode, Observing, acting, bare
from fumehood.pdp.combine import Answers, More, combine
from fumehood.pdp.decision import decision_from
from fumehood.pdp.syntax import Module

__all__ = ["acted_on", "chosen", "marked", "told"]

# What is asked for from inside confinement is confinement: it is never only watched.
_WATCHED_PHASES = (Phase.EXECUTE_TOOL, Phase.RETURN_RESULT)
_REFUSALS = frozenset({"deny", "withhold"})
_PERMITTED: Mapping[str, Sequence[tuple[str, JSON]]] = {"permit": [("boolean", True)]}

_BLOCK = re.compile(r"^custom:\s*$")
_INLINE = re.compile(r"^custom:\s*\{(?P<inside>[^{}]*)\}\s*$")
_PAIR = re.compile(r"^\s*[\"']?mode[\"']?\s*:\s*[\"']?(?P<mode>[^\"'#\s]*)[\"']?\s*(?:#.*)?$")


def acted_on(
    phase: Phase, answers: Answers, more: More, full: Decision, observing: Observing | None
) -> Decision:
    """The decision to act on, where *full* is what all packages decide together (see `combine`).

    Raises:
        PdpError: `pdp_malformed`.
    """
    if observing is None or phase not in _WATCHED_PHASES:
        return full
    watched = {name: rules for name, rules in answers.items() if observing.watches(name)}
    asked = _joined(
        phase,
        {**_without_refusals(watched), "": _PERMITTED},
        [item for item in more if observing.watches(item[0]) and item[1] not in _REFUSALS],
        full,
    )
    if observing.is_whole:
        return acting(full, bare(asked), asked)
    rest = {name: rules for name, rules in answers.items() if name not in watched}
    enforced = _joined(phase, rest, [item for item in more if not observing.watches(item[0])], full)
    return acting(full, enforced, asked)


def _joined(phase: Phase, answers: Answers, more: More, full: Decision) -> Decision:
    return decision_from(cast("JSON", combine(phase.value, answers, more, revision=full.revision)))


def _without_refusals(answers: Answers) -> Answers:
    """Without sets of refusals; a refusal of the wrong type stays, and denies as what nobody understands."""
    return {
        package: {
            rule: [pair for pair in found if rule not in _REFUSALS or pair[0] != "set"]
            for rule, found in rules.items()
        }
        for package, rules in answers.items()
    }


def chosen(mode: Mode, modules: Sequence[Module]) -> Observing | None:
    """What a guard in *mode* watches; None if it enforces everything.

    Raises:
        ConfigError: a mark cannot be understood, or nothing would be left that can permit.
    """
    if mode is Mode.ENFORCE:
        return None
    if mode is Mode.OBSERVE:
        return Observing(is_whole=True)
    problems = tuple(_problems(modules))
    if problems:
        raise ConfigError("it is not clear which packages are only observed", problems=problems)
    packages = frozenset(name.rpartition(".")[2] for name in marked(modules))
    permits = {m.package[-1] for m in modules if any(r.name == "permit" for r in m.rules)}
    if permits <= packages:
        raise ConfigError(
            "every package with a permit is marked `mode: observe`, and an observed permit does not count: "
            'nothing would be permitted. To observe all of them write Guard(…, mode="observe")'
        )
    return Observing(packages)


def marked(modules: Iterable[Module]) -> tuple[str, ...]:
    """The packages that ask in their METADATA to be observed, by full name."""
    return tuple(sorted({module.name for module in modules if _mark(module)[1] == Mode.OBSERVE.value}))


def told(observing: Observing | None, asking: Sequence[str]) -> str:
    """A line that says what a guard does not enforce, "" if nothing has to be said; *asking* are `marked`."""
    if observing is None:
        names = ", ".join(map(inert, asking))
        return f"{names}: marked `mode: observe`; this guard enforces it all the same" if names else ""
    if observing.is_whole:
        what = "OBSERVING: the policies decide and nothing that they refuse is stopped"
    else:
        names = ", ".join(f"policies.{inert(name)}" for name in sorted(observing.packages))
        what = f"OBSERVING {names or 'no package (none is marked `mode: observe`)'}; all others are enforced"
    return f"{what}. See what would have been: fumehood policy report"


def _problems(modules: Sequence[Module]) -> Iterator[Problem]:
    asking = set(marked(modules))
    for module in modules:
        start, mode = _mark(module)
        if mode not in ("", "observe", "enforce"):
            remedy = "Write `mode: observe` or `mode: enforce`."
            yield module.problem(start, f"`mode: {mode}` is not known", remedy)
        elif module.name in asking and mode != "observe":
            remedy = "Say the same in the METADATA of each file of the package, or keep it in one file."
            yield module.problem(start, f"another file marks {module.name} `mode: observe`", remedy)


def _mark(module: Module) -> tuple[int, str]:
    """Where the package stands, and the `mode` under `custom` in the METADATA right above it, "" if none."""
    lines = _metadata(module.encoded[: module.package_start].decode(errors="replace"))
    for i, line in enumerate(lines):
        if inline := _INLINE.match(line):
            pairs = inline["inside"].split(",")
        elif _BLOCK.match(line):
            pairs = _indented(lines[i + 1 :])
        else:
            continue
        found = [pair["mode"] for text in pairs if (pair := _PAIR.match(text))]
        if found:
            return module.package_start, found[-1]
    return module.package_start, ""


def _metadata(above: str) -> list[str]:
    """The lines of the METADATA comment that ends right above, without their `# `."""
    found: list[str] = []
    for line in reversed(above.rstrip().splitlines()):
        if line.strip() == "# METADATA":
            return found[::-1]
        if not line.startswith("#"):
            break
        found.append(line[2:] if line.startswith("# ") else line[1:])
    return []


def _indented(lines: Iterable[str]) -> Iterator[str]:
    """The lines of the first level below a key: those of deeper levels belong to another key."""
    depth: int | None = None
    for line in lines:
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        if indent == 0:
            return
        depth = indent if depth is None else depth
        if indent == depth:
            yield line
