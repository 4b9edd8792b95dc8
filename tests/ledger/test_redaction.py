from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fumehood.redaction import (
    MARK,
    is_secret_name,
    redacted_args,
    redacted_input,
    redacted_json,
    redacted_text,
)
from ledger.samples import a_call

CREDENTIALS = [
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "ghp_" + "a" * 36,
    "github_pat_" + "b" * 30,
    "glpat-" + "c" * 20,
    "xoxb-" + "1234567890-abc",
    "sk-" + "ant-" + "d" * 40,
    "sk_live_" + "e" * 24,
    "AIza" + "f" * 35,
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0." + "signature",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\ncut off",
]


@pytest.mark.parametrize("secret", CREDENTIALS)
def test_known_credential_is_taken_out_wherever_it_stands(secret: str) -> None:
    assert redacted_text(f"see {secret}") == f"see {MARK}"
    said = redacted_json(json.dumps({"a": [{"b": f"x {secret}"}], secret: 1}).encode())
    assert secret.split("\n")[-1].encode() not in said.replace(b"x", b"")
    assert MARK.encode() in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefghijklmnop", f"Authorization: Bearer {MARK}"),
        ("https://olga:hunter2@example.org/x", f"https://olga:{MARK}@example.org/x"),
        ("PASSWORD=hunter2 next", f"PASSWORD={MARK} next"),
        ('{"api_key": "abcdef123"}', f'{{"api_key": "{MARK}"}}'),
        ("max_tokens=100", "max_tokens=100"),
        ("ticket 881 of https://example.org/a:b", "ticket 881 of https://example.org/a:b"),
        ("a\ud800b", "a\\ud800b"),
    ],
)
def test_text_is_redacted_by_its_shape(text: str, shown: str) -> None:
    assert redacted_text(text) == shown


@pytest.mark.parametrize(
    "name", ["password", "X-Api-Key", "db_password", "accessToken", "Authorization", "Cookie"]
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)
    assert json.loads(redacted_json(json.dumps({"h": {name: "v"}}).encode())) == {"h": {name: MARK}}


@pytest.mark.parametrize(
    "name", ["max_tokens", "next_page_token", "author", "tokenizer", "passwords_changed"]
)
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


def test_escaped_name_is_found() -> None:
    assert b"hunter2" not in redacted_json(rb'{"passw\u006frd":"hunter2"}')


def test_document_without_a_secret_is_not_touched() -> None:
    document = b'{"b": 1.0,   "a":[1e3]}'
    assert redacted_json(document) is document


def test_annotated_argument_is_taken_out_of_the_whole_policy_input() -> None:
    call = a_call({"pin": "4711-geheim", "deep": {"x": "other-secret"}, "n": 5}, secret=["pin", "/deep/x"])
    assert json.loads(redacted_args(call)) == {"pin": MARK, "deep": {"x": MARK}, "n": 5}
    document = {
        "action": {"properties": {"args": json.loads(call.args)}},
        "context": {
            "session": {"prompt": "my pin is 4711-geheim"},
            "normalised": {"path": {"/deep/x": "OTHER", "/n": "5"}, "argv": {"/pin": ["47"]}},
        },
    }
    said = redacted_input(call, json.dumps(document).encode()).decode()
    assert "geheim" not in said
    assert "other-secret" not in said
    assert json.loads(said)["context"]["normalised"] == {
        "path": {"/deep/x": MARK, "/n": "5"},
        "argv": {"/pin": MARK},
    }


def test_policy_input_without_a_secret_is_kept_byte_for_byte() -> None:
    document = (
        b'{"action":{"properties":{"args":{"amount_usd":500}}},"resource":{"annotations":{"secret":[]}}}'
    )
    assert redacted_input(a_call(), document) is document


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_redaction_is_stable_and_json_stays_json(value: object) -> None:
    document = json.dumps(value).encode()
    once = redacted_json(document)
    assert redacted_json(once) == once
    json.loads(once)


NAMES = st.lists(
    st.sampled_from(["pass", "word", "-", "_", '"', "\\", "\n", "api", "Key", "token", "s", "é", "1"])
)


@given(st.dictionaries(NAMES.map("".join), st.just("v"), min_size=1))
def test_quick_look_misses_no_name(value: dict[str, str]) -> None:
    for document in (json.dumps(value), json.dumps(value, ensure_ascii=False, separators=(",", ":"))):
        hidden = {MARK if v == MARK else k for k, v in json.loads(redacted_json(document.encode())).items()}
        assert hidden == {MARK if is_secret_name(k) else k for k in value}


@given(st.text())
def test_redacted_text_can_always_be_written(text: str) -> None:
    once = redacted_text(text)
    once.encode()
    assert redacted_text(once) == once
