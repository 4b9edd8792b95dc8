"""The key that policies must be signed with: the same three options for every verb that reads them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from fumehood.pdp import BundleKey

__all__ = ["ALGORITHMS", "KEY_FILE", "key_from", "signed_option"]

F = TypeVar("F", bound=Callable[..., object])
ALGORITHMS = [f"{family}{bits}" for family in ("RS", "ES", "PS", "HS") for bits in (256, 384, 512)]
KEY_FILE = click.Path(exists=True, dir_okay=False)


def signed_option(command: F) -> F:
    """`--verification-key` and what goes with it; the command gets `signed_by`, () without a key."""

    @functools.wraps(command)
    def with_keys(
        *args: Any, trusted: str | None, trusted_alg: str | None, trusted_scope: str, **kwargs: Any
    ) -> object:
        return command(*args, signed_by=_keys(trusted, trusted_alg, trusted_scope), **kwargs)

    key, algorithm = "SOURCES must be signed with this key (PEM).", "RS256, ES256, … [from the key]."
    choice = click.Choice(ALGORITHMS)
    options = (
        click.option("--verification-key", "trusted", type=KEY_FILE, help=key),
        click.option("--verification-alg", "trusted_alg", type=choice, metavar="ALG", help=algorithm),
        click.option("--verification-scope", "trusted_scope", default="", help="What it must be signed for."),
    )
    for option in reversed(options):
        option(with_keys)
    return cast("F", with_keys)


def key_from(path: str, algorithm: str | None, scope: str, *, id: str = "default") -> BundleKey:
    """The key in a file.

    Raises:
        ConfigError: it cannot be read, or is no key of that algorithm.
    """
    from fumehood.pdp import BundleKey
    from fumehood.pdp.jws import algorithm_of

    key = BundleKey.from_file(path, id=id, algorithm=algorithm, scope=scope)
    algorithm_of(key)  # what is wrong with the key is said before anything is read
    return key


def _keys(path: str | None, algorithm: str | None, scope: str) -> tuple[BundleKey, ...]:
    if path is None:
        if algorithm or scope:
            raise click.UsageError("--verification-alg and --verification-scope are for --verification-key")
        return ()
    return (key_from(path, algorithm, scope),)
