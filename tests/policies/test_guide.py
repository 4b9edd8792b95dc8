"""The policy author's guide: its example passes, and each thing it says is refused is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pdp.policies import HEAD, folder_of

from fumehood.pdp import check, run_tests
from fumehood.pdp.combine import PUBLIC
from fumehood.pdp.document import complaints
from fumehood.pdp.gate.context import CALL_FUNCTIONS, CALL_VALUES

GUIDE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
POLICY, TEST = re.findall(r"```rego\n(.*?)```", GUIDE, re.DOTALL)


def test_example_passes_the_gate_and_its_test_passes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", refunds=POLICY, refunds_test=TEST)
    assert [r.outcome for r in run_tests([folder])] == ["pass"]


def test_document_shown_is_a_policy_input() -> None:
    import json

    (shown,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    assert complaints(json.loads(shown)) == []


def test_every_rule_and_name_is_described() -> None:
    assert {rule for rule in PUBLIC if f"`{rule}`" not in GUIDE} == set()
    names = CALL_VALUES | set(CALL_FUNCTIONS)
    assert {name for name in names if not re.search(rf"`call\.{name}\b", GUIDE)} == set()


REFUSED = [
    'denny contains "x" if call.tool == "b"',
    'permit := "yes"',
    'deny if call.tool == "b"',
    'permit if call.tool != "pay"',
    'deny contains "x" if not startswith(call.args.to, "x")',
    '_x := "a" in input.list',
    'deny contains {"reason": "x", "detail": call.args.to} if call.tool == "b"',
    "_x := time.now_ns()",
    '_x := rand.intn("a", 3)',
    '_x := uuid.rfc4122("a")',
    "_x := http.send({})",
    "_x := opa.runtime()",
    "_x if regex.match(`^\\w+$`, call.tool)",
    "_x if data.policies[p].permit",
    "_x := data.fumehood.main",
    '_x if call.tool == "a" with input as {}',
]


@pytest.mark.parametrize("rule", REFUSED)
def test_what_the_guide_says_is_refused_is_refused(rule: str, tmp_path: Path) -> None:
    assert check([folder_of(tmp_path / "p", x=f"{HEAD}{rule}\n")])
