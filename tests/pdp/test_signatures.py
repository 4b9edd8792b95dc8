"""Signed bundles: whatever was changed after signing is refused, with the file and what to do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from pdp.certificates import Authority
from pdp.keypairs import KeyPair, key_pair
from pdp.policies import HEAD, folder_of

from fumehood import Guard
from fumehood.errors import ConfigError
from fumehood.pdp import BundleKey, inspect_sources, jws, keys_of, load_bundle, pack
from fumehood.pdp.archive import read_archive, write_archive
from fumehood.pdp.jws import signed
from fumehood.pdp.signatures import SIGNATURES, SignatureError, sign, verify
from fumehood.pdp.structured import digest_of

DATA = '{"tools": ["listed"]}'


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def files(tmp_path: Path, key: KeyPair) -> dict[str, bytes]:
    """A signed bundle."""
    folder = folder_of(
        tmp_path / "policies", x=HEAD + "permit if call.tool in data.tools\n", data_dot_json=DATA
    )
    packed = pack(load_bundle([folder]), key=BundleKey.from_file(key.private))
    return read_archive(packed)


def refusal(tmp_path: Path, files: dict[str, bytes], *keys: BundleKey) -> str:
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(write_archive(files))
    with pytest.raises(ConfigError) as raised:
        load_bundle([path], signed_by=keys)
    assert "\n  " in str(raised.value)  # a remedy
    return str(raised.value).split("\n")[1].removeprefix(str(path))


def token_of(files: dict[str, bytes]) -> list[str]:
    found: list[str] = json.loads(files[SIGNATURES])["signatures"][0].split(".")
    return found


def with_token(files: dict[str, bytes], token: str) -> dict[str, bytes]:
    return {**files, SIGNATURES: json.dumps({"signatures": [token]}).encode()}


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def signed_again(files: dict[str, bytes], key: KeyPair, change: Any) -> dict[str, bytes]:
    """The bundle with other claims, signed with the right key."""
    claims = json.loads(base64.urlsafe_b64decode(token_of(files)[1] + "==="))
    change(claims)
    return with_token(files, signed(json.dumps(claims).encode(), BundleKey.from_file(key.private)))


def test_what_was_signed_loads(tmp_path: Path, files: dict[str, bytes], key: KeyPair) -> None:
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(write_archive(files))
    assert load_bundle([path], signed_by=(BundleKey.from_file(key.public),)).packages == ("policies.x",)


def test_changed_missing_and_additional_files_are_refused_by_name(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair
) -> None:
    trusted = BundleKey.from_file(key.public)
    name = "policies/x.rego"
    changed = {**files, name: files[name] + b"permit if true\n"}
    assert refusal(tmp_path, changed, trusted).startswith(f":{name}:1:1: is not what was signed")
    data = {**files, "data.json": b'{"tools": ["other"]}'}
    assert refusal(tmp_path, data, trusted).startswith(":data.json:1:1: is not what was signed")
    manifest = {**files, ".manifest": files[".manifest"].replace(b"limits", b"l")}
    manifest[".manifest"] = b'{"revision": "1"}'
    assert refusal(tmp_path, manifest, trusted).startswith(":.manifest:1:1: is not what was signed")
    less = {n: c for n, c in files.items() if n != name}
    assert refusal(tmp_path, less, trusted) == f":{name}:1:1: was signed, and is not in the bundle"
    for more in ("policies/y.rego", "README.md", "policies/limits/data.json", ".hidden", "x_test.rego"):
        said = refusal(tmp_path, {**files, more: b"{}"}, trusted)
        assert said == f":{more}:1:1: is in the bundle, and was not signed"


def test_unsigned_bundle_or_folder_is_refused_where_keys_are_given(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair
) -> None:
    trusted = BundleKey.from_file(key.public)
    unsigned = {name: content for name, content in files.items() if name != SIGNATURES}
    assert "the bundle is not signed, and signatures are required" in refusal(tmp_path, unsigned, trusted)
    with pytest.raises(ConfigError, match="the bundle is not signed"):
        load_bundle([tmp_path / "policies"], signed_by=(trusted,))
    load_bundle("refund", signed_by=(trusted,))  # a part of the installation


def test_signed_bundle_is_refused_where_there_is_no_key(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert "no key to verify it with" in refusal(tmp_path, files)


def test_signature_of_another_key_is_refused(tmp_path: Path, files: dict[str, bytes], key: KeyPair) -> None:
    other = key_pair(tmp_path / "keys", name="other")
    said = refusal(tmp_path, files, BundleKey.from_file(other.public, id="other"))
    assert "does not verify: key 'other'" in said
    rsa = key_pair(tmp_path / "keys", "RS256", "rsa")
    assert "signed with 'ES256', and the key 'default' is for RS256" in refusal(
        tmp_path, files, BundleKey.from_file(rsa.public)
    )


def test_kid_that_is_known_leaves_one_key_to_try(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair
) -> None:
    other = key_pair(tmp_path / "keys", name="other")
    keys = (BundleKey.from_file(other.public, id="default"), BundleKey.from_file(key.public, id="right"))
    assert "key 'default'" in refusal(tmp_path, files, *keys)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "ES384", ""])
def test_token_cannot_choose_the_algorithm(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair, algorithm: str
) -> None:
    header, payload = encoded({"alg": algorithm, "kid": "default"}), token_of(files)[1]
    secret = key.public.read_bytes()  # the classic: the public key, which everybody has, as a secret
    mac = hmac.digest(secret, f"{header}.{payload}".encode(), "sha256")
    for signature in ("", token_of(files)[2], base64.urlsafe_b64encode(mac).decode().rstrip("=")):
        said = refusal(
            tmp_path, with_token(files, f"{header}.{payload}.{signature}"), BundleKey.from_file(key.public)
        )
        assert ".signatures.json" in said


def test_public_key_as_a_secret_is_refused(tmp_path: Path, files: dict[str, bytes], key: KeyPair) -> None:
    trusted = BundleKey.from_file(key.public, algorithm="HS256")
    assert "HS256 is for a secret, and this is PEM" in refusal(tmp_path, files, trusted)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["files"].append(dict(c["files"][0])), "is signed twice"),
        (lambda c: c["files"][0].update(algorithm="MD5"), "its MD5 digest"),
        (lambda c: c["files"][0].update(algorithm="SHA-1"), "its SHA-1 digest"),
        (lambda c: c["files"][0].update(algorithm=""), "its no digest"),
        (lambda c: c["files"][0].pop("hash"), "not a list of files"),
        (lambda c: c.update(files=None), "not a list of files"),
        (lambda c: c.update(files={}), "not a list of files"),
        (lambda c: c.update(files=[3]), "not a list of files"),
        (lambda c: c.update(files=[]), "was not signed"),
        (lambda c: c.update(scope="write"), "scope 'write', and it must be ''"),
        (lambda c: c.update(scope=None), "scope None"),
        (lambda c: c.update(exp=1), "has expired"),
        (lambda c: c.update(exp="never"), "`exp` is not a time"),
        (lambda c: c.update(nbf=1e12), "not valid yet"),
    ],
)
def test_claims_that_do_not_hold_are_refused(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair, change: Any, says: str
) -> None:
    assert says in refusal(tmp_path, signed_again(files, key, change), BundleKey.from_file(key.public))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"signatures": []}',
        b'{"signatures": ["a.b.c"]}',
        b'{"signatures": ["a.b.c", "a.b.c"]}',
        b'{"signatures": [3]}',
        b'{"signatures": "x"}',
        b'{"signatures": ["..."]}',
        b'{"signatures": ["' + b"a" * 100_000 + b'"]}',
        b'{"signatures": ["x"], "plugin": "mine"}',
        b'{"signatures": ["x"], "more": 1}',
        b'{"signatures": ["x"], "signatures": ["y"]}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_signatures_that_are_none_are_refused(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair, text: bytes
) -> None:
    said = refusal(tmp_path, {**files, SIGNATURES: text}, BundleKey.from_file(key.public))
    assert said.startswith(":.signatures.json:1:1: ")


@pytest.mark.parametrize(
    ("payload", "says"), [(b"{", "not valid JSON"), (b"[]", "not an object"), (b"\xff", "not")]
)
def test_what_was_signed_must_be_claims(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair, payload: bytes, says: str
) -> None:
    forged = with_token(files, signed(payload, BundleKey.from_file(key.private)))
    assert says in refusal(tmp_path, forged, BundleKey.from_file(key.public))
    path = tmp_path / "bundle.tar.gz"
    try:
        inspect_sources([path])  # without a key it is shown, whatever it says
    except ConfigError as error:
        assert ".signatures.json" in str(error)


def test_data_that_cannot_be_read_is_named(tmp_path: Path, files: dict[str, bytes], key: KeyPair) -> None:
    broken = {**files, "data.json": b"{"}
    assert refusal(tmp_path, broken, BundleKey.from_file(key.public)).startswith(
        ":data.json:1:1: cannot be read"
    )


def test_key_of_another_kind_signs_nothing(tmp_path: Path) -> None:
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    closed = (serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret"))
    for private, how, says in (
        (ed25519.Ed25519PrivateKey.generate(), plain, "RSA, ECDSA or a secret"),
        (ec.generate_private_key(ec.SECP256K1()), plain, "secp256k1 is not one of"),
        (ec.generate_private_key(ec.SECP256R1()), closed, "without a password"),
    ):
        text = private.private_bytes(pem, *how).decode()
        with pytest.raises(ConfigError, match=says):
            signed(b"{}", BundleKey(text))
        public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        if how is plain:
            with pytest.raises(ConfigError, match=says):
                jws.verified("a.b.c", BundleKey(public.decode()))
    with pytest.raises(ConfigError, match="an RSA key, and ES256 is not for RSA"):
        signed(b"{}", BundleKey.from_file(key_pair(tmp_path, "RS256").private, algorithm="ES256"))


def test_every_flipped_bit_of_the_token_is_noticed(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair
) -> None:
    trusted, token = keys_of(key.public), ".".join(token_of(files))
    for at in range(0, len(token), 7):
        other = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(SignatureError):
            verify(with_token(files, other), trusted)


def test_certificate_is_as_good_as_its_key(tmp_path: Path, files: dict[str, bytes]) -> None:
    pair = Authority(tmp_path / "ca").pair("signer")
    unsigned = {name: content for name, content in files.items() if name != SIGNATURES}
    unsigned[SIGNATURES] = sign(unsigned, BundleKey.from_file(pair.key))
    assert verify(unsigned, keys_of(pair.cert)).is_verified


def test_keys_that_cannot_be_used_are_refused_with_what_is_wrong(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair
) -> None:
    weak = key_pair(tmp_path / "keys", "RS256", "weak", bits=1024)
    for trusted, says in (
        (BundleKey.from_file(key.private), "it is a private key; give the public one"),
        (BundleKey.from_file(key.public, algorithm="RS256"), "it is a key for ES256, not for RS256"),
        (BundleKey.from_file(key.public, algorithm="ES384"), "it is a key for ES256, not for ES384"),
        (BundleKey.from_file(weak.public), "an RSA key has 2048 bits at least"),
        (BundleKey("short", algorithm="HS256"), "has 32 bytes at least (RFC 7518), this one 5"),
        (BundleKey("secret"), 'for a secret say algorithm="HS256"'),
        (BundleKey("-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"), "not the PEM of a public key"),
    ):
        path = tmp_path / "b.tar.gz"
        path.write_bytes(write_archive(files))
        with pytest.raises(ConfigError) as raised:
            load_bundle([path], signed_by=(trusted,))
        assert says in str(raised.value)
    for settings in ({"algorithm": "none"}, {"algorithm": 3}, {"id": None}, {"scope": 1}):
        with pytest.raises(ConfigError):
            BundleKey("x", **settings)  # type: ignore[arg-type]
    for bad in ("", None, 3):
        with pytest.raises(ConfigError):
            BundleKey(bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot be read"):
        BundleKey.from_file(tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match="too long for a key"):
        BundleKey.from_file("/dev/zero")
    with pytest.raises(ConfigError, match="expected a key"):
        keys_of([])
    with pytest.raises(ConfigError, match="signed_by=3"):
        keys_of(3)  # type: ignore[arg-type]


def test_secret_is_in_no_text() -> None:
    assert "hush" not in repr(BundleKey("hush" * 20, algorithm="HS256"))


def test_guard_takes_the_path_of_a_key_and_protects_it(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair
) -> None:
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(write_archive(files))
    with Guard(path, signed_by=key.public, ledger=tmp_path / "l.db", isolation="thread") as guard:
        assert guard.call("listed", {}, run=lambda: "ran") == "ran"
        assert {str(path), str(key.public)} <= set(guard.protected_paths)
    with pytest.raises(ConfigError, match="not signed"):
        Guard(tmp_path / "policies", signed_by=[key.public], ledger=tmp_path / "l.db")


def test_links_in_a_signed_folder_are_refused(tmp_path: Path, files: dict[str, bytes], key: KeyPair) -> None:
    folder = tmp_path / "signed"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    trusted = keys_of(key.public)
    load_bundle([folder], signed_by=trusted)
    (folder / "policies" / "x.rego").unlink()
    (folder / "policies" / "x.rego").symlink_to(tmp_path / "policies" / "x.rego")
    with pytest.raises(ConfigError, match=r"policies/x\.rego:1:1: is a link"):
        load_bundle([folder], signed_by=trusted)
    (folder / "policies" / "x.rego").unlink()
    os.mkfifo(folder / "policies" / "x.rego")
    with pytest.raises(ConfigError, match="is a link or a device"):
        load_bundle([folder], signed_by=trusted)
    (folder / "policies" / "x.rego").unlink()
    (folder / "policies" / "x.rego").write_bytes(files["policies/x.rego"])
    (folder / "policies" / "more").symlink_to(tmp_path / "policies")
    with pytest.raises(ConfigError, match=r"policies/more:1:1: is a link"):
        load_bundle([folder], signed_by=trusted)


def test_missing_library_is_said_with_the_remedy(
    tmp_path: Path, files: dict[str, bytes], key: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(write_archive(files))
    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.delitem(sys.modules, "fumehood.pdp.jws", raising=False)
    import fumehood.pdp

    monkeypatch.delattr(fumehood.pdp, "jws", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'fumehood\[signatures\]'"):
        load_bundle([path], signed_by=keys_of(key.public))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON_VALUES)
def test_digest_of_data_is_that_of_its_meaning(value: object) -> None:
    try:
        texts = [
            json.dumps(value, indent=1, ensure_ascii=False).encode(),
            json.dumps(value, separators=(",", ":")).encode(),
        ]
    except UnicodeEncodeError:
        return
    assert len({digest_of("a/data.json", text, "SHA-256") for text in texts}) == 1
    assert digest_of("a/other.json", texts[0], "SHA-256") == hashlib.sha256(texts[0]).hexdigest()


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b'{"a":1,"a":2}', b'"\\ud800"', b"[" * 100_000, b"\xff"])
def test_data_that_is_none_has_no_digest(text: bytes) -> None:
    for name in ("data.json", ".manifest", "data.yaml"):
        if name != "data.yaml" or text not in (b"", b"NaN"):
            with pytest.raises(ValueError):
                digest_of(name, text, "SHA-256")
