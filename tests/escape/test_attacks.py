"""Every attack of the catalogue, in every place: it works without a sandbox, and what stops it is ours."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest
from host import require

from escape.catalogue import ATTACKS
from escape.lab import Lab, Unusable
from escape.model import Attack, Verdict
from escape.places import UNFILTERED

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")

#: What a payload raises that is wrong itself, and stopped by nothing but its own fault.
FAULTS = (
    "NameError",
    "SyntaxError",
    "TypeError",
    "AttributeError",
    "ImportError",
    "ModuleNotFoundError",
    "KeyError",
)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    try:
        lab = Lab()
    except Unusable as why:
        pytest.skip(str(why))
    with lab:
        yield lab


def tried(lab: Lab, attack: Attack, place: str) -> Verdict:
    return lab.attempt(attack.id, place)


def gets_through(lab: Lab, attack: Attack, place: str) -> Verdict:
    """The attack, where it is expected to work: once of three times shows that it does (others are at
    work on the machine, and many attacks look at what changes). Where it must fail, it has one attempt
    and none may work."""
    for _ in range(3):
        verdict = tried(lab, attack, place)
        if verdict.through:
            break
    return verdict


def ids(attack: Attack) -> str:
    return attack.id


@pytest.mark.parametrize("attack", ATTACKS, ids=ids)
def test_attack_succeeds_where_nothing_stops_it(lab: Lab, attack: Attack) -> None:
    """Else it would prove nothing that it fails elsewhere."""
    verdict = gets_through(lab, attack, "plain")
    if not verdict.through and attack.needs_of_host:
        pytest.skip(f"not possible on this host: {attack.needs_of_host} ({verdict.detail})")
    assert verdict.through, verdict.detail


@pytest.mark.parametrize("attack", ATTACKS, ids=ids)
@pytest.mark.parametrize("tier", ["full", "no-userns"])
def test_attack_fails_confined_but_for_what_is_published(lab: Lab, attack: Attack, tier: str) -> None:
    require("userns" if tier == "full" else "landlock")
    reaches = tier in attack.reaches
    verdict = (gets_through if reaches else tried)(lab, attack, tier)
    assert verdict.through == reaches, verdict.detail
    assert verdict.started or verdict.detail.startswith("refused: "), verdict.detail
    assert not any(fault in verdict.detail for fault in FAULTS), verdict.detail


def test_whoever_watches_sees_into_a_jail(lab: Lab) -> None:
    """With the filter open, doors of the kernel open too, and that is seen: "stopped" is not blindness."""
    require("userns")
    surface = [attack for attack in ATTACKS if attack.kind == "kernel surface" and not attack.needs]
    found = {attack.id: tried(lab, attack, UNFILTERED) for attack in surface}
    assert sum(verdict.through for verdict in found.values()) >= 15, found


def test_keys_of_the_caller_are_out_of_reach_without_the_filter_too(lab: Lab) -> None:
    require("userns")
    (attack,) = [attack for attack in ATTACKS if attack.id == "secret-key-of-session"]
    assert not tried(lab, attack, UNFILTERED).through


#: A profile that observes lets an Internet socket be made, in a network that leads nowhere.
LEADS_NOWHERE = {("model-loader", "kernel-udp-socket")}


@pytest.mark.slow
@pytest.mark.parametrize("attack", [a for a in ATTACKS if isinstance(a.payload, str)], ids=ids)
@pytest.mark.parametrize("profile", ["strictest", "python-data", "model-loader"])
def test_attack_fails_under_every_profile_that_shows_an_interpreter(
    lab: Lab, attack: Attack, profile: str
) -> None:
    require("userns")
    if attack.kind == "write-xor-execute" and profile == "python-data":
        pytest.skip("where programs may be started, a program that was written may be")
    verdict = tried(lab, attack, f"full as {profile}")
    assert verdict.through == ((profile, attack.id) in LEADS_NOWHERE), verdict.detail


@pytest.fixture(scope="module")
def roots_lab() -> Iterator[Lab]:
    require("root")
    with Lab(as_root=True) as lab:
        yield lab


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=ids)
@pytest.mark.parametrize("tier", ["full", "no-userns"])
def test_attack_on_what_is_roots_fails_too(roots_lab: Lab, attack: Attack, tier: str) -> None:
    """Everything planted is root's. Some of what is published is stopped then by whose it is."""
    verdict = tried(roots_lab, attack, tier)
    assert not verdict.through or tier in attack.reaches, verdict.detail
