"""Profiles: what a confined process may see, do and use, as data that is checked when it is read.

Named profiles are met with `merge`: the strictest wins in every field. A policy's obligation may add paths
and limits to one with `extend`; what it may never add is decided here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from fumehood.confine.builtin import BUILT_IN
from fumehood.confine.fields import Limits as Limits
from fumehood.confine.fields import Profile as Profile
from fumehood.confine.fields import clean_path
from fumehood.errors import ConfinementError

if TYPE_CHECKING:
    from fumehood.model import Confine

#: Folders that no extension may open, nor anything that contains one.
_NEVER: Final = (
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/boot",
    "/run",
    "/var/run",
    "/usr",
    "/bin",
    "/lib",
    "/sbin",
)
_NONE, _READ, _WRITE = 0, 1, 2  # rights to a path
_PROFILE: Final = "Correct the profile; `fumehood sandbox explain PROFILE` prints one."


def names() -> tuple[str, ...]:
    """The names of the built-in profiles."""
    return tuple(profile.name for profile in BUILT_IN)


def named(name: str) -> Profile:
    """The built-in profile of this *name*.

    Raises:
        ConfinementError: there is none.
    """
    for profile in BUILT_IN:
        if profile.name == name:
            return profile
    raise ConfinementError(
        f"there is no profile named {name!r}", layer="profile", remedy=f"Use one of: {', '.join(names())}."
    )


def resolve(profile: str | Profile | Sequence[str | Profile]) -> Profile:
    """A profile from a name, a profile, or several that are met."""
    if isinstance(profile, str):
        return named(profile)
    if isinstance(profile, Profile):
        return profile
    return merge(named(p) if isinstance(p, str) else p for p in profile)


def merge(profiles: Iterable[str | Profile]) -> Profile:
    """The meet: what every one of *profiles* allows; it has no order, and never more than any of them.

    Raises:
        ConfinementError: none was given, or `pdp` is among others.
    """
    several = [named(p) if isinstance(p, str) else p for p in profiles]
    if not several:
        raise ConfinementError("no profile was named", layer="profile", remedy="Name at least one.")
    first, *others = several
    for other in others:
        first = _meet(first, other)
    return first


def _meet(a: Profile, b: Profile) -> Profile:
    if a == b and a.limits.model_fields_set == b.limits.model_fields_set:
        return a
    if a.kind != b.kind:
        raise ConfinementError(
            f"{a.name} and {b.name} cannot be met: one is applied from inside",
            layer="profile",
            remedy=_PROFILE,
        )
    return Profile(
        name="+".join(dict.fromkeys((*a.name.split("+"), *b.name.split("+")))),
        about=a.about if a.about == b.about else "What all of them allow.",
        kind=a.kind,
        system=a.system and b.system,
        python=a.python and b.python,
        fork=a.fork and b.fork,
        exec=a.exec and b.exec,
        jit=a.jit and b.jit,
        observe=a.observe or b.observe,
        sockets=a.sockets and b.sockets,
        **_common_paths(a, b),
        env={k: v for k, v in a.env.items() if b.env.get(k) == v},
        imports=tuple(name for name in a.imports if name in b.imports),
        limits=_least(a.limits, b.limits),
    )


def _least(a: Limits, b: Limits) -> Limits:
    """What either side chose stays chosen: a chosen `timeout_s` also bounds what a caller may ask for."""
    chosen = a.model_fields_set | b.model_fields_set
    return Limits(**{name: min(getattr(a, name), getattr(b, name)) for name in chosen})


def _common_paths(a: Profile, b: Profile) -> dict[str, tuple[str, ...]]:
    """`read`, `write` and `keep` of the meet: every path of either side with the lesser right that it has."""
    paths = sorted({*a.read, *a.write, *b.read, *b.write})
    rights = {path: min(_right(path, a), _right(path, b)) for path in paths}
    read = tuple(path for path in paths if rights[path] == _READ)
    kept = _kept(a) | _kept(b)
    return {
        "read": read,
        "write": tuple(path for path in paths if rights[path] == _WRITE),
        "keep": tuple(sorted(kept.difference(read))),
    }


def _kept(profile: Profile) -> set[str]:
    """What stays read-only inside something writable; a path that is also in `write` does not."""
    return {*profile.read, *profile.keep}.difference(profile.write)


def _right(path: str, profile: Profile) -> int:
    """What the innermost of the profile's paths around *path* says, as the mount that lies on top does."""
    rights = dict.fromkeys(profile.read, _READ) | dict.fromkeys(profile.write, _WRITE)
    around = [p for p in rights if is_inside(path, p)]
    if not around:
        return _NONE
    innermost = max((*around, *(p for p in profile.keep if is_inside(path, p))), key=len)
    return rights.get(innermost, _READ)


def is_inside(path: str, folder: str) -> bool:
    """True if *path* is *folder* or lies below it; both normalised, no file is looked at."""
    return path == folder or path.startswith(folder if folder.endswith("/") else folder + "/")


def extend(
    profile: Profile,
    *,
    read: Sequence[str] = (),
    write: Sequence[str] = (),
    limits: Mapping[str, Any] | None = None,
    forbidden_paths: Sequence[str] = (),
) -> Profile:
    """*profile* with a policy's paths and limits.

    *forbidden_paths* (ledger, policies, keys, sockets) may neither contain nor lie inside anything added.

    Raises:
        ConfinementError: a path is not absolute, does not exist, goes through a link, is one of the system's
            own or touches a forbidden one; a limit is unknown or over its ceiling.
    """
    reads = [_straight_path(p, forbidden_paths=forbidden_paths) for p in read]
    writes = [_straight_path(p, forbidden_paths=forbidden_paths) for p in write]
    try:
        bounds = Limits(**{**profile.limits.model_dump(exclude_unset=True), **(limits or {})})
    except ValidationError as error:
        raise ConfinementError(f"limits: {error}", layer="profile", remedy=_PROFILE) from error
    added = {"read": (*profile.read, *reads), "write": (*profile.write, *writes), "limits": bounds}
    return profile.model_copy(update=added)


def from_obligations(obligations: Sequence[Confine], *, forbidden_paths: Sequence[str] = ()) -> Profile:
    """What a decision's `confine` obligations come to: each profile with its additions, then their meet.

    Raises:
        ConfinementError: as `extend`; or a rule asks for network or staged files, which nothing here gives.
    """
    for obligation in obligations:
        if obligation.network or obligation.stage:
            raise ConfinementError(
                f"{obligation.profile}: network and stage are not available",
                layer="profile",
                remedy="Leave them out of the confine rule.",
            )
    return merge(
        extend(
            named(obligation.profile),
            read=obligation.read,
            write=obligation.write,
            limits=dict(obligation.limits),
            forbidden_paths=forbidden_paths,
        )
        for obligation in obligations
    )


def _straight_path(path: str, *, forbidden_paths: Sequence[str]) -> str:
    """As `checked_path`, and no link in it: an earlier job may have put one there."""
    real = checked_path(path, forbidden_paths=forbidden_paths)
    if real != clean_path(path):
        raise ConfinementError(
            f"{path} goes through a link to {real}", layer="profile", remedy=f"Name {real}, if that is meant."
        )
    return real


def checked_path(path: str | os.PathLike[str], *, forbidden_paths: Sequence[str] = ()) -> str:
    """*path* resolved, if it may be shown to a confined process at all.

    Raises:
        ConfinementError: it may not.
    """
    text = os.fspath(path)
    if not text.startswith("/") or not os.path.lexists(text):
        raise _refused(text, "is not an absolute path to something that exists")
    real = os.path.realpath(text)
    for never in _NEVER:
        if is_inside(real, never) or is_inside(never, real):
            raise _refused(real, f"would open {never}")
    for forbidden in map(os.path.realpath, forbidden_paths):
        if is_inside(real, forbidden) or is_inside(forbidden, real):
            raise _refused(real, f"would open {forbidden}, which belongs to the guard")
    return real


def _refused(path: str, why: str) -> ConfinementError:
    return ConfinementError(
        f"{path} {why}", layer="profile", remedy="Name a folder of its own for the job, and only that."
    )
