"""Functions whose body runs confined: what `@guard.tool(confined=True)` makes of one.

A call is bound and decided like any other. Then the bound values go, as JSON, into a process in which the
function's module is imported anew, and its result comes back as JSON. What cannot work so is refused when the
function is decorated.
"""

from __future__ import annotations

import inspect
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel

from fumehood.binding import Bound, bind_model
from fumehood.canonical import JSON, require_plain
from fumehood.confine import calls
from fumehood.confine.importable import Importable, importable
from fumehood.confine.profile import Profile, checked_path, extend, is_inside, named
from fumehood.confined import Program, arun_confined, run_confined
from fumehood.errors import BindError, ConfigError, ConfinementError
from fumehood.functions import FunctionBody, FunctionTool, hints_of
from fumehood.jsontypes import ACCEPTED, injected_by, misfit
from fumehood.model import Confine

if TYPE_CHECKING:
    from fumehood.guard import Guard

__all__ = ["ConfinedBody", "Confinement", "Place", "known", "place_of"]

_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the decorator was told about where the body runs."""

    profile: str = "python-offline"
    env: Sequence[str] = ()
    timeout_s: float = _TIMEOUT_S
    read: Sequence[str | os.PathLike[str]] = ()
    write: Sequence[str | os.PathLike[str]] = ()
    limits: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where one function's calls run: found by name, in a profile, with these variables and paths."""

    guard: Guard
    function: Importable
    profile: Profile
    read: tuple[str, ...]
    env: tuple[str, ...]
    timeout_s: float

    def body(self, tool: FunctionTool, given: Callable[[], Mapping[str, object]]) -> FunctionBody:
        """One call of *tool*, which runs here."""
        return ConfinedBody(tool, given, place=self)

    def remember(self, governed: Callable[..., object], tool: FunctionTool) -> None:
        """*governed* is *tool*, which runs here: for `known`."""
        _remember(governed, tool, self)

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any], confinements: Sequence[Confine]) -> JSON:
        """One call, without deciding anything. Raises JobFailed or ConfinementError."""
        program = self.program(args, kwargs)
        outcome = run_confined(self.guard, profile=self.profile, confinements=confinements, **program)
        return calls.result_of(self.function, outcome)

    async def arun(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], confinements: Sequence[Confine]
    ) -> JSON:
        """`run`, awaited."""
        program = self.program(args, kwargs)
        outcome = await arun_confined(self.guard, profile=self.profile, confinements=confinements, **program)
        return calls.result_of(self.function, outcome)

    def program(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Program:
        """One call. Raises ConfinementError if a variable that it needs is not set."""
        shown = (*self.read, *self.profile.write)
        return Program(
            source=calls.source(),
            stdin=calls.message(self.function, args, kwargs, shown=shown),
            read=calls.visible(self.function, self.read),
            env={name: _variable(self.function, name) for name in self.env},
            timeout_s=self.timeout_s,
        )


def _records() -> tuple[
    Callable[[Callable[..., object], FunctionTool, Place], None],
    Callable[[Callable[..., object]], tuple[FunctionTool, Place] | None],
]:
    kept: weakref.WeakKeyDictionary[Callable[..., object], tuple[FunctionTool, Place]]
    kept = weakref.WeakKeyDictionary()

    def keep(governed: Callable[..., object], tool: FunctionTool, place: Place) -> None:
        kept[governed] = (tool, place)

    def known(function: Callable[..., object]) -> tuple[FunctionTool, Place] | None:
        return kept.get(function) if isinstance(function, FunctionType) else None

    return keep, known


#: Which functions a guard has made, for adapters that put a tool of their framework around one.
_remember, known = _records()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfinedBody(FunctionBody):
    """One call of a confined function (see `fumehood.binding.Body`)."""

    place: Place

    @property
    def is_async(self) -> bool:
        """A process is awaited, whatever the function is."""
        return True

    def bind(self) -> Bound:
        bound = bind_model(self.tool.schema, self.given())
        try:
            require_plain(self.tool.values(cast("BaseModel", bound.value)))
        except BindError as error:
            text = f"{error}; it would not be the same in another process"
            raise BindError(text, pointer=error.pointer) from None
        return bound

    def run(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object:
        return self.place.run(*self._values(bound), confinements)

    async def arun(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object:
        return await self.place.arun(*self._values(bound), confinements)

    def _values(self, bound: Bound) -> tuple[list[object], dict[str, object]]:
        values = self.tool.values(cast("BaseModel", bound.value))
        return [values.pop(name) for name in self.tool.positional_only], values


def place_of(guard: Guard, called: Callable[..., object], wanted: Confinement) -> Place:
    """Where the calls of the function *called* will run.

    Raises:
        ConfigError: its function cannot be imported inside or does not take JSON, the profile does not fit,
            or what it would be shown holds the guard's own files.
    """
    function = importable(called)
    name = function.name
    _require_json(name, called)
    _require_apart(name, function, guard.protected_paths)
    read, write = _paths(wanted.read), _paths(wanted.write)
    try:
        own = named(wanted.profile)
        forbidden = guard.protected_paths
        profile = extend(own, write=write, limits=wanted.limits, forbidden_paths=forbidden)
        shown = tuple(checked_path(path, forbidden_paths=forbidden) for path in read)
    except ConfinementError as error:
        raise ConfigError(f"{name} cannot be confined so: {error}") from error
    _require_unwritable(name, function, profile.write)
    if own.kind != "job" or not own.python:
        raise ConfigError(f"{name}: the profile {own.name} does not run Python; python-offline does")
    if isinstance(wanted.env, str):
        raise ConfigError(f"{name}: env is a list of names, not a text")
    if not 0 < wanted.timeout_s <= 86_400:
        raise ConfigError(f"{name}: timeout_s is {wanted.timeout_s}; write seconds, at most 86400")
    return Place(guard, function, profile, shown, tuple(wanted.env), float(wanted.timeout_s))


def _require_json(name: str, function: Callable[..., object]) -> None:
    """Every argument must be the same after being written as JSON."""
    try:
        hints = hints_of(function)
    except (NameError, TypeError) as error:
        raise ConfigError(f"{name}: its type hints cannot be resolved: {error}") from error
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name, Any)
        framework = injected_by(hint)
        if framework is not None:
            raise ConfigError(
                f"{name} cannot run in a process of its own: {framework} injects its argument "
                f"{parameter.name!r} after the call was decided; take what is needed of it as JSON"
            )
        _require_fit(name, f"its argument {parameter.name!r}", misfit(hint))
    found = misfit(hints.get("return", Any))
    if getattr(found, "__module__", "") != "collections.abc":  # a Sequence may be a list
        _require_fit(name, "what it returns", found)


def _require_fit(name: str, where: str, found: object | None) -> None:
    if found is not None:
        shown = getattr(found, "__name__", None) or repr(found)
        raise ConfigError(
            f"{name} cannot run in a process of its own: {shown} in {where} does not survive JSON; "
            f"declare {ACCEPTED}, and make the rest of it inside"
        )


def _require_unwritable(name: str, function: Importable, write: Sequence[str]) -> None:
    """What a job could change of its own code, this process would run one day."""
    for path in write:
        if is_inside(path, function.shown) or is_inside(function.shown, path):
            raise ConfigError(
                f"{name} cannot be confined so: writing {path} would change {function.shown}, which it is "
                "imported from; name a folder apart from the code"
            )


def _require_apart(name: str, function: Importable, protected: Sequence[str]) -> None:
    """The code is shown to the jail: nothing of the guard's may lie in its folder, nor it in theirs."""
    for path in map(os.path.realpath, protected):
        if is_inside(path, function.shown) or is_inside(function.shown, path):
            raise ConfigError(
                f"{name} cannot run in a process of its own: {function.shown}, which it is imported from, "
                f"and {path}, which is the guard's, lie in each other; keep ledger and policies in folders "
                "of their own, or move the function to a module or package beside them"
            )


def _paths(given: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(given, str | bytes | os.PathLike):
        raise ConfigError(f"{os.fspath(given)!r}: read and write are lists of paths")
    return [os.path.abspath(path) for path in given]  # noqa: PTH100 - a path of the host, as text


def _variable(function: Importable, name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ConfinementError(
            f"{function} needs the variable {name}, which is not set",
            layer="profile",
            remedy=f"Set {name}, or leave it out of env.",
        )
    return value
