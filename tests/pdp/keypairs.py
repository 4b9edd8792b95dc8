"""Keys to sign bundles with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_PEM = serialization.Encoding.PEM
CURVES: dict[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
}


@dataclass(frozen=True)
class KeyPair:
    """Files with a private and a public key; for HS… both are the secret."""

    algorithm: str
    private: Path
    public: Path


def key_pair(folder: Path, algorithm: str = "ES256", name: str = "key", *, bits: int = 2048) -> KeyPair:
    folder.mkdir(parents=True, exist_ok=True)
    pair = KeyPair(algorithm, folder / f"{name}.pem", folder / f"{name}.pub")
    if algorithm.startswith("HS"):
        for path in (pair.private, pair.public):
            path.write_text(f"{name}, a secret of sixty-four bytes and more: enough for each of the three")
        return pair
    curve = CURVES.get(algorithm)
    key = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, bits)
    pair.private.write_bytes(
        key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    pair.public.write_bytes(
        key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pair
