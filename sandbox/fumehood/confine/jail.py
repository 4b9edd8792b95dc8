"""What a child does to itself: from a plan to a confined process, irreversibly.

Three processes, each forked from the last, none of which has ever held another job's data:

    outer   takes the namespaces and forks `inner`; ends at once
    inner   process 1 of the jail: builds the root, gives up what is left, waits for one job, forks it, reaps
    job     standard streams, Landlock and filter; then the caller's program or source

`inner` speaks to the supervisor over one socket that `job` closes before anything of the caller's runs.
Nothing here may import: the interpreter's own files may be out of reach by then.
"""

# between two system calls there is no room for path objects
# ruff: noqa: PTH103, PTH110, PTH112, PTH113, PTH120, PTH211

from __future__ import annotations

import base64
import contextlib
import errno
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from fumehood.confine import artifacts, landlock, procs, pyjob, syscalls, wire
from fumehood.confine.plan import INSIDE_ID, Bind, Plan
from fumehood.confine.seccomp import EXEC_ONCE_FD

_NAMESPACES: Final = (
    ("user-ns", syscalls.CLONE_NEWUSER),
    ("mount-ns", syscalls.CLONE_NEWNS),
    ("pid-ns", syscalls.CLONE_NEWPID),
    ("net-ns", syscalls.CLONE_NEWNET),
    ("ipc-ns", syscalls.CLONE_NEWIPC),
    ("uts-ns", syscalls.CLONE_NEWUTS),
    ("cgroup-ns", syscalls.CLONE_NEWCGROUP),
)
_SAFE: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_DEVICE_SAFE: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
_RDONLY: Final = syscalls.MOUNT_ATTR_RDONLY
_ENDED_BEFORE_RUNNING: Final = 125


class Refused(Exception):
    """A layer could not be put on. `layer` names it, the text is the kernel's."""

    def __init__(self, layer: str, text: str) -> None:
        self.layer = layer
        super().__init__(text)


@contextlib.contextmanager
def _layer(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(name, str(error)) from error


@dataclass(frozen=True, slots=True)
class Setup:
    """What the supervisor sends first: the plan, both filters, and detached mounts of the caller's."""

    plan: Plan
    program: bytes
    observer: bytes
    may_exec: bool
    mounts: tuple[int, ...]

    @classmethod
    def receive(cls, channel: socket.socket) -> Setup:
        """Take the message. Ends the process if the supervisor is gone."""
        message = wire.receive(channel)
        if message is None:
            os._exit(_ENDED_BEFORE_RUNNING)
        fields, fds = message
        return cls(
            plan=Plan.from_wire(fields["plan"]),
            program=base64.b64decode(fields["program"]),
            observer=base64.b64decode(fields["observer"]),
            may_exec=fields["may_exec"],
            mounts=tuple(fds),
        )


# --- outer -------------------------------------------------------------------------------------------


def outer(channel: socket.socket, go_fd: int) -> NoReturn:
    """Become the first process of a jail. Never returns."""
    with _last_words(channel):
        setup = Setup.receive(channel)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # or /proc/self/uid_map belongs to root
        if setup.plan.tier == "full":
            _enter_namespaces()
        with _layer("processes"):
            pid = os.fork()
        if not pid:
            inner(channel, setup, go_fd)
        wire.send(channel, {"pid": pid})
    os._exit(0)


@contextlib.contextmanager
def _last_words(channel: socket.socket) -> Iterator[None]:
    """Whatever goes wrong is said to the supervisor, and ends this process: nothing of the caller's runs."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 — see above
        layer = error.layer if isinstance(error, Refused) else "jail"
        with contextlib.suppress(BaseException):
            wire.send(channel, {"error": f"{error}", "layer": layer})
        os._exit(_ENDED_BEFORE_RUNNING)


def _enter_namespaces() -> None:
    """All at once; where that fails, one by one, to say which the host refuses."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(sum(flag for _, flag in _NAMESPACES))
    except OSError:
        for name, flag in _NAMESPACES:
            with _layer(name):
                syscalls.unshare(flag)
    with _layer("user-ns"):
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{INSIDE_ID} {uid} 1"),
            ("gid_map", f"{INSIDE_ID} {gid} 1"),
        ):
            _write(f"/proc/self/{name}", text)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# --- inner -------------------------------------------------------------------------------------------


def inner(channel: socket.socket, setup: Setup, go_fd: int) -> NoReturn:
    """Process 1 of the jail. Never returns."""
    with _last_words(channel):
        _die_with_the_supervisor(channel, go_fd, isolated=setup.plan.tier == "full")
        wire.send(channel, {"ready": _apply(setup)})
        _serve_one(channel, setup)
    os._exit(0)


def _die_with_the_supervisor(channel: socket.socket, go_fd: int, *, isolated: bool) -> None:
    """In a pid namespace by signal, and everything inside dies along. Elsewhere a killed process would leave
    the job's own behind: there this one watches the channel, and kills them when the supervisor is gone.

    `outer` must have ended for good before: its end would otherwise count as the parent's death.
    """
    if os.read(go_fd, 1) != b"g":
        os._exit(_ENDED_BEFORE_RUNNING)
    os.close(go_fd)
    if isolated:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if _is_hung_up(channel, timeout_ms=0):
        os._exit(_ENDED_BEFORE_RUNNING)


def _is_hung_up(channel: socket.socket, *, timeout_ms: int) -> bool:
    poll = select.poll()
    poll.register(channel, 0)
    return bool(poll.poll(timeout_ms))


def _apply(setup: Setup) -> list[str]:
    plan = setup.plan
    active = ["identity", "supervisor"]
    if plan.tier == "full":
        with _layer("rootfs"):
            _build_root(plan, setup.mounts)
        with _layer("uts-ns"):
            socket.sethostname("jail")
        active += [*(name for name, _ in _NAMESPACES), "rootfs"]
    with _layer("rlimits"):
        _limit(plan)
    active.append("rlimits")
    with _layer("capabilities"):
        if plan.tier == "full":
            syscalls.drop_capabilities()
        syscalls.clear_capabilities()
    with _layer("no-new-privs"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    return [*active, "capabilities", "no-new-privs"]


def _limit(plan: Plan) -> None:
    """Everything but the number of open files, which `job` sets when its program is open."""
    more = 2 if plan.tier == "full" else procs.count_of_user(os.getuid())
    for name, value in plan.rlimits:
        if name != "NOFILE":
            _set_limit(name, value + more if name == "NPROC" else value)


def _set_limit(name: str, value: int) -> None:
    kind = getattr(resource, f"RLIMIT_{name}", None)
    if kind is None:  # MSGQUEUE has no name in this version of Python
        return
    hard = resource.getrlimit(kind)[1]
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    grace = 1 if name == "CPU" and bounded == value and hard != value else 0  # SIGXCPU first, SIGKILL after
    resource.setrlimit(kind, (bounded, bounded + grace))


# --- the root file system ----------------------------------------------------------------------------


def _build_root(plan: Plan, mounts: tuple[int, ...]) -> None:
    """Collect every mount as a detached tree, attach them below an empty memory file system, and move in."""
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    trees = [(bind.path, _tree(bind, mounts)) for bind in plan.binds]
    devices = [(path, _device(path)) for path in plan.devices]
    base = "/tmp" if os.path.isdir("/tmp") else "/usr"  # noqa: S108 — only a place to mount over
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("jail", base, kind="tmpfs", flags=flags, data="mode=755,size=1m,nr_inodes=4096")
    for path, size in plan.folders:
        os.makedirs(base + path, exist_ok=True)
        options = f"mode=700,size={size},nr_inodes={plan.inodes}"
        syscalls.mount("jail", base + path, kind="tmpfs", flags=flags, data=options)
    for path, tree in trees + devices:
        _attach(base, path, tree)
    for path, target in plan.links:
        os.symlink(target, base + path)
    _links_in_dev(base)
    _mount_proc(base)
    syscalls.mount_setattr(base, attrs=_RDONLY, recursive=False)
    os.chdir(base)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    os.chdir("/")


def _tree(bind: Bind, mounts: tuple[int, ...]) -> int:
    if bind.handle >= 0:
        return mounts[bind.handle]
    tree = syscalls.open_tree(bind.path, clone=True)
    status = os.fstat(tree)
    if bind.inode != (0, 0) and bind.inode != (status.st_dev, status.st_ino):
        raise OSError(f"{bind.path} is not the folder that was asked for: it was replaced meanwhile")
    syscalls.mount_setattr(tree, attrs=_SAFE if bind.writable else _SAFE | _RDONLY)
    return tree


def _device(path: str) -> int:
    tree = syscalls.open_tree(path, clone=True)
    syscalls.mount_setattr(tree, attrs=_DEVICE_SAFE)
    return tree


def _attach(base: str, path: str, tree: int) -> None:
    target = base + path
    if not os.path.lexists(target):
        if _is_folder(tree):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC | os.O_EXCL, 0o644))
    syscalls.move_mount(tree, target)
    os.close(tree)


def _is_folder(fd: int) -> bool:
    return os.fstat(fd).st_mode & 0o170000 == 0o040000


def _links_in_dev(base: str) -> None:
    os.makedirs(base + "/dev", exist_ok=True)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{base}/dev/{name}")


def _mount_proc(base: str) -> None:
    """Only the jail's own processes; none at all where the host masks its /proc and refuses a fresh one."""
    os.makedirs(base + "/proc", exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    with contextlib.suppress(PermissionError):
        syscalls.mount("proc", base + "/proc", kind="proc", flags=flags, data="subset=pid")


# --- one job -------------------------------------------------------------------------------------------


def _serve_one(channel: socket.socket, setup: Setup) -> None:
    """Wait for the job, fork it, reap until it ends, say how."""
    message = wire.receive(channel)
    if message is None:
        os._exit(_ENDED_BEFORE_RUNNING)
    fields, fds = message
    told_r, told_w = os.pipe()
    pid = os.fork()
    if not pid:
        job(channel, setup, fields, fds, told_w)
    for fd in (*fds, told_w):
        os.close(fd)
    status, usage = _reaped(pid, channel, isolated=setup.plan.tier == "full")
    failure = os.read(told_r, 4)
    if setup.plan.tier == "full":
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # the whole namespace but this process: nothing moves any more
    found = artifacts.collect(setup.plan.workdir, fields["artifacts"])
    report = {
        "status": status,
        "maxrss_bytes": usage.ru_maxrss * 1024,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }
    if failure:
        report["not_started"] = int(failure)
    wire.send(channel, report, fds=(found,) if found >= 0 else ())


def _reaped(pid: int, channel: socket.socket, *, isolated: bool) -> tuple[int, resource.struct_rusage]:
    """The job's wait status. In its own pid namespace everything else dies with this process; elsewhere
    this process kills what the job left behind, and all of it if the supervisor goes away."""
    watch = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    if not isolated:
        poll.register(channel, 0)
    found: tuple[int, resource.struct_rusage] | None = None
    while found is None:
        poll.poll(500)
        if not isolated and _is_hung_up(channel, timeout_ms=0):
            _kill_the_rest()
            os._exit(_ENDED_BEFORE_RUNNING)
        found = _reap_ready(pid)
    if not isolated:
        _kill_the_rest()
    return found


def _reap_ready(pid: int) -> tuple[int, resource.struct_rusage] | None:
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, status, usage = os.wait4(-1, os.WNOHANG)
            if not ended:
                break
            found = (status, usage) if ended == pid else found
    return found


def _kill_the_rest() -> None:
    """Until nobody is left; a process that forks while it is killed is found in the next round."""
    while procs.children(os.getpid()):
        procs.kill_all(procs.descendants(os.getpid()))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def job(
    channel: socket.socket, setup: Setup, fields: dict[str, Any], fds: list[int], told_w: int
) -> NoReturn:
    """The confined process itself. Never returns."""
    with _last_words(channel):
        program = _settle(channel, setup, fields, fds, told_w)
        os.close(channel.detach())
    try:
        if fields["argv"] is not None:
            _start_program(fields, program, told_w)
        os._exit(pyjob.run_source(fields["args"], env=fields["env"], path=setup.plan.python_path))
    finally:
        os._exit(_ENDED_BEFORE_RUNNING)


def _settle(channel: socket.socket, setup: Setup, fields: dict[str, Any], fds: list[int], told_w: int) -> int:
    """Everything up to the first line of the caller's own. Returns the one program's descriptor, or -1."""
    plan, is_program = setup.plan, fields["argv"] is not None
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    os.umask(0o022)
    with _layer("rootfs"):
        os.chdir(plan.workdir)
    for number, fd in enumerate(
        fds
    ):  # 0, 1, 2, and the source as 3; the numbers below 4 are never in use here
        os.dup2(fd, number)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    program = _opened_program(fields, plan) if is_program and not plan.exec else -1
    with _layer("rlimits"):
        _set_limit("NOFILE", dict(plan.rlimits)["NOFILE"])
    with _layer("landlock"):
        _landlock(setup)
    _filter(channel, setup)
    kept = [fd for fd in (told_w if is_program else -1, program, channel.fileno()) if fd >= 0]
    syscalls.close_from(len(fds), keep=tuple(kept))
    return program


def _opened_program(fields: dict[str, Any], plan: Plan) -> int:
    """The one program that may be started, under the number that the filter lets through."""
    with _layer("rlimits"):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard != resource.RLIM_INFINITY and hard <= EXEC_ONCE_FD:
            raise OSError(f"the hard limit on open files is {hard}, needed is {EXEC_ONCE_FD + 1}")
    path = _found(fields)
    if path is None:
        return -1
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    os.dup2(fd, EXEC_ONCE_FD, inheritable=False)
    os.close(fd)
    return EXEC_ONCE_FD


def _landlock(setup: Setup) -> None:
    plan, version = setup.plan, landlock.abi()
    if not version:
        raise OSError("this kernel has no Landlock, or it is not enabled")
    see = landlock.READ | (landlock.EXECUTE if setup.may_exec else 0)
    change = see | landlock.write_rights(version)
    if plan.tier == "full":
        shown: list[tuple[str | int, int]] = [("/", see)]
        shown += [(path, change) for path, _ in plan.folders]
    else:
        shown = [(bind.path, see) for bind in plan.binds if not bind.writable]
    shown += [(bind.path, change) for bind in plan.binds if bind.writable]
    shown += [(path, landlock.READ_FILE | landlock.WRITE_FILE) for path in plan.devices]
    landlock.restrict(shown, version=version)


def _filter(channel: socket.socket, setup: Setup) -> None:
    """The observer first: the main filter forbids seccomp(2). Its listener leaves before anything runs."""
    with _layer("observe"):
        listener = syscalls.load_filter(setup.observer, listener=True) if setup.observer else -1
    with _layer("seccomp"):
        syscalls.load_filter(setup.program)
    if listener >= 0:
        wire.send(channel, {"active": ["landlock", "observe", "seccomp"]}, fds=(listener,))
    else:
        wire.send(channel, {"active": ["landlock", "seccomp"]})


def _found(fields: dict[str, Any]) -> str | None:
    """Where the program is, in the jail's own PATH."""
    name = fields["argv"][0]
    if "/" in name:
        return name if os.path.exists(name) else None
    folders = dict(fields["env"]).get("PATH", "").split(":")
    candidates = [f"{folder}/{name}" for folder in folders if folder]
    return next((c for c in candidates if os.path.isfile(c)), None)


def _start_program(fields: dict[str, Any], program: int, told_w: int) -> NoReturn:
    """exec; goes on only to say why not."""
    env = {os.fsencode(k): os.fsencode(v) for k, v in fields["env"]}
    argv = [os.fsencode(word) for word in fields["argv"]]
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, programs expect to die of them
        signal.signal(number, signal.SIG_DFL)
    try:
        if program >= 0:
            syscalls.execveat(program, argv, [k + b"=" + v for k, v in env.items()])
        path = _found(fields)
        if path is None:
            raise FileNotFoundError(errno.ENOENT, "no such program")
        os.execve(path, argv, env)  # noqa: S606 — there is no shell
    except OSError as error:
        code = error.errno or errno.EIO
        text = f"fumehood: cannot start {fields['argv'][0]!r}: {os.strerror(code)}\n"
        os.write(2, text.encode(errors="backslashreplace"))
        os.write(told_w, str(code).encode())
    os._exit(_ENDED_BEFORE_RUNNING)
