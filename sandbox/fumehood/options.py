"""What a guard and its tools are built with: checked and read, before anything is begun."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from fumehood.errors import ConfigError
from fumehood.ledger import Ledger, open_ledger
from fumehood.log import logger
from fumehood.parsed import missing_parsers
from fumehood.pdp import Bundle

__all__ = ["apart", "folders_of", "one_of", "opened", "warn_of_parsers"]

_PLACE = frozenset({"profile", "env", "timeout_s", "read", "write", "limits"})


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises ConfigError: *value* is none of *allowed*."""
    if value not in allowed:
        raise ConfigError(f"{name}={value!r} is not known; write one of: {', '.join(allowed)}")


def folders_of(policies: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The real paths of *policies* that are no packs."""
    return [os.path.realpath(p) for p in policies if isinstance(p, os.PathLike) or "/" in p]


def opened(ledger: Ledger | str | os.PathLike[str] | None, durability: Literal["process", "power"]) -> Ledger:
    """The ledger that was given, or is at the path."""
    if ledger is None or isinstance(ledger, str | os.PathLike):
        return cast("Ledger", open_ledger(ledger, durability=durability))
    return ledger


def apart(options: Mapping[str, Any], *, is_confined: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is said about the place where a tool runs, and what about the tool.

    Raises:
        ConfigError: a place for a tool that runs in this process.
    """
    where = {name: value for name, value in options.items() if name in _PLACE}
    if where and not is_confined:
        raise ConfigError(f"{next(iter(where))}= is for a tool that runs confined; write confined=True, too")
    return where, {name: value for name, value in options.items() if name not in _PLACE}


def warn_of_parsers(bundle: Bundle) -> None:
    """A policy that reads what nothing here can parse is loaded: to it all of that is unparseable."""
    for kind in missing_parsers(bundle.facts.reads_parsed):
        logger().warning(
            f"a policy reads call.{kind}, but its parser is not installed: all is unparseable to it",
            remedy="pip install 'fumehood[parsers]'",
        )
