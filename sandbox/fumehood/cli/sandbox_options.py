"""Options that the commands which confine something share, and what their values mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from fumehood.cli.failures import UnknownIdError

__all__ = ["complete_profile", "confined", "known_profiles", "spec_fields", "tier_option"]

F = TypeVar("F", bound=Callable[..., object])
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def tier_option(command: F) -> F:
    """`--tier`."""
    choice = click.Choice(["full", "no-userns"])
    text = "The least that is accepted."
    return click.option("--tier", type=choice, default="full", show_default=True, help=text)(command)


def confined(*, profile: str) -> Callable[[F], F]:
    """Everything that says how a command is confined; `spec_fields` reads it."""
    profiles = click.option(
        "--profile",
        "profiles",
        multiple=True,
        default=(profile,),
        show_default=True,
        shell_complete=complete_profile,
        help="Which profile; may be given again: what all of them allow.",
    )
    options = (
        profiles,
        tier_option,
        click.option("--workdir", type=_FOLDER, help="A folder of yours that it may write."),
        click.option("--timeout", "timeout_s", type=float, help="Wall-clock seconds."),
        click.option("--read", multiple=True, type=_PATH, help="Something of yours that it may read."),
        click.option("--write", multiple=True, type=_PATH, help="Something of yours that it may write."),
        click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Alone: the value that you have."),
        click.option(
            "--limit",
            "limits",
            multiple=True,
            metavar="NAME=VALUE",
            shell_complete=_complete_limit,
            help="Another limit than the profile's: memory_bytes=1g, processes=8, …",
        ),
    )

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_PATH: Final = click.Path(exists=True, path_type=Path)


def spec_fields(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of `confine.Spec` that `confined` asks for.

    Raises:
        UnknownIdError: there is no such profile.
        UsageError: an environment variable that is not set, or a limit that does not exist.
    """
    return {
        "profile": known_profiles(options["profiles"]),
        "tier": options["tier"],
        "workdir": options["workdir"],
        "timeout_s": options["timeout_s"],
        "read": [os.path.abspath(path) for path in options["read"]],  # noqa: PTH100 — links are checked later
        "write": [os.path.abspath(path) for path in options["write"]],  # noqa: PTH100
        "env": dict(_variable(word) for word in options["env"]),
        "limits": dict(_limit(word) for word in options["limits"]),
    }


def known_profiles(words: Sequence[str]) -> list[str]:
    """The profiles named; each word may name several, "a,b". An unknown one is the user's mistake."""
    from fumehood.confine import profile as profiles

    wanted = [name for word in words for name in word.split(",")]
    for name in wanted:
        if name not in profiles.names():
            raise UnknownIdError(
                f"there is no profile named {name!r}; there are {', '.join(profiles.names())}"
            )
    return wanted


def _variable(word: str) -> tuple[str, str]:
    name, is_given, value = word.partition("=")
    if not name:
        raise click.UsageError(f"--env {word}: a name is missing")
    if not is_given and name not in os.environ:
        raise click.UsageError(f"--env {name}: it is not set here; write {name}=VALUE")
    return name, value if is_given else os.environ[name]


def _limit(word: str) -> tuple[str, int | float]:
    from fumehood.confine.profile import Limits

    name, _, value = word.partition("=")
    field = Limits.model_fields.get(name)
    if field is None:
        raise click.UsageError(
            f"--limit {name}: there is no such limit; there are {', '.join(_limit_names())}"
        )
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([kmgt]?)(?:i?b)?)", value.strip().lower())
    if found is None or (found[2] and not name.endswith("_bytes")):
        raise click.UsageError(f"--limit {name}={value}: not a number (bytes may end with k, m, g or t)")
    number = float(found[1]) * _UNITS[found[2]]
    if field.annotation is not float and number != int(number):
        raise click.UsageError(f"--limit {name}={value}: not a whole number")
    exact = number if field.annotation is float else int(number)
    _require_possible(name, exact)
    return name, exact


def _require_possible(name: str, value: float) -> None:
    from pydantic import ValidationError

    from fumehood.confine.profile import Limits

    try:
        Limits.model_validate({name: value})
    except ValidationError as error:
        raise click.UsageError(f"--limit {name}: {error.errors()[0]['msg']}, not {value:g}") from error


def _limit_names() -> list[str]:
    from fumehood.confine.profile import Limits

    return list(Limits.model_fields)


def complete_profile(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The profiles that begin so, after the last comma."""
    from fumehood.confine import profile as profiles

    before, comma, last = incomplete.rpartition(",")
    return [
        CompletionItem(before + comma + name, help=profiles.named(name).about)
        for name in profiles.names()
        if name.startswith(last)
    ]


def _complete_limit(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(f"{name}=") for name in _limit_names() if name.startswith(incomplete)]
