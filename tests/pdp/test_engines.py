"""The embedded engine and a real OPA server give the same decisions, but for what is published."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from host import require
from pdp.documents import as_input, document
from pdp.engines import LISTED, differences, request
from pdp.gate_corpus import GOOD
from pdp.generated import ARGS, DATA, NORMALISED, policy
from pdp.opa_server import running_opa
from pdp.policies import folder_of
from policies.test_packs import package_of, with_permits

from fumehood.errors import ConfigError
from fumehood.model import Phase, PolicyInput
from fumehood.pdp import load_bundle, run_tests, sources

PACKS = sources.pack_names()


def inputs() -> Iterator[PolicyInput]:
    """Every phase, with arguments of every type, for tools that are permitted and that are not."""
    for phase in Phase:
        for args in ARGS if phase is Phase.EXECUTE_TOOL else ARGS[:2]:
            for tool in ("pay", "read", "b"):
                content = document(
                    tool, args, phase=phase, origins={"/a": "user"}, result=args, normalised=NORMALISED
                )
                content["resource"]["properties"]["annotations"] = {"target": ["a", "/o/k"]}  # type: ignore[index,call-overload]
                yield as_input(content)


INPUTS = tuple(inputs())


def pack_inputs() -> Iterator[PolicyInput]:
    """Calls of the packs' own tools, good, bad and odd."""
    amounts = [40, 0, -1, 1000, 1000.01, "40", None, True, [40], 1e21]
    features = [[1, 2], [], [[1]], {"a": 1}, {"a": {"b": 1}}, "text", 3, None, list(range(257))]
    paths = ["/srv/models/a.pkl", "/srv/a.pkl", "/models", "", None, 3]
    for origin in ("user", "untrusted", "unknown"):
        for amount in amounts:
            args = {"order_id": "A-1", "amount_usd": amount}
            yield as_input(
                document("issue_refund", args, origins={"/order_id": "user", "/amount_usd": origin})
            )
    for row in features:
        yield as_input(document("score", {"features": row}))  # type: ignore[dict-item]
    for path in paths:
        normal = {"paths": {"/path": path}} if isinstance(path, str) else {}
        for tool in ("load_model", "inspect_model", "download_model"):
            yield as_input(document(tool, {"path": path}, normalised=normal))
    for tool in ("python", "shell", "read_ticket", "nothing"):
        yield as_input(document(tool))


def unlisted(found: list[object]) -> list[object]:
    return [difference for difference in found if not difference.id]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", GOOD)
def test_form_that_passes_the_gate_means_the_same_to_both(name: str, tmp_path: Path, opa_url: str) -> None:
    bundle = load_bundle([folder_of(tmp_path / "policies", x=GOOD[name])])
    assert unlisted(differences(bundle, opa_url, INPUTS)) == []  # type: ignore[arg-type]


def test_packs_mean_the_same_to_both(opa_url: str) -> None:
    bundle = load_bundle(PACKS)
    found = differences(bundle, opa_url, [*INPUTS, *pack_inputs()])
    assert unlisted(found) == []  # type: ignore[arg-type]


def compare_generated(seed: int, accepted_wanted: int, where: Path, opa_url: str) -> Counter[str]:
    """Random policies until so many have passed the gate; how often each published difference was met."""
    dice = random.Random(seed)
    ids: Counter[str] = Counter()
    while ids["accepted"] < accepted_wanted:
        text = policy(dice)
        try:
            bundle = load_bundle([folder_of(where / "policies", x=text, data_dot_json=DATA)])
        except ConfigError:
            ids["refused"] += 1
            continue
        ids["accepted"] += 1
        for difference in differences(bundle, opa_url, INPUTS):
            assert difference.id, f"{text}\n{difference}"
            ids[difference.id] += 1
    return ids


def test_random_policies_mean_the_same_to_both(tmp_path: Path, opa_url: str) -> None:
    ids = compare_generated(3, 8, tmp_path, opa_url)
    assert set(ids) - {"accepted", "refused"} <= LISTED


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 16))
def test_many_random_policies_mean_the_same_to_both(seed: int, tmp_path: Path, opa_url: str) -> None:
    compare_generated(seed, 300, tmp_path, opa_url)


@pytest.mark.parametrize("pack", PACKS)
def test_every_policy_test_says_the_same_in_both(pack: str) -> None:
    given = with_permits(pack)
    here = {
        result.name: result.outcome for result in run_tests(given, only=re.escape(package_of(pack) + "_test"))
    }
    read = sources.read(given)
    files = [*sources.library(), *(f for f in read.files if f.is_rego)]
    require("opa")
    with running_opa() as url:
        status, answer = request(url, "PUT", "/v1/data", load_bundle(given).data.encode())
        assert status == 204, answer
        for file in files:
            status, answer = request(url, "PUT", "/v1/policies/" + quote(file.name), file.text.encode())
            assert status == 200, answer
        there = {name: outcome_at(url, name) for name in here}
    assert len(here) >= 3
    assert there == here
    assert set(here.values()) == {"pass"}


def outcome_at(opa_url: str, name: str) -> str:
    path = "/v1/" + name.replace(".", "/") + "?strict-builtin-errors=true"
    status, answer = request(opa_url, "POST", path, b"{}")
    assert isinstance(answer, dict)
    if status != 200:
        return "error"
    return "pass" if answer.get("result", False) is not False else "fail"


def test_inputs_are_documents_that_a_guard_could_send() -> None:
    from fumehood.pdp.document import complaints

    wrong = [complaints(json.loads(asked.body)) for asked in pack_inputs()]
    assert not any(wrong), wrong
