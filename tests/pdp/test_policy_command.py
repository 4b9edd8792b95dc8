"""`fumehood policy check|test` in a shell: what they print, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pdp.policies import HEAD, folder_of

from fumehood.cli.policy import policy

BAD = """package policies.x

import data.fumehood.call

permit if not startswith(call.args.to, "x")

denny contains "y" if call.tool == "z"
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(policy, [str(a) for a in arguments])


def test_check_of_good_policies_names_packages_and_revision(tmp_path: Path) -> None:
    result = run("check", folder_of(tmp_path / "p", x=HEAD))
    assert result.exit_code == 0
    assert "policies.x" in result.output
    assert "sha256:" in result.output


def test_check_of_bad_policies_shows_place_caret_and_remedy(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", x=BAD)
    result = run("check", folder)
    assert result.exit_code == 3
    lines = result.output.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{folder}/x.rego:5:11: "))
    assert lines[at + 1].endswith('permit if not startswith(call.args.to, "x")')
    assert lines[at + 2].index("^") - lines[at + 1].index("permit") == 10
    assert "x := call.args.to" in lines[at + 3]
    assert f'{folder}/x.rego:7:1: `denny` is not a rule that anybody asks for; did you mean "deny"?' in lines


def test_check_in_json_has_every_field(tmp_path: Path) -> None:
    result = run("check", "--json", folder_of(tmp_path / "p", x=BAD))
    said = json.loads(result.output)
    assert (result.exit_code, said["ok"], len(said["problems"])) == (3, False, 3)
    assert set(said["problems"][0]) == {"file", "line", "column", "message", "remedy", "source_line"}


def test_no_such_source_is_a_usage_error() -> None:
    assert run("check", "nowhere").exit_code == 2
    assert run("test", "./nowhere").exit_code == 2


def test_hostile_text_of_a_policy_is_shown_inert(tmp_path: Path) -> None:
    text = HEAD + 'deny contains {"reason": "\u202e\x9b31m"} if call.args.\u202e == 1\n_x := \x1b[31mred\n'
    for arguments in (("check",), ("check", "--json"), ("test",)):
        shown = run(*arguments, folder_of(tmp_path / "p", x=text)).output
        assert not set(shown) & {"\x1b", "\x9b", "\u202e"}


def test_packs_pass_their_tests_from_the_shell() -> None:
    result = run("test", "refund", "model-file", "drain", "python")
    assert (result.exit_code, result.output) == (0, "35 pass\n")


def test_failing_test_is_named_with_its_place_and_exit_one(tmp_path: Path) -> None:
    tests = "package x_test\n\ntest_a if 1 == 2\n\ntest_b if 1 == 1\n"
    folder = folder_of(tmp_path / "p", x=HEAD, x_test=tests)
    result = run("test", folder)
    assert result.exit_code == 1
    assert f"FAIL data.x_test.test_a  {folder}/x_test.rego:3" in result.output
    assert "PASS" not in result.output
    assert "PASS data.x_test.test_b" in run("test", "-v", folder).output
    assert run("test", "--run", "test_b", folder).exit_code == 0
    assert run("test", "--run", "nothing", folder).exit_code == 2
    rows = json.loads(run("test", "--json", folder).output)
    assert [row["outcome"] for row in rows] == ["fail", "pass"]


def test_test_of_bad_policies_is_exit_three(tmp_path: Path) -> None:
    assert run("test", folder_of(tmp_path / "p", x=BAD)).exit_code == 3


@pytest.mark.parametrize("module", ["fumehood.cli.policy", "fumehood.normalise"])
def test_import_loads_no_engine_and_no_pydantic(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in ('regorus', 'pydantic', 'opa_client') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_deciding_loads_no_pydantic_and_no_opa_client() -> None:
    code = (
        "import sys; from fumehood.pdp import load_bundle, open_pdp\n"
        "open_pdp(load_bundle('refund'), isolation='thread')\n"
        "print([m for m in ('pydantic', 'opa_client', 'click') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
