"""The packs: well made, tested beside, and the three stories told as calls."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from host import opa_binary, require
from pdp.documents import asked

import fumehood_policies
from fumehood.model import Confine, Effect, Limit, PolicyInput, Risk
from fumehood.normalise import normalised
from fumehood.pdp import check, load_bundle, open_pdp, run_tests, sources
from fumehood.pdp.combine import PUBLIC

PACKS = sources.pack_names()
ROOT = fumehood_policies.LIBRARY.parent
PACK_ROOT = fumehood_policies.PACKS

# OWASP Top 10 for Agentic Applications 2026, OWASP Top 10 for LLM Applications 2025, MITRE ATLAS
CONTROL = re.compile(r"(ASI(0[1-9]|10)|LLM(0[1-9]|10):2025|AML\.T\d{4}(\.\d{3})?)\Z")


def decide(pack: str, call: PolicyInput):  # type: ignore[no-untyped-def]
    return open_pdp(load_bundle(pack), isolation="thread").evaluate(call)


#: Packs that only refuse, ask, count or redact: they permit nothing, so they are loaded beside one that does.
RESTRICTING = {"hours_and_roles", "inventory", "limits", "secrets"}


def with_permits(pack: str) -> list[str]:
    return ["baseline", pack] if pack in RESTRICTING else [pack]


def package_of(pack: str) -> str:
    (path,) = (path for path in (PACK_ROOT / pack).glob("*.rego") if not path.name.endswith("_test.rego"))
    return re.findall(r"^package (policies\.\w+)", path.read_text(), re.MULTILINE)[0]  # type: ignore[no-any-return]


def test_packs_are_there() -> None:
    assert set(PACKS) == {"baseline", "refund", "model_files", "drain", "python", *RESTRICTING}


def test_pack_is_found_by_its_old_name() -> None:
    assert load_bundle("model-file").packages == load_bundle("model_files").packages
    assert set(fumehood_policies.OLD_NAMES.values()) <= set(PACKS)
    assert set(fumehood_policies.OLD_NAMES) & set(PACKS) == set()


@pytest.mark.parametrize("pack", PACKS)
def test_pack_passes_the_gate_and_its_own_tests(pack: str) -> None:
    assert check(with_permits(pack)) == []
    results = run_tests(with_permits(pack), only=re.escape(package_of(pack)))
    assert len(results) >= 3
    assert [result for result in results if result.outcome != "pass"] == []


@pytest.mark.parametrize("pack", sorted(RESTRICTING))
def test_pack_that_only_restricts_is_refused_alone(pack: str) -> None:
    (problem,) = check([pack])
    assert "no policy of this bundle has a `permit`" in problem.message
    assert "beside them" in problem.remedy
    assert check([pack, "refund"]) == []


def test_packs_can_be_loaded_together() -> None:
    assert len(load_bundle(PACKS).packages) == len(PACKS)


@pytest.mark.parametrize("path", sorted(ROOT.glob("packs/*/*.rego")), ids=lambda path: path.name)
def test_each_public_rule_has_metadata_and_real_controls(path: Path) -> None:
    if path.name.endswith("_test.rego"):
        return
    text = path.read_text()
    for control in re.findall(r"controls: \[([^]]*)\]", text):
        assert all(CONTROL.match(name.strip()) for name in control.split(",")), control
    for control in re.findall(r'"controls": \[([^]]*)\]', text):
        assert all(CONTROL.match(name.strip().strip('"')) for name in control.split(",")), control
    assert re.search(r"# METADATA\n# title: .*\n(# .*\n)*package policies\.", text)
    for rule in re.finditer(rf"^({'|'.join(PUBLIC)})\b", text, re.MULTILINE):
        before = text[: rule.start()].rstrip("\n").split("\n\n")[-1]
        assert before.startswith("# METADATA"), text[rule.start() : rule.start() + 60]


@pytest.mark.parametrize("path", sorted(ROOT.glob("packs/*/*.rego")), ids=lambda path: path.name)
def test_each_policy_has_its_test_beside_it(path: Path) -> None:
    if not path.name.endswith("_test.rego"):
        assert path.with_name(path.stem + "_test.rego").exists()


def opa(*arguments: str, packs: Sequence[str] = PACKS) -> subprocess.CompletedProcess[str]:
    """Each pack is a root of its own to OPA, as it is to us; case tables are no data."""
    roots = [str(fumehood_policies.LIBRARY), *(str(PACK_ROOT / pack) for pack in packs)]
    return subprocess.run(
        [str(opa_binary()), *arguments, *roots], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("pack", PACKS)
def test_opa_itself_passes_the_same_tests_and_they_reach_every_line(pack: str) -> None:
    require("opa")
    answer = opa("test", "--coverage", "--ignore", "*_cases.yaml", packs=[pack])
    assert answer.returncode == 0, answer.stdout + answer.stderr
    files = {Path(name).name: found for name, found in json.loads(answer.stdout)["files"].items()}
    (policy,) = (
        path.name for path in (PACK_ROOT / pack).glob("*.rego") if not path.name.endswith("_test.rego")
    )
    assert files[policy]["coverage"] == 100, files[policy]["not_covered"]


def test_opa_finds_nothing_to_say_even_strictly() -> None:
    require("opa")
    strict = opa("check", "--strict", "--ignore", "*_cases.yaml")
    assert (strict.returncode, strict.stderr) == (0, "")
    assert opa("fmt", "--list").stdout == ""


USER = {"/order_id": "user", "/amount_usd": "user"}


def test_refund_story() -> None:
    small = decide("refund", asked("issue_refund", {"order_id": "A-1", "amount_usd": 40}, origins=USER))
    assert (small.effect, small.obligations) == (Effect.PERMIT, ())
    injected = USER | {"/amount_usd": "untrusted"}
    waits = decide("refund", asked("issue_refund", {"order_id": "A-1", "amount_usd": 500}, origins=injected))
    assert waits.effect is Effect.PERMIT
    assert [ask.risk for ask in waits.approvals] == [Risk.HIGH]
    large = decide("refund", asked("issue_refund", {"order_id": "A-1", "amount_usd": 5000}, origins=USER))
    assert large.effect is Effect.DENY
    assert large.reasons[0].controls == ("ASI02",)


def test_model_file_story() -> None:
    args = {"path": "/srv/models/downloaded.pkl"}
    decision = decide("model_files", asked("load_model", args, normalised=normalised(args)))  # type: ignore[arg-type]
    assert [o.profile for o in decision.obligations if isinstance(o, Confine)] == ["model-loader"]
    out = {"path": "/srv/models/../../etc/passwd"}
    assert decide("model_files", asked("load_model", out, normalised=normalised(out))).effect is Effect.DENY  # type: ignore[arg-type]


def test_drain_story() -> None:
    decision = decide("drain", asked("score", {"features": [0.1, 0.2]}))
    (limit,) = (o for o in decision.obligations if isinstance(o, Limit))
    assert (limit.key, limit.max, limit.per_s, limit.cost) == ("bot/score", 20.0, 3600.0, 1.0)


def test_policies_import_nothing() -> None:
    text = Path(fumehood_policies.__file__).read_text()
    assert re.findall(r"^(?:from|import) (\S+)", text, re.MULTILINE) == ["pathlib"]
