"""What was learnt the hard way about the two engines, one test each, where no other file has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pdp.documents import asked
from pdp.engines import said
from pdp.policies import bundle_of, folder_of

from fumehood.errors import PdpError
from fumehood.model import Decision
from fumehood.pdp import check, load_bundle, open_pdp
from fumehood.pdp.engine import Engine

HEAD = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "read"\n\n'

UNUSED = {
    "an error": "_unused if abs(call.args.n) > 1\n",
    "a conflict": "_unused := call.args.n\n\n_unused := call.args.m\n",
    "a division": "_unused if 1 / call.args.z == 1\n",
    "a test's name in a helper": "_test_unused if abs(call.args.n) > 1\n",
}


@pytest.mark.parametrize("name", UNUSED)
def test_helper_that_nobody_asks_denies_nothing(name: str, tmp_path: Path, opa_url: str) -> None:
    """Walking `data.policies[name]` would evaluate it, and one error in it would deny every call."""
    bundle = bundle_of(tmp_path, HEAD + UNUSED[name])
    for pdp in (open_pdp(bundle, isolation="thread"), open_pdp(bundle, url=opa_url)):
        answer = said(pdp, asked("read", {"n": "text", "m": 2, "z": 0}))
        pdp.close()
        assert isinstance(answer, Decision), answer
        assert answer.is_permit


def test_other_package_with_an_error_for_its_own_tool_denies_that_tool_only(tmp_path: Path) -> None:
    body = 'input.resource.id == "pay"; abs(input.action.properties.args.n) > 1'
    folder = folder_of(tmp_path / "p", x=HEAD, y=f"package policies.y\n\npermit if {{ {body} }}\n")
    bundle = load_bundle([folder])
    pdp = open_pdp(bundle, isolation="thread")
    assert said(pdp, asked("pay", {"n": "text"})) == "pdp_error"
    assert pdp.evaluate(asked("read", {"n": "text"})).is_permit


def test_text_that_looks_like_regorus_undefined_is_a_text(tmp_path: Path) -> None:
    rule = 'deny contains {"reason": "x", "detail": call.arg("d", "")} if call.args.d == "<undefined>"\n'
    pdp = open_pdp(bundle_of(tmp_path, HEAD + rule), isolation="thread")
    assert [r.detail for r in pdp.evaluate(asked("read", {"d": "<undefined>"})).reasons] == ["<undefined>"]


def test_rule_that_is_undefined_is_an_error_and_no_text() -> None:
    engine = Engine([("x.rego", 'package x\n\nv if input.a == "b"\n')])
    with pytest.raises(PdpError) as raised:
        engine.evaluate("data.x.v", "{}")
    assert raised.value.code == "pdp_undefined"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "#\n" * 20_001, "line count"),
        (HEAD + "_x := [" + "1, " * 400 + "1]\n", "column"),
        (HEAD + "#" * (1 << 20), "larger than"),
    ],
)
def test_file_beyond_the_engines_limits_is_refused_with_its_name(
    text: str, says: str, tmp_path: Path
) -> None:
    problems = check([folder_of(tmp_path, x=text)])
    assert any(says in p.message and p.file.endswith("x.rego") and p.remedy for p in problems), problems


def test_integers_are_compared_exactly_as_far_as_they_are_bound(tmp_path: Path, opa_url: str) -> None:
    rule = 'deny contains "big" if call.args.n > 9007199254740990\n'
    bundle = bundle_of(tmp_path, HEAD + rule)
    for pdp in (open_pdp(bundle, isolation="thread"), open_pdp(bundle, url=opa_url)):
        denied = [not pdp.evaluate(asked("read", {"n": n})).is_permit for n in (2**53 - 2, 2**53 - 1)]
        pdp.close()
        assert denied == [False, True]
