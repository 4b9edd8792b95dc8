"""What happened, by the ledger and by what tools left behind; and where it differs from what must happen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fumehood.ledger import names
from fumehood_adapters.demo.stories import Expected, Story

if TYPE_CHECKING:
    from fumehood.ledger import Event, Ledger

__all__ = ["Happened", "differences", "effects_in", "happened"]

_PAGE = 1000


@dataclass(slots=True)
class Happened:
    """One call as the ledger has it. `ends` is "done", a refusal's code, or "" if it has no end on record."""

    seq: int
    tool: str
    args: dict[str, Any]
    asks: list[str] = field(default_factory=list)
    answer: str = ""
    answered_by: str = ""
    ends: str = ""
    confinement: dict[str, Any] = field(default_factory=dict)
    tried: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def is_run(self) -> bool:
        return self.ends == "done"


def happened(ledger: Ledger, session: str) -> list[Happened]:
    """The calls of *session*, in the order in which they were decided."""
    calls: dict[str, Happened] = {}
    for event in _events(ledger, session):
        said = json.loads(event.attributes)
        if event.kind == "decision":
            new = Happened(event.seq, event.tool, said.get(names.CALL_ARGUMENTS, {}))
            _decided(calls.setdefault(event.attempt_id, new), said)
        elif event.attempt_id in calls and event.kind in _READ:
            _READ[event.kind](calls[event.attempt_id], said)
    return list(calls.values())


def _events(ledger: Ledger, session: str) -> Iterable[Event]:
    after = 0
    while page := ledger.events(after, limit=_PAGE, session=session):
        yield from page
        after = page[-1].seq


def _decided(call: Happened, said: dict[str, Any]) -> None:
    call.asks += [o["reason"] for o in said.get(names.OBLIGATIONS, ()) if o["type"] == "approve"]
    if said.get(names.EFFECT) != "permit":
        call.ends = next((r["code"] for r in said.get(names.REASONS, ())), "denied")


def _answered(call: Happened, said: dict[str, Any]) -> None:
    call.answer = said.get(names.APPROVAL_STATE, "")
    call.answered_by = said.get(names.APPROVAL_BY) or call.answered_by


def _ended(call: Happened, said: dict[str, Any]) -> None:
    call.ends = said.get(names.CLAIM_STATE, "")
    call.confinement = said.get(names.DETAIL, {}).get("fumehood.confinement", {})


def _attempted(call: Happened, said: dict[str, Any]) -> None:
    attempt = [said[f"fumehood.attempt.{word}"] for word in ("operation", "target", "verdict")]
    call.tried.append((attempt[0], attempt[1], attempt[2]))


_READ = {"approval": _answered, "outcome": _ended, "attempt": _attempted}


def effects_in(file: Path) -> list[dict[str, Any]]:
    """What the tools left behind, a line each."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def differences(story: Story, found: Sequence[Happened], effects: Sequence[dict[str, Any]]) -> list[str]:
    """Where what happened differs from what *story* says must; empty if nowhere."""
    wrong = [
        text for wanted, call in zip(story.calls, found, strict=False) for text in _difference(wanted, call)
    ]
    if len(found) != len(story.calls):
        wrong.append(f"{len(story.calls)} calls were expected, the ledger has {len(found)}")
    return wrong + _done_otherwise(story, effects)


def _difference(wanted: Expected, call: Happened) -> list[str]:
    what = f"call {call.seq}, {call.tool}({as_words(call.args)})"
    if wanted.tool != call.tool or any(call.args.get(k) != v for k, v in wanted.args.items()):
        return [f"{what}: expected was {wanted.tool}({as_words(wanted.args)})"]
    wrong = []
    if wanted.ends != call.ends:
        wrong.append(f"{what}: expected was {wanted.ends!r}, the ledger says {call.ends or 'nothing'!r}")
    if wanted.is_asked != bool(call.asks):
        wrong.append(f"{what}: a person {'should' if wanted.is_asked else 'should not'} have been asked")
    if wanted.profile not in call.confinement.get("profile", ""):
        wrong.append(f"{what}: it did not run under the profile {wanted.profile}")
    tried = {operation for operation, _, _ in call.tried}
    wrong += [
        f"{what}: the record shows no attempt to {w[0]}" for w in wanted.tried if not tried.intersection(w)
    ]
    return wrong


def _done_otherwise(story: Story, effects: Sequence[dict[str, Any]]) -> list[str]:
    mine = [e for e in effects if e["story"] == story.name]
    wanted = list(story.effects)
    if len(mine) == len(wanted) and all(
        all(e.get(k) == v for k, v in w.items()) for e, w in zip(mine, wanted, strict=True)
    ):
        return []
    return [f"the tools did this: {_listed(mine)}; expected was: {_listed(wanted)}"]


def _listed(effects: Sequence[Any]) -> str:
    lines = [as_words({k: v for k, v in e.items() if k != "story"}) for e in effects]
    return f"{len(lines)} times: {lines[0]} …" if len(lines) > 3 else "; ".join(lines) or "nothing"


def as_words(args: Any) -> str:
    """`order_id=A-1 amount_usd=500`."""
    return " ".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in dict(args).items())
