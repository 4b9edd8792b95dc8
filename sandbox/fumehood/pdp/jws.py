"""JSON Web Signatures (RFC 7515). The only module that knows PyJWT and cryptography.

The algorithm is the key's, never the token's: a token that names another is refused unread.
"""

from __future__ import annotations

import hashlib
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, Problem
from fumehood.pdp.keys import BundleKey

try:
    import jwt
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
except ImportError as error:
    raise ConfigError(
        "signatures of bundles need PyJWT and cryptography, which are not installed: "
        "pip install 'fumehood[signatures]'"
    ) from error

__all__ = ["JwsError", "algorithm_of", "header_of", "signed", "verified"]

_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_LEAST_RSA_BITS = 2048

_Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class JwsError(Exception):
    """The token is not signed with this key."""


def header_of(token: str) -> dict[str, JSON]:
    """What the token says of itself; nobody has vouched for it.

    Raises:
        JwsError: it is no token.
    """
    try:
        return cast("dict[str, JSON]", jwt.get_unverified_header(token))
    except jwt.PyJWTError as error:
        raise JwsError(f"not a signed token: {error}") from error


def algorithm_of(key: BundleKey) -> str:
    """The algorithm that *key* is for.

    Raises:
        ConfigError: it cannot be used.
    """
    if key.is_secret:
        found: bytes | _Public = _secret(key)
    else:
        found = _private(key).public_key() if _is_private(key) else _public(key)
    algorithm = key.algorithm or _natural(key, cast("_Public", found))
    _require_fit(key, algorithm, found)
    return algorithm


def verified(token: str, key: BundleKey) -> bytes:
    """What was signed.

    Raises:
        JwsError: not with this key.
        ConfigError: the key cannot be used.
    """
    secret_or_key: bytes | _Public = _secret(key) if key.is_secret else _public(key)
    algorithm = key.algorithm or _natural(key, cast("_Public", secret_or_key))
    _require_fit(key, algorithm, secret_or_key)
    try:
        whole = jwt.PyJWS().decode_complete(token, secret_or_key, algorithms=[algorithm])
    except jwt.InvalidSignatureError as error:
        raise JwsError("the signature is not that of what was signed, or of another key") from error
    except jwt.PyJWTError as error:
        raise JwsError(str(error)) from error
    return cast("bytes", whole["payload"])


def signed(payload: bytes, key: BundleKey) -> str:
    """*payload* as a token.

    Raises:
        ConfigError: the key cannot be used.
    """
    secret_or_key: bytes | _Private = _secret(key) if key.is_secret else _private(key)
    public = secret_or_key if isinstance(secret_or_key, bytes) else secret_or_key.public_key()
    algorithm = key.algorithm or _natural(key, cast("_Public", public))
    _require_fit(key, algorithm, public)
    return jwt.PyJWS().encode(payload, secret_or_key, algorithm=algorithm, headers={"kid": key.id})


def _is_private(key: BundleKey) -> bool:
    return "PRIVATE KEY-----" in key.key


def _public(key: BundleKey) -> _Public:
    if _is_private(key):
        raise _unusable(
            key, "it is a private key; give the public one, or a certificate: whoever verifies needs no more"
        )
    try:
        pem = key.key.encode()
        if "BEGIN CERTIFICATE" in key.key:
            found = x509.load_pem_x509_certificate(pem).public_key()
        else:
            found = serialization.load_pem_public_key(pem)  # type: ignore[assignment]
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = '; for a secret say algorithm="HS256"' if "-----BEGIN" not in key.key else ""
        raise _unusable(key, f"it is not the PEM of a public key or certificate{hint}") from error
    if not isinstance(found, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise _unusable(key, "bundles are signed with RSA, ECDSA or a secret")
    return found


def _private(key: BundleKey) -> _Private:
    try:
        found = serialization.load_pem_private_key(key.key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(key, "it is not the PEM of a private key without a password") from error
    if not isinstance(found, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise _unusable(key, "bundles are signed with RSA, ECDSA or a secret")
    return found


def _secret(key: BundleKey) -> bytes:
    if "-----BEGIN" in key.key:
        raise _unusable(key, f"{key.algorithm} is for a secret, and this is PEM, which others may know")
    return key.key.encode()


def _natural(key: BundleKey, public: _Public) -> str:
    if isinstance(public, rsa.RSAPublicKey):
        return "RS256"
    found = _CURVES.get(public.curve.name)
    if found is None:
        raise _unusable(key, f"the curve {public.curve.name} is not one of {', '.join(_CURVES)}")
    return found


def _require_fit(key: BundleKey, algorithm: str, found: bytes | _Public) -> None:
    """RFC 7518, sections 3.2 to 3.5: what a key has to have for an algorithm."""
    if isinstance(found, bytes):
        least = hashlib.new(f"sha{algorithm[2:]}").digest_size
        if len(found) < least:
            raise _unusable(
                key, f"a secret for {algorithm} has {least} bytes at least (RFC 7518), this one {len(found)}"
            )
    elif isinstance(found, rsa.RSAPublicKey):
        if not algorithm.startswith(("RS", "PS")):
            raise _unusable(key, f"it is an RSA key, and {algorithm} is not for RSA")
        if found.key_size < _LEAST_RSA_BITS:
            raise _unusable(
                key, f"an RSA key has {_LEAST_RSA_BITS} bits at least (RFC 7518), this one {found.key_size}"
            )
    elif _natural(key, found) != algorithm:
        raise _unusable(key, f"it is a key for {_natural(key, found)}, not for {algorithm}")


def _unusable(key: BundleKey, why: str) -> ConfigError:
    problem = Problem(key.path or f"the key {key.id!r}", 1, 1, why, "Give the key that fits.")
    return ConfigError(f"the key {key.id!r} cannot be used", problems=(problem,))
