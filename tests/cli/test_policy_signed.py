"""Signed policies in every verb of `fumehood policy` that reads policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pdp.keypairs import KeyPair, key_pair
from workbench.tables import folder

from cli.conftest import Shell
from fumehood import Guard
from fumehood.pdp import BundleKey
from fumehood.pdp.signatures import SIGNATURES, sign

CALL = '{"tool": "pay", "args": {"amount": 40}}'


def sign_folder(where: Path, key: KeyPair) -> Path:
    files = {path.name: path.read_bytes() for path in where.iterdir() if path.name != SIGNATURES}
    (where / SIGNATURES).write_bytes(sign(files, BundleKey.from_file(key.private)))
    return where


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return key_pair(tmp_path / "keys")


@pytest.fixture
def signed(tmp_path: Path, key: KeyPair) -> Path:
    return sign_folder(folder(tmp_path / "policies"), key)


@pytest.fixture
def call(tmp_path: Path) -> str:
    path = tmp_path / "call.json"
    path.write_text(CALL)
    return str(path)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    path = tmp_path / "ledger.db"
    with Guard(str(folder(tmp_path / "plain")), ledger=path, isolation="thread") as guard, guard.session():
        guard.call("read", {}, run=lambda: "ok")
    return str(path)


def each_verb(ledger: str, call: str) -> dict[str, tuple[str, ...]]:
    return {
        "check": (),
        "test": ("--mutate", "--fail-on-empty"),
        "eval": ("-i", call),
        "explain": ("-i", call),
        "replay": ("--ledger", ledger),
        "bench": ("-n", "3"),
        "inspect": (),
        "build": ("-o", f"{ledger}.tar.gz"),
    }


def test_each_verb_takes_signed_policies_with_their_key_and_refuses_them_without(
    fumehood: Shell, signed: Path, key: KeyPair, ledger: str, call: str, tmp_path: Path
) -> None:
    other = key_pair(tmp_path / "keys", name="other")
    for verb, more in each_verb(ledger, call).items():
        trusted = fumehood("policy", verb, signed, "--verification-key", key.public, *more)
        assert trusted.code == 0, (verb, trusted)
        if verb != "inspect":  # that looks at everything, and says that it is not verified
            bare = fumehood("policy", verb, signed, *more)
            assert bare.code == 3, (verb, bare)
            assert "--verification-key" in bare.err
        wrong = fumehood("policy", verb, signed, "--verification-key", other.public, *more)
        assert wrong.code == 3, (verb, wrong)
        for part in ("alg=ES256", "scope=x"):
            assert fumehood("policy", verb, signed, f"--verification-{part}", *more).code == 2


def test_what_was_changed_after_signing_is_refused_by_each_verb(
    fumehood: Shell, signed: Path, key: KeyPair, ledger: str, call: str
) -> None:
    policy = signed / "pay.rego"
    policy.write_text(policy.read_text().replace("<= 100", "<= 9000"))
    for verb, more in each_verb(ledger, call).items():
        said = fumehood("policy", verb, signed, "--verification-key", key.public, *more)
        assert said.code == 3, (verb, said)
        assert "is not what was signed" in said.err


def test_unsigned_policies_are_refused_where_a_key_is_given(
    fumehood: Shell, tmp_path: Path, key: KeyPair, ledger: str, call: str
) -> None:
    plain = folder(tmp_path / "unsigned")
    for verb, more in each_verb(ledger, call).items():
        said = fumehood("policy", verb, plain, "--verification-key", key.public, *more)
        assert said.code == 3, (verb, said)
        assert "is not signed" in said.err


def test_signed_archive_is_explained_with_its_key(
    fumehood: Shell, tmp_path: Path, signed: Path, key: KeyPair, call: str
) -> None:
    packed = tmp_path / "signed.tar.gz"
    build = ("-o", packed, "--signing-key", key.private, "--scope", "write")
    assert fumehood("policy", "build", signed, "--verification-key", key.public, *build).code == 0
    trusted = ("--verification-key", key.public, "--verification-scope", "write")
    said = fumehood("policy", "eval", packed, "-i", call, *trusted, "--json")
    assert (said.code, json.loads(said.out)["answer"]) == (0, "ask")
    assert fumehood("policy", "eval", packed, "-i", call, *trusted[:2]).code == 3
    assert fumehood("policy", "check", packed, *trusted).code == 0


def test_each_verb_says_in_one_shape_why_policies_cannot_be_used(
    fumehood: Shell, tmp_path: Path, ledger: str, call: str
) -> None:
    refused = folder(tmp_path / "refused", policy="package policies.pay\n\npermit := 1\n")
    for verb, more in each_verb(ledger, call).items():
        said = fumehood("policy", verb, refused, *more, "--json")
        found = json.loads(said.out)
        assert (said.code, found["ok"]) == (3, False), (verb, said)
        assert found["problems"][0]["line"] == 3, verb
        for source in ("./nowhere", "no_such_pack"):
            said = fumehood("policy", verb, source, *more, "--json")
            assert (said.code, json.loads(said.out)["ok"]) == (2, False), (verb, said)


def test_threshold_is_not_reached_where_there_are_no_tests(fumehood: Shell, tmp_path: Path) -> None:
    where = folder(tmp_path / "policies", cases="")
    assert fumehood("policy", "test", where).code == 0
    assert fumehood("policy", "test", where, "--threshold", "1").code == 1
