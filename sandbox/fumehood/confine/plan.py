"""From a profile to a plan: everything that will be done to a child, as data.

`plan(profile, host)` is pure: the same facts give the same plan, which can be printed, compared and sent.
What a plan says is done by `jail.apply` in the child, irreversibly.
"""

# pathlib resolves and normalises on its own; here a path is text until it is a descriptor
# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH114, PTH115, PTH120

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fumehood.errors import ConfinementError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fumehood.confine.outcome import Tier
    from fumehood.confine.profile import Profile
    from fumehood.confine.seccomp import FilterSpec

VERSION: Final = 1
PRIVATE_WORKDIR: Final = "/job"
_PRIVATE_TMP: Final = "/tmp"  # noqa: S108 — the job's own
INSIDE_ID: Final = 1000
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32")
_ETC: Final = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/localtime",
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_FULL_LAYERS: Final = (
    "identity",
    "user-ns",
    "mount-ns",
    "pid-ns",
    "net-ns",
    "ipc-ns",
    "uts-ns",
    "cgroup-ns",
    "rootfs",
)
_LISTS: Final = ("layers", "devices", "folders", "python_path", "masks", "imports")
_COMMON_LAYERS: Final = ("rlimits", "landlock", "capabilities", "no-new-privs", "seccomp", "supervisor")


class Host(NamedTuple):
    """The facts about this host and this interpreter that a plan depends on."""

    uid: int
    executable: str
    python_roots: tuple[str, ...]  # folders that must be visible for the interpreter to work
    python_path: tuple[str, ...]  # sys.path inside
    links: tuple[tuple[str, str], ...]  # system folders that are symbolic links, and their targets
    system: tuple[str, ...]  # system folders and files that exist
    devices: tuple[str, ...]

    @classmethod
    def here(cls) -> Host:
        """The facts of this process.

        Raises:
            ConfinementError: the interpreter does not know which program it is, as where it is embedded.
        """
        if not os.path.isfile(sys.executable or ""):
            raise ConfinementError(
                f"sys.executable is {sys.executable!r}: which folders the interpreter needs is not known",
                layer="supervisor",
                remedy="Run under an ordinary Python interpreter, or set sys.executable to the path of one.",
            )
        import sysconfig  # not where jobs come from

        paths = sysconfig.get_paths()
        libraries = _existing([paths["stdlib"], paths["platstdlib"], *_dynload(), *_site_folders(paths)])
        executable = os.path.abspath(sys.executable)
        roots = [_root_of_interpreter(), os.path.realpath(sys.prefix), sys.prefix, *libraries]
        return cls(
            uid=os.geteuid(),
            executable=executable,
            python_roots=_outermost([*roots, os.path.dirname(os.path.realpath(executable))]),
            python_path=tuple(libraries),
            links=tuple((p, os.readlink(p)) for p in _SYSTEM if os.path.islink(p)),
            system=tuple(p for p in (*_SYSTEM, *_ETC) if os.path.exists(p) and not _is_linked_folder(p)),
            devices=tuple(p for p in _DEVICES if os.path.exists(p)),
        )


def _is_linked_folder(path: str) -> bool:
    return path in _SYSTEM and os.path.islink(path)


def _root_of_interpreter() -> str:
    return os.path.realpath(sys.base_prefix)


def _dynload() -> list[str]:
    return [p for p in sys.path if p.endswith("lib-dynload")]


def _site_folders(paths: Mapping[str, str]) -> list[str]:
    """Where packages are installed; a user's own packages only if this process uses them."""
    import site

    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [paths["purelib"], paths["platlib"], *site.getsitepackages(), *user]


def _existing(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(p for p in paths if os.path.isdir(p)))


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """*paths* without those that lie inside another of them."""
    kept: list[str] = []
    for path in sorted(dict.fromkeys(map(os.path.normpath, paths))):
        if not any(_is_inside(path, other) for other in kept):
            kept.append(path)
    return tuple(kept)


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class Bind(NamedTuple):
    """One path of the host, shown inside at the same place.

    `handle` numbers a detached mount that the caller opened under its own identity, where there is one;
    `inode` is what the path must still be when it is mounted (device and number, 0 for unchecked).
    """

    path: str
    writable: bool = False
    handle: int = -1
    inode: tuple[int, int] = (0, 0)
    is_staged: bool = False  # a copy that belongs to the job's user already


class Plan(NamedTuple):
    """All that will be done to the child. Paths are the child's own."""

    profile: str
    tier: str
    layers: tuple[str, ...]
    workdir: str  # "" in `no-userns` until the supervisor has made a private folder
    binds: tuple[Bind, ...]
    links: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]
    folders: tuple[str, ...]  # private memory folders
    disk_bytes: int  # of all private folders together
    inodes: int
    exec: bool
    observe: bool
    sockets: bool
    rlimits: tuple[tuple[str, int], ...]
    env: tuple[tuple[str, str], ...]
    python_path: tuple[str, ...]
    executable: str
    memory_bytes: int
    processes: int
    output_bytes: int
    timeout_s: float
    version: int = VERSION
    private: str = ""  # the private folder that the supervisor has made, where it is not in memory
    masks: tuple[str, ...] = ()  # read-only again, inside something writable
    imports: tuple[str, ...] = ()  # modules that are loaded before the job comes

    def to_wire(self) -> dict[str, Any]:
        """A JSON object; `from_wire` reads it back."""
        return {**self._asdict(), "binds": [bind._asdict() for bind in self.binds]}

    @classmethod
    def from_wire(cls, fields: dict[str, Any]) -> Plan:
        """The plan that `to_wire` wrote.

        Raises:
            ValueError: it was written by another version.
        """
        if fields.get("version") != VERSION:
            raise ValueError(f"a plan of version {fields.get('version')!r}; this is version {VERSION}")
        binds = tuple(Bind(**{**b, "inode": tuple(b["inode"])}) for b in fields["binds"])
        pairs = {k: tuple(map(tuple, fields[k])) for k in ("links", "rlimits", "env")}
        lists = {k: tuple(fields[k]) for k in _LISTS}
        return cls(**{**fields, **pairs, **lists, "binds": binds})


class Workdir(NamedTuple):
    """A folder of the host that the job may write, and what inside it may not be written."""

    path: str
    inode: tuple[int, int]
    masks: tuple[str, ...] = ()
    is_staged: bool = False


def plan(profile: Profile, host: Host, *, tier: Tier = "full", workdir: Workdir | None = None) -> Plan:
    """What will be done to a child under *profile* on *host*. Pure.

    Raises:
        ConfinementError: the profile cannot be applied to a child, or the tier cannot express it.
    """
    if profile.kind != "job":
        raise ConfinementError(
            f"the profile {profile.name} is applied by a worker to itself",
            layer="profile",
            remedy="Use `fumehood.confine.pdp.lock_down` inside the worker.",
        )
    _refuse_to_write_what_the_caller_runs(profile, host, workdir)
    binds = _binds(profile, host, workdir)
    _refuse_what_landlock_cannot_mask(tier, binds)
    full = tier == "full"
    place = workdir.path if workdir else (PRIVATE_WORKDIR if full else "")
    limits = profile.limits
    return Plan(
        profile=profile.name,
        tier=tier,
        layers=(
            *(_FULL_LAYERS if full else ("identity",)),
            *_COMMON_LAYERS,
            *(("observe",) * profile.observe),
        ),
        workdir=place,
        binds=binds,
        links=host.links if profile.system else (),
        devices=host.devices,
        folders=_folders(private=workdir is None) if full else (),
        disk_bytes=limits.disk_bytes,
        inodes=limits.inodes,
        exec=profile.exec,
        observe=profile.observe,
        sockets=full and profile.observe and profile.sockets,
        rlimits=_rlimits(profile),
        env=_environment(profile, host, _PRIVATE_TMP if full and workdir else place),
        python_path=host.python_path if profile.python else (),
        executable=host.executable if profile.python else "",
        memory_bytes=limits.memory_bytes,
        processes=limits.processes,
        output_bytes=limits.output_bytes,
        timeout_s=limits.timeout_s,
        masks=workdir.masks if workdir else (),
        imports=profile.imports if profile.python else (),
    )


def layers(tier: str, *, observe: bool) -> tuple[str, ...]:
    """The names of all layers of *tier*, in the order in which they are applied."""
    before = _FULL_LAYERS if tier == "full" else ("identity",)
    return (*before, *_COMMON_LAYERS, *(("observe",) if observe else ()))


def _refuse_to_write_what_the_caller_runs(profile: Profile, host: Host, workdir: Workdir | None) -> None:
    """The interpreter and the system are read-only inside a writable folder, and never one themselves."""
    for path in (*profile.write, *((workdir.path,) if workdir else ())):
        root = next((r for r in (*host.python_roots, *host.system) if _is_inside(path, r)), None)
        if root is not None:
            raise ConfinementError(
                f"{path} lies in {root}, which is the system's or the interpreter's own",
                layer="profile",
                remedy="Name a folder of its own for the job, and only that.",
            )


def _binds(profile: Profile, host: Host, workdir: Workdir | None) -> tuple[Bind, ...]:
    shown = [*(host.system if profile.system else ()), *(host.python_roots if profile.python else ())]
    found = {path: Bind(path) for path in _outermost(shown)}
    found |= {path: Bind(path) for path in profile.read if not _is_shown(path, found)}
    writable = (*profile.write, *((workdir.path,) if workdir else ()))
    never_written = (*host.system, *host.python_roots, *profile.read, *profile.keep)  # shown by it or not
    found |= {path: Bind(path) for path in never_written if _is_shown(path, writable)}
    found |= {path: Bind(path, writable=True) for path in profile.write}
    if workdir:
        found[workdir.path] = Bind(
            workdir.path, writable=True, inode=workdir.inode, is_staged=workdir.is_staged
        )
        found |= {path: Bind(path) for path in workdir.masks}
    return tuple(found[path] for path in sorted(found))  # parents before what lies inside them


def _is_shown(path: str, found: Iterable[str]) -> bool:
    return any(_is_inside(path, other) for other in found)


def _refuse_what_landlock_cannot_mask(tier: str, binds: tuple[Bind, ...]) -> None:
    """Landlock only adds rights going down: inside a writable folder nothing can be read-only again."""
    if tier == "full":
        return
    writable = [b.path for b in binds if b.writable]
    inside = [(b.path, w) for b in binds if not b.writable for w in writable if _is_inside(b.path, w)]
    if inside:
        path, folder = inside[0]
        raise ConfinementError(
            f"the tier no-userns cannot keep {path} read-only inside {folder}, which the job may write",
            layer="landlock",
            remedy="Use a folder without it, or the tier full.",
        )


def _folders(*, private: bool) -> tuple[str, ...]:
    return ("/tmp", "/dev/shm", *((PRIVATE_WORKDIR,) if private else ()))  # noqa: S108


def _rlimits(profile: Profile) -> tuple[tuple[str, int], ...]:
    """RLIMIT_DATA lets the aggregate limit speak first for what grows, and refuses what comes at once."""
    limits = profile.limits
    return (
        ("CORE", 0),
        ("FSIZE", limits.file_bytes),
        ("DATA", limits.memory_bytes + limits.memory_bytes // 4 + (256 << 20)),
        ("AS", 8 * limits.memory_bytes + (4 << 30)),
        ("CPU", limits.cpu_s),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
        ("SIGPENDING", 1024),
        ("NPROC", limits.processes),
        ("NOFILE", limits.open_files),
    )


def _environment(profile: Profile, host: Host, place: str) -> tuple[tuple[str, str], ...]:
    """Built from nothing; the caller's own environment is never looked at.

    *place* is private, where that can be: programs leave files in their home that others would find.
    """
    folders = [os.path.dirname(host.executable)] if profile.python else []
    fixed = {
        "PATH": ":".join(dict.fromkeys([*folders, "/usr/local/bin", "/usr/bin", "/bin"])),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "USER": "agent",
        "LOGNAME": "agent",
        "HOME": place,
        "TMPDIR": place,
    }
    return tuple(sorted({**fixed, **profile.env}.items()))


def filter_spec(plan: Plan, *, profile: Profile, landlock_abi: int, is_source: bool = False) -> FilterSpec:
    """Which filter the plan needs, given what this kernel's Landlock bounds by itself."""
    from fumehood.confine.seccomp import FilterSpec

    full = plan.tier == "full"
    return FilterSpec(
        fork=profile.fork,
        exec=profile.exec,
        once=not profile.exec and not is_source,
        observe=profile.observe,
        attributes=full,
        signals=full or landlock_abi >= 6,
        pidfd=full,
        jit=profile.jit,
    )
