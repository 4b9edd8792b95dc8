"""What policies that are only observed would have stopped, by what, for whom: read from the trace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fumehood.ledger import Event, names

__all__ = ["Example", "Group", "Report", "report_on"]

_ARGUMENTS = 200  # characters of an example's arguments
_MARK = f'"{names.OBSERVED}"'.encode()


@dataclass(frozen=True, slots=True)
class Example:
    """One call: `seq` for `trace show`, its arguments as JSON (clipped, redacted), the reason's detail."""

    seq: int
    at: float
    arguments: str
    detail: str = ""


@dataclass(slots=True)
class Group:
    """What one rule would have done to the calls of one tool by one agent. `rule` may be a reason's code."""

    would: str  # deny, ask, limit or withhold
    rule: str
    tool: str
    agent: str
    reason: str
    count: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """`observed` calls were decided without being enforced; of those, `stopped` would not just have run.

    `results` were withheld in thought only. A call that several rules speak against is in several groups.
    """

    observed: int = 0
    stopped: int = 0
    results: int = 0
    groups: list[Group] = field(default_factory=list)


def report_on(events: Iterable[Event], *, examples: int = 3) -> Report:
    """The report on *events*, in their order: the first *examples* calls of each group are named."""
    report, found = Report(), dict[tuple[str, ...], Group]()
    for event in events:
        if event.kind not in ("decision", "outcome") or _MARK not in event.attributes:
            continue
        said = json.loads(event.attributes)
        observed = said.get(names.OBSERVED)
        if isinstance(observed, dict):  # else an argument has that name
            _count(report, event, observed)
            for rule, reason, detail in _rules(observed):
                key = (str(observed["would"]), rule, event.tool, event.agent)
                group = found.setdefault(key, Group(*key, reason=reason))
                group.count += 1
                if len(group.examples) < examples:
                    group.examples.append(_example(event, said, detail))
    report.groups = sorted(found.values(), key=lambda g: (-g.count, g.would, g.rule, g.tool, g.agent))
    return report


def _count(report: Report, event: Event, observed: Mapping[str, Any]) -> None:
    if event.kind == "decision":
        report.observed += 1
        report.stopped += observed["would"] is not None
    else:
        report.results += observed["would"] is not None


def _rules(observed: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each rule that would have acted: (its name, or the code of its reason; the reason; the detail)."""
    if observed["would"] == "ask":
        spoke = [o for o in observed[names.OBLIGATIONS] if o["type"] == "approve"]
        said = [(o.get("rule") or "ask", o["reason"], "") for o in spoke]
    elif observed["would"] is not None:
        reasons = observed[names.REASONS]
        said = [(r.get("rule") or r["code"], r["text"], r.get("detail") or "") for r in reasons]
    else:
        said = []
    yield from {rule: (rule, reason, detail) for rule, reason, detail in reversed(said)}.values()


def _example(event: Event, said: Mapping[str, Any], detail: str) -> Example:
    arguments = said.get(names.CALL_ARGUMENTS)
    text = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    clipped = text if len(text) <= _ARGUMENTS else text[: _ARGUMENTS - 1] + "…"
    return Example(event.seq, event.at, clipped, detail)
