"""The packs' case tables: every row's decision, from the arguments as a guard would parse them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import yaml
from pdp.documents import as_input, document
from policies.test_packs import with_permits

import fumehood_policies
from fumehood.model import Decision, Pdp
from fumehood.normalise import normalised
from fumehood.pdp import load_bundle, open_pdp, sources

PACKS = sources.pack_names()


def table(pack: str) -> list[dict[str, Any]]:
    (path,) = (fumehood_policies.PACKS / pack).glob("*_cases.yaml")
    return yaml.safe_load(path.read_text())["cases"]  # type: ignore[no-any-return]


def put(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(into.get(name), dict) and isinstance(value, Mapping):
            put(into[name], value)
        else:
            into[name] = value


def whole(fragment: Mapping[str, Any]) -> dict[str, Any]:
    """The policy input for a row: an ordinary call, and what the row says of it."""
    args = fragment.get("args", {})
    content: dict[str, Any] = document(fragment["tool"], args, origins=fragment.get("origins", {}))
    content["context"]["normalised"] = normalised(args)
    put(content, {part: fragment.get(part, {}) for part in ("subject", "action", "resource", "context")})
    return content


@cache
def engine(pack: str) -> Pdp:
    return open_pdp(load_bundle(with_permits(pack)), isolation="thread")


def effect_of(decision: Decision) -> str:
    return "ask" if decision.is_permit and decision.approvals else decision.effect.value


ROWS = [pytest.param(pack, row, id=f"{pack}: {row['name']}") for pack in PACKS for row in table(pack)]


@pytest.mark.parametrize(("pack", "row"), ROWS)
def test_row_is_decided_as_it_says(pack: str, row: dict[str, Any]) -> None:
    decision = open_pdp(load_bundle(with_permits(pack)), isolation="thread").evaluate(
        as_input(whole(row["input"]))
    )
    expected = row["expect"]
    assert effect_of(decision) == expected["effect"], decision
    said = {reason.text for reason in decision.reasons} | {ask.reason for ask in decision.approvals}
    assert set(expected.get("reasons", said)) <= said
    named = {type(obligation).__name__.lower() for obligation in decision.obligations}
    assert {wanted["type"] for wanted in expected.get("obligations", [])} <= named


@pytest.mark.parametrize("pack", PACKS)
def test_table_is_long_enough_and_names_each_row_once(pack: str) -> None:
    names = [row["name"] for row in table(pack)]
    assert len(names) >= 5
    assert len(set(names)) == len(names)


def test_every_file_of_a_pack_is_one_that_is_known() -> None:
    known = (".rego", "_cases.yaml", "data.json", "parameters.jsonschema")
    assert [path for path in fumehood_policies.PACKS.rglob("*.*") if not path.name.endswith(known)] == []
