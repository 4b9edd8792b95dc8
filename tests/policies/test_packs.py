"""The packs: well made, tested beside, and the three stories told as calls."""

from __future__ import annotations

import re
import subprocess
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

# OWASP Top 10 for Agentic Applications 2026, OWASP Top 10 for LLM Applications 2025, MITRE ATLAS
CONTROL = re.compile(r"(ASI(0[1-9]|10)|LLM(0[1-9]|10):2025|AML\.T\d{4}(\.\d{3})?)\Z")


def decide(pack: str, call: PolicyInput):  # type: ignore[no-untyped-def]
    return open_pdp(load_bundle(pack), isolation="thread").evaluate(call)


def test_packs_of_the_stories_are_there() -> None:
    assert set(PACKS) == {"refund", "model-file", "drain", "python"}


@pytest.mark.parametrize("pack", PACKS)
def test_pack_passes_the_gate_and_its_own_tests(pack: str) -> None:
    assert check([pack]) == []
    results = run_tests(pack)
    assert len(results) >= 3
    assert {result.outcome for result in results} == {"pass"}


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


def opa(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(opa_binary()), *arguments, str(ROOT)], capture_output=True, text=True, check=False, timeout=60
    )


def test_opa_itself_passes_the_same_tests() -> None:
    require("opa")
    answer = opa("test")
    assert answer.returncode == 0, answer.stdout
    assert f"PASS: {len(run_tests(PACKS))}/" in answer.stdout


def test_opa_finds_nothing_to_say_even_strictly() -> None:
    require("opa")
    strict = opa("check", "--strict")
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
    decision = decide("model-file", asked("load_model", args, normalised=normalised(args)))  # type: ignore[arg-type]
    assert [o.profile for o in decision.obligations if isinstance(o, Confine)] == ["model-loader"]
    out = {"path": "/srv/models/../../etc/passwd"}
    assert decide("model-file", asked("load_model", out, normalised=normalised(out))).effect is Effect.DENY  # type: ignore[arg-type]


def test_drain_story() -> None:
    decision = decide("drain", asked("score", {"features": [0.1, 0.2]}))
    (limit,) = (o for o in decision.obligations if isinstance(o, Limit))
    assert (limit.key, limit.max, limit.per_s, limit.cost) == ("bot/score", 20.0, 3600.0, 1.0)


def test_policies_import_nothing() -> None:
    text = Path(fumehood_policies.__file__).read_text()
    assert re.findall(r"^(?:from|import) (\S+)", text, re.MULTILINE) == ["pathlib"]
