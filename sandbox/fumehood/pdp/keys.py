"""The keys that a bundle must be signed with, or is signed with: what a user may say about them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fumehood.errors import ConfigError

__all__ = ["ALGORITHMS", "BundleKey", "Keys", "keys_of"]

#: What OPA signs bundles with (RFC 7518).
ALGORITHMS = tuple(f"{family}{bits}" for family in ("RS", "ES", "PS", "HS") for bits in (256, 384, 512))
_MAX_KEY_BYTES = 1 << 16

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleKey:
    """A key that bundles are signed with: `Guard("./p.tar.gz", signed_by=BundleKey.from_file("a.pem"))`.

    Args:
        key: a public key or a certificate, PEM; or for HS256 to HS512 the secret. (To sign: the private key.)
        id: its name, which a signature may give as `kid`.
        algorithm: "RS256", "ES256", …; else RS256 for an RSA key, and ES256, ES384 or ES512 by the curve.
            It is never taken from the signature.
        scope: what the signature must say that it is for; "" if it says nothing.
    """

    key: str = field(repr=False, kw_only=False)
    id: str = "default"
    algorithm: str | None = None
    scope: str = ""
    path: str = ""  # of the file that it was read from

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not self.key:
            raise ConfigError("BundleKey(key=…): expected a text, PEM or a secret; to read a file: from_file")
        if self.algorithm is not None and self.algorithm not in ALGORITHMS:
            known = ", ".join(ALGORITHMS)
            raise ConfigError(f"BundleKey(algorithm={self.algorithm!r}): expected one of {known}")
        for name in ("id", "scope"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"BundleKey({name}={getattr(self, name)!r}): expected a text")

    @classmethod
    def from_file(
        cls, path: PathLike, *, id: str = "default", algorithm: str | None = None, scope: str = ""
    ) -> Self:
        """The key in the file at *path*, every byte of it (as OPA reads it, a secret's line end included).

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            with Path(path).open("rb") as file:
                content = file.read(_MAX_KEY_BYTES + 1)
            if len(content) > _MAX_KEY_BYTES:
                raise ConfigError(f"{os.fspath(path)} is too long for a key")
            text = content.decode()
        except (OSError, ValueError) as error:
            raise ConfigError(f"the key {os.fspath(path)} cannot be read: {error}") from error
        return cls(text, id=id, algorithm=algorithm, scope=scope, path=os.path.realpath(path))

    @property
    def is_secret(self) -> bool:
        """True for a secret that both sides share."""
        return self.algorithm is not None and self.algorithm.startswith("HS")


Keys = tuple[BundleKey, ...]


def keys_of(given: BundleKey | PathLike | Iterable[BundleKey | PathLike] | None) -> Keys:
    """The keys that *given* stands for; a path is that of a public key.

    Raises:
        ConfigError: a file cannot be read, or no key is given where some are expected.
    """
    if given is None:
        return ()
    if not isinstance(given, BundleKey | str | os.PathLike | Iterable):
        raise ConfigError(
            f"signed_by={given!r}: expected a BundleKey, the path of a public key, or some of them"
        )
    each = [given] if isinstance(given, BundleKey | str | os.PathLike) else list(given)
    keys = tuple(key if isinstance(key, BundleKey) else BundleKey.from_file(key) for key in each)
    if not keys:
        raise ConfigError("signed_by=[]: expected a key; leave it out if bundles need no signature")
    return keys
