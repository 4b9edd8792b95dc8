"""The table of `make escape`: every attack in every place, ours beside bubblewrap and no sandbox at all."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from queue import SimpleQueue
from typing import Final

from escape.catalogue import ATTACKS
from escape.lab import Lab, Unusable
from escape.model import KINDS, Attack, Verdict
from escape.places import bubblewrap

COLUMNS: Final = ("full", "no-userns", "bubblewrap", "plain")
Found = Mapping[tuple[str, str], Verdict | str]


def published(attacks: Iterable[Attack]) -> str:
    """What a tier does not stop, as the table for the documentation."""
    rows = [
        f"| `{attack.id}` | {attack.tries} | {why} |" for attack in attacks for why in attack.reaches.values()
    ]
    return "\n".join(["| attack | what it does | why `no-userns` does not stop it |", "|---|---|---|", *rows])


def counts(attacks: Iterable[Attack]) -> str:
    """How many attacks there are of each class, as the table for the documentation."""
    listed = list(attacks)
    rows = [f"| {kind} | {sum(a.kind == kind for a in listed)} |" for kind in KINDS]
    return "\n".join(["| class | attacks |", "|---|---|", *rows, f"| together | {len(listed)} |"])


def status(through: Mapping[tuple[str, str], bool]) -> int:
    """1 if anything got through the tier full."""
    return int(any(got for (_, place), got in through.items() if place == "full"))


def tried(attacks: list[Attack], places: list[str], *, jobs: int) -> dict[tuple[str, str], Verdict | str]:
    """Every attack in every place; where the harness itself failed, why."""
    labs: SimpleQueue[Lab] = SimpleQueue()
    opened = [Lab() for _ in range(jobs)]
    for lab in opened:
        labs.put(lab)

    def work(attack: Attack, place: str) -> tuple[tuple[str, str], Verdict | str]:
        lab = labs.get()
        try:
            return (attack.id, place), lab.attempt(attack.id, place)
        except RuntimeError as error:
            return (attack.id, place), f"{error}"
        finally:
            labs.put(lab)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(work, attack, place) for attack in attacks for place in places]
            return dict(future.result() for future in futures)
    finally:
        for lab in opened:
            lab.close()


def _word(verdict: Verdict | str | None) -> str:
    if verdict is None:
        return "-"
    if isinstance(verdict, str):
        return "error"
    return "THROUGH" if verdict.through else "stopped"


def _rows(attacks: list[Attack], found: Found, places: list[str]) -> list[str]:
    width = max(len(attack.id) for attack in attacks)
    lines = []
    for kind in KINDS:
        of_kind = [attack for attack in attacks if attack.kind == kind]
        if of_kind:
            lines += ["", kind]
        for attack in of_kind:
            words = "  ".join(f"{_word(found.get((attack.id, place))):10}" for place in places)
            lines.append(f"  {attack.id:{width}}  {words}  {attack.tries}")
    return lines


def _sums(attacks: list[Attack], found: Found, places: list[str]) -> list[str]:
    """How many got through, of how many, for each class and place."""
    lines = [f"{'got through':18}" + "".join(f"{place:>12}" for place in places) + f"{'of':>6}"]
    for kind in (*KINDS, "together"):
        of_kind = [a for a in attacks if kind in (a.kind, "together")]
        numbers = [sum(_word(found.get((a.id, place))) == "THROUGH" for a in of_kind) for place in places]
        if of_kind:
            lines.append(f"{kind:18}" + "".join(f"{n:>12}" for n in numbers) + f"{len(of_kind):>6}")
    return lines


def _notes(attacks: list[Attack], found: Found) -> list[str]:
    """What is not as the catalogue says."""
    lines = []
    for attack in attacks:
        for place in ("full", "no-userns"):
            verdict = found.get((attack.id, place))
            if isinstance(verdict, Verdict) and verdict.through != (place in attack.reaches):
                lines.append(f"not as published: {attack.id} in {place}: {verdict.detail}")
        plain = found.get((attack.id, "plain"))
        if isinstance(plain, Verdict) and not plain.through:
            lines.append(f"not possible on this host: {attack.id}: {plain.detail}")
    lines += [f"the harness failed: {key}: {why}" for key, why in found.items() if isinstance(why, str)]
    return lines


def _json(attacks: list[Attack], found: Found, places: list[str]) -> str:
    def told(verdict: Verdict | str | None) -> object:
        return asdict(verdict) if isinstance(verdict, Verdict) else verdict

    return json.dumps(
        {
            "attacks": [
                {
                    "id": attack.id,
                    "class": attack.kind,
                    "tries": attack.tries,
                    "profile": attack.profile,
                    "reaches": dict(attack.reaches),
                    "places": {place: told(found.get((attack.id, place))) for place in places},
                }
                for attack in attacks
            ],
            "through": {
                place: sum(_word(found.get((attack.id, place))) == "THROUGH" for attack in attacks)
                for place in places
            },
        },
        indent=2,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only attacks whose id or class holds one of these words")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument(
        "--published", action="store_true", help="print the lists for docs/escape.md, try nothing"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def main() -> int:
    """The command. 0: nothing got through the tier full; 1: something did; 2: that could not be found out."""
    asked = _arguments()
    if asked.published:
        print(counts(ATTACKS), published(ATTACKS), sep="\n\n")
        return 0
    attacks = [a for a in ATTACKS if not asked.words or any(w in a.id or w in a.kind for w in asked.words)]
    places = [place for place in COLUMNS if place != "bubblewrap" or bubblewrap()]
    try:
        found = tried(attacks, places, jobs=asked.jobs)
    except Unusable as why:
        print(why, file=sys.stderr)
        return 2
    if asked.json:
        print(_json(attacks, found, places))
    else:
        missing = [] if bubblewrap() else ["bubblewrap is not installed: no column for it"]
        notes = ["", *_notes(attacks, found), *missing]
        print("\n".join([*_rows(attacks, found, places), "", *_sums(attacks, found, places), *notes]))
    if any(isinstance(verdict, str) for verdict in found.values()):
        return 2
    return status({key: isinstance(v, Verdict) and v.through for key, v in found.items()})
