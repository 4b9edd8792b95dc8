"""The catalogue itself: what it must hold, and that what it publishes is published."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from escape import scene, table
from escape.catalogue import ATTACKS
from escape.model import KINDS, Attack

PAGE = (Path(__file__).parents[2] / "docs" / "escape.md").read_text()


def test_there_are_enough_attacks_of_every_class_and_no_two_are_the_same() -> None:
    assert len(ATTACKS) >= 150
    counts = Counter(attack.kind for attack in ATTACKS)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 15
    for field in ("id", "tries"):
        assert len({getattr(attack, field) for attack in ATTACKS}) == len(ATTACKS)
    assert len(
        {(str(attack.payload), attack.profile, attack.needs, attack.kind) for attack in ATTACKS}
    ) == len(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_attack_is_described_and_can_be_set_up(attack: Attack) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", attack.id)
    assert set(attack.needs) <= set(scene.PARTS)
    assert set(attack.reaches) <= {"no-userns"}, "nothing may reach through the tier full"


def test_what_a_tier_does_not_stop_is_on_the_page_with_its_reason() -> None:
    assert table.published(ATTACKS) in PAGE, (
        "python scripts/escape.py --published prints the list for docs/escape.md"
    )
    named = set(re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE))
    assert named == {attack.id for attack in ATTACKS if attack.reaches}


def test_the_page_says_how_many_attacks_there_are() -> None:
    for kind, count in Counter(attack.kind for attack in ATTACKS).items():
        assert f"| {kind} | {count} |" in PAGE


def test_an_escape_from_full_makes_the_command_fail() -> None:
    through = {(ATTACKS[0].id, "full"): True}
    assert table.status(through) == 1
    assert table.status({(ATTACKS[0].id, "full"): False, (ATTACKS[0].id, "plain"): True}) == 0
