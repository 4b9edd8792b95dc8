"""From a caller's description to what the spawner gets: checked, planned, compiled, opened."""

# a path here is checked text
# ruff: noqa: PTH100

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import stat
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from fumehood.confine import masks, messages, staging, syscalls, wire
from fumehood.confine import plan as plans
from fumehood.confine.kept import Kept
from fumehood.confine.layers import missing
from fumehood.confine.outcome import TIERS
from fumehood.confine.plan import Bind, Host, Plan, Workdir
from fumehood.confine.profile import Profile, checked_path, extend, resolve
from fumehood.confine.root import barring_folder
from fumehood.confine.seccomp import compile_farewell, compile_filter, compile_observer, observed_numbers
from fumehood.errors import ConfinementError

if TYPE_CHECKING:
    from fumehood.confine.client import Spawner
    from fumehood.confine.outcome import Tier
    from fumehood.confine.spec import Spec

#: As root each is a descriptor in the one message to the spawner, which has room for few more.
_MOST_INLINE: Final = 16_000
_MOST_TEXTS: Final = 64
_MOST_MOUNTS: Final = messages.MOST_DESCRIPTORS - 13


@lru_cache(maxsize=1)
def here() -> Host:
    """This host and interpreter; they do not change while the process runs."""
    return Host.here()


def profile_of(spec: Spec) -> Profile:
    base = resolve(spec.profile)
    if not (spec.read or spec.write or spec.limits):
        return base
    return extend(
        base, read=spec.read, write=spec.write, limits=spec.limits, forbidden_paths=spec.forbidden_paths
    )


def require_sane(spec: Spec, profile: Profile) -> None:
    if (spec.argv is None) == (spec.source is None):
        raise ValueError("either argv or source, not both")
    if spec.argv is not None and (not spec.argv or isinstance(spec.argv, str)):
        raise ValueError("argv is a list of words, the program first")
    if spec.tier not in TIERS:
        raise ValueError(f"tier {spec.tier!r} is none of {', '.join(TIERS)}")
    if spec.source is not None and not profile.python:
        raise ConfinementError(
            f"the profile {profile.name} does not show the Python interpreter",
            layer="profile",
            remedy="Use python-offline, model-loader or strictest.",
        )
    for word in (*(spec.argv or ()), *spec.args, *spec.env, *spec.env.values()):
        if "\0" in word:
            raise ValueError("a word with a zero byte cannot be passed to a program")
    if any("=" in name or not name for name in spec.env):
        raise ValueError("a name in env is empty or holds '='")


@dataclass(frozen=True, slots=True)
class Order:
    """What the spawner gets: one message and its descriptors. `at_end` is for the caller to do after.

    The first descriptor is that of `kind`, which may be in no cache any more: it is open while that is held.
    `kept` are those that are there for more than one job.
    """

    beginning: bytes  # of its body, up to its source, if that is all that follows
    body: bytes
    fds: tuple[int, ...]
    timeout_s: float
    kind: Kind
    at_end: Callable[[], None] | None = None
    kept: tuple[Kept, ...] = ()


class Kind:
    """What jobs of one profile, tier and form share, in a sealed memory file: made once, sent each time."""

    def __init__(self, profile: Profile, tier: Tier, *, is_source: bool, keeps_host: bool, abi: int) -> None:
        alone = profile.model_copy(update={"read": (), "write": ()})
        self.plan = plans.plan(alone, here(), tier=tier)
        wanted = plans.filter_spec(self.plan, profile=profile, landlock_abi=abi, is_source=is_source)
        observer = compile_observer(wanted)
        is_heard = is_source and tier == "full" and not observer  # of listeners there can be one
        farewell = compile_farewell() if is_heard else b""
        setup = {
            "plan": self.plan.to_wire(),
            "program": base64.b64encode(compile_filter(wanted)).decode(),
            "observer": base64.b64encode(observer).decode(),
            "farewell": base64.b64encode(farewell).decode(),
            "is_source": is_source,
            "keeps_host": keeps_host,
            "calls": observed_numbers() if observer else [],
        }
        body = json.dumps(setup, sort_keys=True).encode()
        self.key = hashlib.sha256(body).hexdigest()
        self.file = Kept(messages.sealed_memfd(body))
        weakref.finalize(self, self.file.close)


_texts: dict[int, tuple[Profile, dict[str, str], str]] = {}


def _text(profile: Profile) -> str:
    """What templates are told apart by. Most calls name a profile that was named before, and of all that it
    holds only `env` could have changed; of another class of the caller's own, anything."""
    if type(profile) is not Profile:
        return profile.model_dump_json(exclude={"read", "write"})
    known = _texts.get(id(profile))
    if known is None or known[0] is not profile or known[1] != profile.env:
        known = profile, dict(profile.env), profile.model_dump_json(exclude={"read", "write"})
        if len(_texts) >= _MOST_TEXTS:
            _texts.clear()
        _texts[id(profile)] = known
    return known[2]


def _kind(profile_json: str, tier: Tier, **options: Any) -> Kind:
    found = _made_kind(profile_json, tier, **options)
    if not found.file.is_open():
        _made_kind.cache_clear()
        found = _made_kind(profile_json, tier, **options)
    return found


@lru_cache(maxsize=64)
def _made_kind(profile_json: str, tier: Tier, *, is_source: bool, keeps_host: bool, abi: int) -> Kind:
    profile = Profile.model_validate_json(profile_json)
    return Kind(profile, tier, is_source=is_source, keeps_host=keeps_host, abi=abi)


def order(spec: Spec, profile: Profile, *, spawner: Spawner, owned: contextlib.ExitStack) -> Order:
    """Everything about *spec* that the spawner needs. *owned* closes what was opened, once it is sent.

    Raises:
        ConfinementError: the plan cannot be made, or a path cannot be opened for the job.
    """
    profile = masks.protected(profile, spec.workdir)
    workdir, at_end = _workdir(spec, profile, spawner, owned)
    sees_more = bool(workdir or profile.read or profile.write)
    kind = _kind(
        _text(profile),
        spec.tier,
        is_source=spec.source is not None,
        keeps_host=sees_more and spec.tier == "full" and os.geteuid() != 0,
        abi=spawner.landlock_abi,
    )
    own_plan, key = None, kind.key
    mounts: tuple[int, ...] = ()
    if sees_more:
        own_plan = plans.plan(profile, here(), tier=spec.tier, workdir=workdir)
        own_plan, mounts = _with_mounts(own_plan, spawner, owned)
        key = ""  # none waits for a folder of the host: it may be gone by then
    nothing = _nothing()
    text, inputs = (
        _inline(spec.source),
        [_owned(messages.sealed_memfd(spec.stdin), owned) if spec.stdin else nothing.fd],
    )
    if spec.source is not None and text is None:
        source = spec.source.encode() if isinstance(spec.source, str) else spec.source
        inputs.append(_owned(messages.sealed_memfd(source), owned))
    fields = {
        "template": kind.key,
        "key": key,
        "plan": own_plan.to_wire() if own_plan else None,
        "program": spec.source is None,
        "inputs": len(inputs),
        "artifacts": list(spec.artifacts),
        "stream": spec.on_output is not None,
        "timeout_s": (timeout_s := _timeout_s(spec, profile)),
    }
    orders = {
        "argv": None if spec.argv is None else list(spec.argv),
        "args": list(spec.args),
        "env": list(spec.env.items()),
        "input": bool(spec.stdin),
        "artifacts": bool(spec.artifacts),
        "source": text,
    }
    body = wire.joined(wire.encode(fields), wire.encode(orders))
    is_alone = key and text is not None and not spec.stdin and type(profile) is Profile
    beginning = body.removesuffix(wire.encode_text(text) + b"}") if is_alone and text is not None else b""
    kept = kind.file, nothing
    return Order(beginning, body, (kind.file.fd, *inputs, *mounts), timeout_s, kind, at_end, kept)


def _inline(source: str | bytes | None) -> str | None:
    """Short source goes with the orders; what is long, or no text, in a memory file."""
    if source is None or len(source) > _MOST_INLINE:
        return None
    with contextlib.suppress(UnicodeError):
        text = source.decode() if isinstance(source, bytes) else source
        return text if text.isascii() else text.encode().decode()
    return None


def _owned(fd: int, owned: contextlib.ExitStack) -> int:
    owned.callback(os.close, fd)
    return fd


def _nothing() -> Kept:
    found = _opened_nothing()
    if not found.is_open():
        _opened_nothing.cache_clear()
        found = _opened_nothing()
    return found


@lru_cache(maxsize=1)
def _opened_nothing() -> Kept:
    return Kept(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _timeout_s(spec: Spec, profile: Profile) -> float:
    """The caller's, else the profile's. What a policy set bounds the caller's; our default does not."""
    limit = profile.limits.timeout_s
    wanted = spec.timeout_s if spec.timeout_s is not None else limit
    bounded = min(wanted, limit) if "timeout_s" in profile.limits.model_fields_set else wanted
    if not 0 < bounded <= 86_400:
        raise ValueError(f"timeout_s is {bounded}; more than 0 and at most 86400 seconds are possible")
    return bounded


def _workdir(
    spec: Spec, profile: Profile, spawner: Spawner, owned: contextlib.ExitStack
) -> tuple[Workdir | None, Callable[[], None] | None]:
    """The caller's folder, resolved, its identity noted.

    Where it is root's and no mount can map it, a copy for the job, and how to bring home what it changed.
    """
    if spec.workdir is None:
        return None, None
    path = checked_path(os.path.abspath(os.fspath(spec.workdir)), forbidden_paths=spec.forbidden_paths)
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise ConfinementError(f"{path} is not a folder", layer="profile", remedy="Name a folder.")
    if spec.tier == "full" or os.geteuid() != 0:
        return Workdir(path, _inode(path)), None
    kept = masks.below(path, (*profile.keep, *profile.read, *here().python_roots))
    copy = staging.copy_for(path, owner=spawner.identity, most_bytes=profile.limits.disk_bytes, kept=kept)
    return Workdir(copy.folder, _inode(copy.folder), is_staged=True), copy.bring_home


def _inode(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _with_mounts(plan: Plan, spawner: Spawner, owned: contextlib.ExitStack) -> tuple[Plan, tuple[int, ...]]:
    """As root: what the job may use of root's files is opened here, as root, and mapped to the job's user."""
    own = {*here().system, *here().python_roots}
    plan = plan._replace(binds=tuple(b if b.path in own else _pinned(b) for b in plan.binds))
    if os.geteuid() != 0:
        return plan, ()
    wanted = [bind.path for bind in plan.binds if bind.path not in own and not bind.is_staged]
    if not wanted:
        return plan, ()
    if plan.tier != "full" or spawner.mapping_fd < 0:
        closed = [b.path for b in plan.binds if b.path in wanted and (b.writable or not _is_public(b.path))]
        if not closed:
            return plan, ()
        raise ConfinementError(
            f"{closed[0]} is root's, which the job is not, and the tier {plan.tier} cannot map it",
            layer="identity",
            remedy="Let others read it if it is only read (chmod o+rX, on the folders before it too), run as "
            "an ordinary user, or use the tier full on a host with user namespaces.",
        )
    if len(wanted) > _MOST_MOUNTS:
        raise ConfinementError(
            f"{len(wanted)} paths would have to be mapped for the job; at most {_MOST_MOUNTS} can be",
            layer="profile",
            remedy="Name folders that hold them, or fewer.",
        )
    handles = {path: number for number, path in enumerate(wanted)}
    binds = tuple(b._replace(handle=handles.get(b.path, -1)) for b in plan.binds)
    mapped = [b for b in plan.binds if b.path in handles]
    fds = tuple(_owned(_mapped(bind, spawner.mapping_fd, may_execute=plan.exec), owned) for bind in mapped)
    return plan._replace(binds=binds), fds


def _pinned(bind: Bind) -> Bind:
    """*bind* with what it is now: a job could put a link there, to be shown what the link leads to."""
    try:
        fd = syscalls.open_path(-1, bind.path)
    except OSError as error:
        raise ConfinementError(
            f"{bind.path} cannot be shown: {error.strerror}",
            layer="profile",
            remedy="Name what is there, and not through a link.",
        ) from error
    status = os.fstat(fd)
    os.close(fd)
    return bind if bind.inode != (0, 0) else bind._replace(inode=(status.st_dev, status.st_ino))


def _is_public(path: str) -> bool:
    """True if any user may come to *path* and read it."""
    mode = os.lstat(path).st_mode
    return not barring_folder(path) and bool(mode & stat.S_IROTH)


def _mapped(bind: Bind, mapping_fd: int, *, may_execute: bool) -> int:
    attrs = syscalls.MOUNT_ATTR_IDMAP | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
    if not bind.writable:
        attrs |= syscalls.MOUNT_ATTR_RDONLY
    elif not may_execute:  # nor is anything mapped from what can be written
        attrs |= syscalls.MOUNT_ATTR_NOEXEC
    try:
        tree = syscalls.open_tree(bind.path, clone=True)
    except OSError as error:
        raise missing("rootfs", str(error)) from error
    status = os.fstat(tree)
    if bind.inode != (status.st_dev, status.st_ino):
        os.close(tree)
        raise ConfinementError(
            f"{bind.path} was replaced meanwhile", layer="profile", remedy="Let no other job write around it."
        )
    try:
        syscalls.mount_setattr(tree, attrs=attrs, userns_fd=mapping_fd)
    except OSError as error:
        os.close(tree)
        raise ConfinementError(
            f"{bind.path} cannot be mapped to the job's user: {error}",
            layer="rootfs",
            remedy="Use a folder on ext4, xfs, btrfs or tmpfs (mapped mounts), or run as an ordinary user.",
        ) from error
    return tree
