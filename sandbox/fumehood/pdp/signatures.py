"""Signatures of bundles in OPA's format: one token in `.signatures.json` lists every file and its digest.

Source: https://www.openpolicyagent.org/docs/management-bundles#signing. Stricter than OPA in this: no MD5 or
SHA-1, no name twice, and a token that has expired (`exp`, `nbf`) is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from fumehood.canonical import JSON, canonical, parse
from fumehood.errors import BindError
from fumehood.pdp.keys import BundleKey, Keys
from fumehood.pdp.structured import ALGORITHMS, digest_of

__all__ = ["SIGNATURES", "Signature", "SignatureError", "sign", "unverified", "verify"]

SIGNATURES = ".signatures.json"
_AGAIN = "Get the bundle anew from whoever made it, or sign it anew: `fumehood policy build --signing-key`."


class SignatureError(Exception):
    """The bundle is not what was signed: `name` is the file, or that of the signatures; `remedy`."""

    def __init__(self, message: str, *, name: str = SIGNATURES, remedy: str = _AGAIN) -> None:
        self.name, self.remedy = name, remedy
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a bundle's signature says. `is_verified`: one of the keys that were given vouches for it."""

    algorithm: str
    key_id: str
    scope: str
    files: tuple[str, ...]
    is_verified: bool = False


def verify(
    files: Mapping[str, bytes],
    keys: Keys,
    *,
    prefixes: Sequence[str] = ("",),
    clock: Callable[[], float] = time.time,
) -> Signature:
    """The signature of *files*, of which it must name each and no other.

    *prefixes*, "" among them: `opa sign` of the folder policies names its file "policies/x.rego".

    Raises:
        SignatureError: with the file, and what to do.
        ConfigError: a key cannot be used.
    """
    token = _token(files)
    key, claims = _vouched(token, keys)
    _require_time(claims, clock())
    found = _signature(_header(token), claims, key_id=key.id, is_verified=True)
    listed = _listed(claims)
    contents = {name: content for name, content in files.items() if name != SIGNATURES}
    wrong: list[SignatureError] = []
    for prefix in (p for p in prefixes if not p or all(name.startswith(p) for name in listed)):
        try:
            _compare({prefix + name: content for name, content in contents.items()}, listed)
        except SignatureError as error:
            wrong.append(error)
        else:
            return found
    raise wrong[0]


def unverified(files: Mapping[str, bytes]) -> Signature:
    """What the signature says, without anybody vouching for it.

    Raises:
        SignatureError: it cannot be read.
    """
    token = _token(files)
    try:
        payload = parse(_decoded(token.split(".")[1]))
    except (BindError, IndexError) as error:
        raise SignatureError(f"holds no signed token: {error}") from error
    claims = payload if isinstance(payload, dict) else {}
    header = _header(token)
    return _signature(header, claims, key_id=str(header.get("kid", claims.get("keyid", ""))))


def sign(files: Mapping[str, bytes], key: BundleKey) -> bytes:
    """The `.signatures.json` for *files*.

    Raises:
        ConfigError: the key cannot be used.
    """
    from fumehood.pdp import jws

    listed: list[JSON] = [
        {"name": name, "hash": digest_of(name, files[name], "SHA-256"), "algorithm": "SHA-256"}
        for name in sorted(files)
        if name != SIGNATURES
    ]
    claims: dict[str, JSON] = {"files": listed}
    if key.scope:
        claims["scope"] = key.scope
    token = jws.signed(canonical(claims), key)
    return json.dumps({"signatures": [token]}, indent=1).encode() + b"\n"


def _token(files: Mapping[str, bytes]) -> str:
    if SIGNATURES not in files:
        raise SignatureError(
            "the bundle is not signed, and signatures are required here (signed_by)",
            remedy="Sign it: `fumehood policy build --signing-key`, `opa build --signing-key` or `opa sign`.",
        )
    try:
        document = parse(files[SIGNATURES].decode())
    except (BindError, UnicodeError) as error:
        raise SignatureError(str(error)) from error
    if not isinstance(document, dict) or not document.keys() <= {"signatures", "plugin"}:
        raise SignatureError('expected {"signatures": ["…"]}')
    if document.get("plugin", "") not in ("", "_default"):
        raise SignatureError(f"signed for a plugin of OPA's, {document['plugin']!r}, which is not known here")
    tokens = document.get("signatures")
    if not isinstance(tokens, list) or len(tokens) != 1 or not isinstance(tokens[0], str):
        raise SignatureError("expected exactly one signature, a token")
    return tokens[0]


def _header(token: str) -> dict[str, JSON]:
    from fumehood.pdp import jws

    try:
        return jws.header_of(token)
    except jws.JwsError as error:
        raise SignatureError(str(error)) from error


def _vouched(token: str, keys: Keys) -> tuple[BundleKey, dict[str, JSON]]:
    """The first key that vouches for the token, and what it says. A `kid` that is known leaves one to try."""
    from fumehood.pdp import jws

    header = _header(token)
    named = [key for key in keys if key.id == header.get("kid")] or list(keys)
    fitting = [key for key in named if jws.algorithm_of(key) == header.get("alg")]
    if not fitting:
        known = ", ".join(f"{key.id!r} is for {jws.algorithm_of(key)}" for key in named)
        raise SignatureError(f"signed with {header.get('alg')!r}, and the key {known}")
    why: list[str] = []
    for key in fitting:
        try:
            return key, _scoped(jws.verified(token, key), key)
        except (jws.JwsError, SignatureError) as error:
            why.append(f"key {key.id!r}: {error}")
    raise SignatureError(f"the signature does not verify: {'; '.join(why)}")


def _scoped(payload: bytes, key: BundleKey) -> dict[str, JSON]:
    try:
        claims = parse(payload)
    except BindError as error:
        raise SignatureError(f"what was signed is {error}") from error
    if not isinstance(claims, dict):
        raise SignatureError("what was signed is not an object")
    scope = claims.get("scope", "")
    if scope != key.scope:
        raise SignatureError(f"signed for the scope {scope!r}, and it must be {key.scope!r}")
    return claims


def _require_time(claims: Mapping[str, JSON], now: float) -> None:
    for name, is_late in (("exp", True), ("nbf", False)):
        at = claims.get(name)
        if at is None:
            continue
        if isinstance(at, bool) or not isinstance(at, int | float):
            raise SignatureError(f"`{name}` is not a time")
        if (now >= at) is is_late:
            raise SignatureError("the signature has expired" if is_late else "the signature is not valid yet")


def _listed(claims: Mapping[str, JSON]) -> dict[str, tuple[str, str]]:
    """The digest and algorithm of each file that was signed."""
    files = claims.get("files")
    found: dict[str, tuple[str, str]] = {}
    for entry in files if isinstance(files, list) else [None]:
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), str) for name in ("name", "hash", "algorithm")
        ):
            raise SignatureError("what was signed is not a list of files: {name, hash, algorithm}")
        name, digest, algorithm = (cast("str", entry[key]) for key in ("name", "hash", "algorithm"))
        if name in found:
            raise SignatureError("is signed twice", name=name)
        if algorithm not in ALGORITHMS:
            raise SignatureError(
                f"is signed by its {algorithm or 'no'} digest, which does not tell it from another file; "
                f"expected {', '.join(ALGORITHMS)}",
                name=name,
            )
        found[name] = (digest.lower(), algorithm)
    return found


def _compare(files: Mapping[str, bytes], listed: Mapping[str, tuple[str, str]]) -> None:
    for name, content in files.items():
        if name not in listed:
            raise SignatureError("is in the bundle, and was not signed", name=name)
        digest, algorithm = listed[name]
        try:
            found = digest_of(name, content, algorithm)
        except ValueError as error:
            raise SignatureError(f"cannot be read: {error}", name=name) from error
        if found != digest:
            raise SignatureError("is not what was signed: it was changed", name=name)
    for name in sorted(set(listed) - set(files)):
        raise SignatureError("was signed, and is not in the bundle", name=name)


def _signature(
    header: Mapping[str, JSON], claims: Mapping[str, JSON], *, key_id: str, is_verified: bool = False
) -> Signature:
    files = claims.get("files")
    names = [str(f.get("name", "")) for f in files if isinstance(f, dict)] if isinstance(files, list) else []
    scope = claims.get("scope", "")
    return Signature(str(header.get("alg", "")), key_id, str(scope), tuple(sorted(names)), is_verified)


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError) as error:
        raise BindError(f"not base64url: {error}") from error
