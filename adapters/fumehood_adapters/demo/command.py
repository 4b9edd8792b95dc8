"""`fumehood demo`: plays the stories, lets somebody decide, and compares what happened with what must."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fumehood.ledger import Ledger
    from fumehood_adapters.demo.payload import Listener
    from fumehood_adapters.demo.place import Place, Tier
    from fumehood_adapters.demo.record import Happened
    from fumehood_adapters.demo.run import Told, Troupe
    from fumehood_adapters.demo.stories import Story

__all__ = ["demo"]

_NEEDED = ("langchain", "langchain_core", "langgraph")
_NO = 1
_CURTAIN_S = 2.0  # for the terminal UI to open, so that the person sees the first call arrive


@click.command()
@click.option("--ledger", type=click.Path(), help="Record here [default: a new file in a temporary folder].")
@click.option(
    "--tier", type=click.Choice(["full", "no-userns"]), help="How code is confined [default: the best]."
)
@click.option(
    "--story", "names", multiple=True, metavar="NAME", help="Only this one: refund, model-file, drain."
)
@click.option("--no-operator", "is_alone", is_flag=True, help="Nobody decides: what waits expires.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, in ASCII; no terminal UI.")
def demo(
    *, ledger: str | None, tier: Tier | None, names: tuple[str, ...], is_alone: bool, as_json: bool
) -> int:
    """Three attacks on an agent, and what stops them.

    In a terminal you decide, in the terminal UI. Elsewhere a second process does, through `fumehood
    approvals`. The agents are real LangChain agents with a scripted model: no key, no network. Exit 0 if
    everything ended as it should, 1 if something did not.
    """
    _require_langchain()
    stories = _chosen(names)
    is_watched = not (as_json or is_alone) and all(s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr))
    return _Show(stories, is_alone=is_alone, is_watched=is_watched, as_json=as_json).run(ledger, tier)


def _require_langchain() -> None:
    for name in _NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _chosen(names: tuple[str, ...]) -> tuple[Story, ...]:
    from fumehood_adapters.demo.stories import STORIES

    known = {told.name: told for told in STORIES}
    for name in names:
        if name not in known:
            raise click.UsageError(f"there is no story {name!r}; there are: {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) or STORIES


@dataclass(frozen=True, slots=True)
class _Result:
    """One story: what the ledger says of it, and where that differs from what it must."""

    told: Story
    session: str
    calls: Sequence[Happened]
    differences: Sequence[str]
    got_through: Sequence[str]  # what confined code really did, seen from outside


@dataclass(frozen=True, slots=True)
class _Show:
    """One run of the demo."""

    stories: tuple[Story, ...]
    is_alone: bool
    is_watched: bool
    as_json: bool

    def run(self, ledger: str | None, tier: Tier | None) -> int:
        from fumehood.ledger import open_ledger
        from fumehood_adapters.demo.payload import Listener
        from fumehood_adapters.demo.place import chosen_tier, prepared

        self._say("Fumehood demo: attacks on an agent, and what stops them. No key, no network.")
        given = chosen_tier(tier)
        with Listener() as listener:
            place = prepared(ledger, given, listener)
            self._say(_about(place, given, is_asked=tier is not None))
            with closing(open_ledger(place.ledger, create=False)) as book:
                results = self._played(place, given, book, listener)
        return self._end(place, given, results)

    def _played(self, place: Place, tier: Tier, book: Ledger, listener: Listener) -> list[_Result]:
        from fumehood_adapters.demo.run import DEADLINE_S, Told, Troupe

        told, stage = Told(), self._stage(place, tier)
        with Troupe(place, stage, reasons=self._reasons()) as troupe:
            if self.is_watched:
                self._watch(troupe, told, book)
            else:
                troupe.end_after(DEADLINE_S)
                self._listen(troupe, told, place, book, listener)
        book.reap()  # if the agents were ended, what they waited for is cancelled
        if not told.is_over and not self.is_watched:
            self._say(_trouble(place))
        results = [self._result(story, place, told, book, listener) for story in self.stories]
        if self.is_watched:
            for number, result in enumerate(results, 1):
                self._head(result.told, number, place)
                self._table(result, place)
        return results

    # --- while it plays ---

    def _stage(self, place: Place, tier: Tier) -> dict[str, Any]:
        return {
            "ledger": place.ledger,
            "effects": str(place.effects),
            "models": str(place.models),
            "tier": tier,
            "stories": [told.name for told in self.stories],
            "suffix": place.suffix,
            "policies": [place.short_time_out()] if self.is_alone else [],
            "delay_s": _CURTAIN_S if self.is_watched else 0.0,
        }

    def _reasons(self) -> dict[str, str] | None:
        """What the scripted operator says; None where there is none."""
        if self.is_alone or self.is_watched:
            return None
        return {f"{amount:g}": why for told in self.stories for amount, why in told.verdicts.items()}

    def _listen(self, troupe: Troupe, told: Told, place: Place, book: Ledger, listener: Listener) -> None:
        from fumehood_adapters.demo import show

        for line in troupe.lines():
            told.hear(line)
            if line["what"] == "begin":
                number = [s.name for s in self.stories].index(line["story"]) + 1
                self._head(self.stories[number - 1], number, place)
            elif line["what"] == "end" and not self.as_json:
                story = next(s for s in self.stories if s.name == line["story"])
                self._table(self._result(story, place, told, book, listener), place)
            else:
                show.progress(line, err=self.as_json)

    def _watch(self, troupe: Troupe, told: Told, book: Ledger) -> None:
        from fumehood_adapters.demo.run import watched_by_a_person

        self._say(
            "\nThe terminal UI opens in a moment. Two calls will wait for you: look at them, then press d.\n"
            "All that Alice asked for is $40, which needs nobody. When nothing waits any more, quit with q."
        )
        left = watched_by_a_person(troupe, told, book)
        if left:
            self._say(f"\nYou left while {left} call(s) waited: cancelled, and the agent was ended.")

    # --- afterwards ---

    def _result(self, story: Story, place: Place, told: Told, book: Ledger, listener: Listener) -> _Result:
        from fumehood_adapters.demo import payload, record

        session = told.sessions.get(story.name, "")
        calls = record.happened(book, session) if session else []
        wrong = record.differences(story, calls, record.effects_in(place.effects))
        through = payload.done_by(place.models, listener)
        if story.name == "model-file":
            wrong += [f"the model's payload got through: {text}" for text in through]
        return _Result(story, session, calls, wrong, through)

    def _head(self, story: Story, number: int, place: Place) -> None:
        from fumehood_adapters.demo import show

        show.begun(story, number, len(self.stories), str(place.models), err=self.as_json)

    def _table(self, result: _Result, place: Place) -> None:
        from fumehood_adapters.demo import show

        told = result.told
        show.table(result.calls, agent=told.agent + place.suffix, user=told.user, session=result.session)
        show.tried(result.calls, result.got_through)

    def _end(self, place: Place, tier: Tier, results: list[_Result]) -> int:
        from fumehood.cli.output import echo_json
        from fumehood_adapters.demo import show

        commands = show.next_commands(place.ledger, [call for r in results for call in r.calls])
        if self.as_json:
            echo_json(_document(place, tier, results, commands))
        else:
            show.ended([(r.told, r.differences) for r in results], commands, str(place.folder))
        return _NO if any(r.differences for r in results) else 0

    def _say(self, text: str) -> None:
        click.echo(text, err=self.as_json)


def _about(place: Place, tier: Tier, *, is_asked: bool) -> str:
    from fumehood.display import inert

    why = ""
    if tier == "no-userns" and not is_asked:
        why = ", because this host gives no user namespaces (see: fumehood sandbox doctor)"
    return f"Ledger {inert(place.ledger)}. Code is confined by the tier {tier}{why}."


def _trouble(place: Place) -> str:
    """Why the agents ended before their time: the end of what they said."""
    from fumehood.display import inert

    said = place.log.read_text(errors="replace").strip().splitlines()[-12:]
    return "\nThe agents did not finish. Their last words:\n" + "\n".join(f"  {inert(line)}" for line in said)


def _document(place: Place, tier: Tier, results: list[_Result], commands: list[str]) -> dict[str, Any]:
    return {
        "as_expected": not any(r.differences for r in results),
        "ledger": place.ledger,
        "folder": str(place.folder),
        "tier": tier,
        "stories": [
            {
                "name": r.told.name,
                "agent": r.told.agent + place.suffix,
                "session_id": r.session,
                "differences": list(r.differences),
                "calls": [_call_document(call) for call in r.calls],
            }
            for r in results
        ],
        "next": commands,
    }


def _call_document(call: Happened) -> dict[str, Any]:
    return {
        "seq": call.seq,
        "tool": call.tool,
        "args": call.args,
        "asked": call.asks,
        "answer": call.answer,
        "answered_by": call.answered_by,
        "ends": call.ends,
        "ran": call.is_run,
        "confinement": call.confinement,
        "tried": [{"operation": o, "target": t, "verdict": v} for o, t, v in call.tried],
    }
