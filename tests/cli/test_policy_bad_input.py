"""Hostile calls, in a file for `eval` and `bench` and in a row of a case table: refused, or decided alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workbench.tables import folder

from cli.conftest import Shell

DEEP = "[" * 200 + "]" * 200
LARGE = "x" * (1 << 20)

# JSON of `args`, what a call file is told, what a row is told
REFUSED = [
    ('{"amount": NaN}', "NaN is not JSON", None),  # in YAML NaN is a text
    ('{"amount": 1e999}', "not finite", "JSON does not have"),
    ('{"amount": 18446744073709551616}', "2**53", "2**53"),
    ('{"amount": -9007199254740992}', "2**53", "2**53"),
    ('{"to": "\\ud800"}', "lone surrogate", "Unicode"),
    ('{"\\udfff": 1}', "lone surrogate", "Unicode"),
    ('{"to": %s}' % DEEP, "64 levels", "100 deep"),  # noqa: UP031 - braces
    ('{"to": %s}' % ("[" * 70 + "]" * 70), "64 levels", "64 levels"),
    ('{"to": 1, "to": 2}', "twice", "second time"),
    ('{"to": "%s"}' % LARGE, "1048576", "1048576"),  # noqa: UP031
    ('{"to": [%s]}' % ("1," * 599_999 + "1"), "1048576", "1048576"),
]

# What is unusual and can be sent: it is decided, and says the same to both.
DECIDED = [
    '{"to": "a\\u0000b"}',
    '{"\\u00e9": 1, "e\\u0301": 2, "amount": 40}',
    '{"amount": -0.0}',
    '{"to": "\\u202e\\u0007\\u001b[2J"}',
    '{"": {"": ""}}',
    '{"amount": 9007199254740991}',
]


def call_file(tmp_path: Path, args: str) -> Path:
    path = tmp_path / "call.json"
    path.write_text(f'{{"tool": "pay", "args": {args}}}')
    return path


def table(tmp_path: Path, args: str) -> Path:
    row = f"  - name: one\n    input: {{tool: pay, args: {args}}}\n    expect: {{effect: deny}}\n"
    return folder(tmp_path / "policies", cases="cases:\n" + row)


@pytest.mark.parametrize(("args", "said", "said_of_row"), REFUSED, ids=lambda text: str(text)[:20])
def test_call_that_no_guard_would_send_is_refused_wherever_it_is_written(
    fumehood: Shell, tmp_path: Path, args: str, said: str, said_of_row: str | None
) -> None:
    policies = table(tmp_path, args)
    given = call_file(tmp_path, args)
    for verb in ("eval", "explain", "bench"):
        found = fumehood("policy", verb, "refund", "-i", given, "--json")
        assert found.code == 2, (verb, found)
        error = json.loads(found.out)["error"]
        assert error["code"] == "bad_arguments" and said in error["message"]
    if said_of_row is not None:
        found = fumehood("policy", "test", policies)
        assert found.code == 3
        assert said_of_row in found.err and "pay_cases.yaml:" in found.err
        assert len(found.err) < 2_000


@pytest.mark.parametrize("args", DECIDED)
def test_unusual_call_is_decided_alike_in_a_file_and_in_a_row(
    fumehood: Shell, tmp_path: Path, args: str
) -> None:
    policies = table(tmp_path, args)
    found = fumehood("policy", "eval", policies, "-i", call_file(tmp_path, args), "--json")
    decision = json.loads(found.out)["decision"]
    said = fumehood("policy", "test", policies, "--mutate", "--json")
    is_denied = decision["effect"] == "deny"
    assert found.code == int(is_denied)
    assert json.loads(said.out)["ok"] is is_denied
    explained = fumehood("policy", "explain", policies, "-i", tmp_path / "call.json")
    assert explained.code == 0
    assert not {"\x00", "\x1b", "\x07", "\u202e"} & set(explained.out)
