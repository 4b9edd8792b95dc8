"""What makes a jail of one clone of a template, written down as one sequence of system calls.

The template runs it. At `clone` there are two: the template stops there, and the job's process goes on to its
last layer without running a line of Python (see `sequence`). What is left, and the job, are in `inside`.

    template   enters the namespaces that the job will have to itself, makes its private folders, and writes
               down what Landlock will leave
    clone
    job        takes a /proc and a user namespace of its own, gives up what it has of the template, puts on
               limits, drops every capability, sees that its supervisor is still there
    program    (one that may start a single program opens that here, before the number of files is limited)
               the last limits, Landlock, the filters; it says so to the supervisor
    end        the template goes on here
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import struct
from collections.abc import Callable, Container
from typing import Final, NamedTuple

from fumehood.confine import landlock, procs, program, rootfs, syscalls, wire
from fumehood.confine.letter import Ends, Letter
from fumehood.confine.plan import INSIDE_ID, Plan
from fumehood.confine.program import Start
from fumehood.confine.sequence import NEVER, UNLESS_ZERO, Cell, Sequence, Stop, may_share_memory
from fumehood.confine.setup import Refused, World, bounded, layer

_SHARED: Final = syscalls.CLONE_PARENT | syscalls.CLONE_VM | syscalls.CLONE_VFORK | signal.SIGCHLD
_OF_ITS_OWN: Final = syscalls.CLONE_PARENT | syscalls.CLONE_PIDFD | signal.SIGCHLD
_LAST_LAYERS: Final = ("rlimits", "capabilities", "no-new-privs", "landlock")
_LAST_LIMITS: Final = ("NOFILE", "FSIZE")
_SET_FILTER: Final = syscalls.SECCOMP_SET_MODE_FILTER
_IF_NOTHING_THERE: Final = Stop(-1, -errno.EAGAIN)


class Part(NamedTuple):
    """Steps of a sequence."""

    calls: Sequence
    first: int
    last: int


class Making:
    """The steps that make a jail of one plan, added to *calls*.

    *joins*: the template enters the namespaces of the idle first process, and adds private folders.
    *is_clone*: there are two already, and this is the job's process.
    *like* has made a jail from the same template already: what they have in common is copied from it.
    With *start* the process goes on to that program, in the template's memory.
    """

    def __init__(
        self,
        calls: Sequence,
        world: World,
        plan: Plan,
        ends: Ends,
        *,
        joins: bool = False,
        is_clone: bool = False,
        like: Making | None = None,
        start: Start | None = None,
    ) -> None:
        self._calls, self._world, self._plan, self._ends = calls, world, plan, ends
        self._pid = calls.cell(0 if is_clone else -1)
        self._rules: Cell = like._rules if like else calls.cell()
        if joins:
            calls.add("pid-ns", "setns", ends.init, sum(kind for _, kind in world.own))
            rootfs.add_private(calls, plan)
        self._write_down_rules()
        self.clone = len(calls.steps)
        flags, where = (_SHARED, 0) if start else (_OF_ITS_OWN, ends.pidfd.address)
        if not is_clone:
            calls.add("processes", "clone", flags, 0, where, 0, 0, into=self._pid, stop=UNLESS_ZERO)
        if start:
            self._make_known()
        done = like._parts if like else (None, None)
        first = self._again(done[0], self._leave_the_template, self._isolate, self._give_up)
        calls.add("rootfs", "chdir", plan.workdir)
        self._program = len(calls.steps)
        if start and self.opens_program:
            program.open_alone(calls, start)
        last = self._again(done[1], self._put_on_last_layers)
        if start:
            program.start(calls, ends, start, workdir=plan.workdir, is_alone=self.opens_program)
        self._parts: tuple[Part, Part] = first, last
        self.end = len(calls.steps)
        calls.add("landlock", "close", self._rules)  # from here on it is the template again

    def _again(self, done: Part | None, *write: Callable[[], None]) -> Part:
        """The steps that *write* adds; those of another jail where it has *done* it."""
        first = len(self._calls.steps)
        if done:
            self._calls.copy(*done)
            return done
        for part in write:
            part()
        return Part(self._calls, first, len(self._calls.steps))

    @property
    def opens_program(self) -> bool:
        """True for a job that is one program, and may start no other: `finish` does the rest."""
        return not self._world.setup.is_source and not self._plan.exec

    @property
    def last(self) -> int:
        """Where the job's process has to arrive: there it is confined, or has its program to open."""
        return self._program if self.opens_program else self.end

    @property
    def is_clone(self) -> bool:
        """True in the job's process."""
        return not self._pid.value

    def result(self) -> Callable[[], int]:
        """What tells how the last clone went: less than 0 if there is none."""
        return self._pid.reader()

    def run(self) -> int:
        """Make the process. Answers the step at which this one of the two has stopped."""
        return self._calls.run(0, self.last)

    def return_home(self) -> None:
        """In the template, when there are two: let go of what was for the other."""
        self._calls.run(self.end)

    def finish(self) -> None:
        """In the job's process, which has opened its program: the last layers."""
        self._calls.run(self._program, self.end)

    def start(self) -> Refused | None:
        """For a job that is started: make its process, and wait until that is the program, or has ended.

        Answers why it could not be.
        """
        if not may_share_memory():
            raise Refused("processes", "a process cannot be made in its parent's memory here")
        self._calls.run(0, self.end, alone=self.clone + 1)
        return self._calls.failure(self.clone + 1)

    def _write_down_rules(self) -> None:
        """What the job may see, change and execute, as a ruleset of Landlock."""
        plan, setup = self._plan, self._world.setup
        with layer("landlock"):
            version = landlock.abi()
            if not version:
                raise OSError("this kernel has no Landlock, or it is not enabled")
            see = landlock.READ | (landlock.EXECUTE if plan.exec or not setup.is_source else 0)
            change = see | landlock.write_rights(version)
            if plan.tier == "full":
                shown = [("/", see), *((path, change) for path in plan.folders)]
            else:
                shown = [(bind.path, see) for bind in plan.binds if not bind.writable]
            shown += [(bind.path, change) for bind in plan.binds if bind.writable]
            shown += [(path, landlock.READ_FILE | landlock.WRITE_FILE) for path in plan.devices]
            folders = {path for path, _ in shown if path in plan.folders or _is_folder(path)}
        landlock.write_down(self._calls, shown, version=version, folders=folders, into=self._rules)

    def _make_known(self) -> None:
        """It says itself who it is: the template waits for it, and has no handle of it."""
        calls = self._calls
        number = calls.add("supervisor", "getpid")
        calls.add("supervisor", "pidfd_open", number, 0, into=self._ends.pidfd)
        self._ends.made.send(calls, self._ends.channel)

    def _leave_the_template(self) -> None:
        self._calls.add("supervisor", "close", self._ends.request)
        for number, action in self._world.handlers:
            self._calls.add("supervisor", "rt_sigaction", number, action, None, 8)

    def _isolate(self) -> None:
        """A /proc and a user namespace of its own, where the template has some."""
        calls, world = self._calls, self._world
        if not world.own:
            return
        if world.has_proc:
            rootfs.own_proc(calls)
        calls.add("user-ns", "unshare", syscalls.CLONE_NEWUSER)
        text = f"{INSIDE_ID} {INSIDE_ID} 1".encode()
        for name in ("uid_map", "gid_map"):
            mode = os.O_WRONLY | os.O_CLOEXEC
            file = calls.add("user-ns", "openat", world.host_proc, f"self/{name}", mode, 0)
            calls.add("user-ns", "write", file, text, len(text))
            calls.add("user-ns", "close", file)

    def _give_up(self) -> None:
        """Handles of the template, limits, every capability."""
        calls, plan = self._calls, self._plan
        for fd in (self._world.host_proc, *(fd for fd, _ in self._world.own)):
            calls.add("supervisor", "close", fd)
        self._limit([name for name, _ in plan.rlimits if name not in _LAST_LIMITS])
        if plan.tier == "full":
            self._drop_bounding_set()
        header = struct.pack("=Ii", syscalls.CAPABILITY_VERSION, 0)
        calls.add("capabilities", "capset", header, bytes(24))
        calls.add("no-new-privs", "prctl", syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if plan.tier != "full":  # what it orphans stays below it, and is counted and killed with it
            calls.add("supervisor", "prctl", syscalls.PR_SET_CHILD_SUBREAPER, 1)
        calls.add("supervisor", "prctl", syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        look = socket.MSG_PEEK | socket.MSG_DONTWAIT
        # is the supervisor there? Before this, its end would have been no signal
        calls.add("supervisor", "recvfrom", self._ends.channel, bytes(8), 8, look, stop=_IF_NOTHING_THERE)
        calls.add("supervisor", "prctl", syscalls.PR_SET_DUMPABLE, 1)

    def _limit(self, names: Container[str]) -> None:
        """RLIMIT_*name* for those of *names* that the plan has."""
        with layer("rlimits"):
            more = 1 if self._plan.tier == "full" else procs.count_of_user(os.getuid())
            wanted = [
                (name, value + more if name == "NPROC" else value)
                for name, value in self._plan.rlimits
                if name in names
            ]
            limits = [limit for name, value in wanted if (limit := bounded(name, value))]
        for kind, pair in limits:
            body = struct.pack("=QQ", *(number % 2**64 for number in pair))
            self._calls.add("rlimits", "prlimit64", 0, kind, body, None)

    def _drop_bounding_set(self) -> None:
        calls = self._calls
        calls.add("capabilities", "prctl", syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
        with layer("capabilities"):
            count = syscalls.count_of_capabilities()
        for number in range(count):
            calls.add("capabilities", "prctl", syscalls.PR_CAPBSET_DROP, number)
        calls.add("capabilities", "prctl", syscalls.PR_SET_SECUREBITS, syscalls.SECURE_ALL_LOCKED)

    def _put_on_last_layers(self) -> None:
        """What would be in the way before: the number of open files, Landlock, the filters.

        The observer first: the main filter forbids seccomp(2). Its listener leaves before a job comes."""
        calls, setup = self._calls, self._world.setup
        self._limit(_LAST_LIMITS)
        calls.add("landlock", "landlock_restrict_self", self._rules, 0)
        calls.add("landlock", "close", self._rules)
        active = [*self._world.active, *_LAST_LAYERS, *(["observe"] * self._plan.observe), "seccomp"]
        letter = Letter(calls, body=wire.encode({"active": active}), descriptors=int(bool(setup.observer)))
        listener = letter.descriptor(0)
        if setup.observer:
            flag = syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER
            calls.add(
                "observe", "seccomp", _SET_FILTER, flag, self._program_of(setup.observer), into=listener
            )
        if setup.farewell:
            self._let_its_end_be_heard()
        calls.add("seccomp", "seccomp", _SET_FILTER, 0, self._program_of(setup.program))
        letter.send(calls, self._ends.channel)
        if setup.observer:
            calls.add("supervisor", "close", listener)

    def _let_its_end_be_heard(self) -> None:
        """No layer: where the kernel is too old for it, or a sandbox around us has a listener of its own, the
        end of the process is what the supervisor hears."""
        calls = self._calls
        flags = syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER | syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        letter = Letter(calls, body=wire.encode({"farewell": True}), descriptors=1)
        listener, code = letter.descriptor(0), self._program_of(self._world.setup.farewell)
        calls.add("supervisor", "seccomp", _SET_FILTER, flags, code, into=listener, stop=NEVER)
        letter.send(calls, self._ends.channel, stop=NEVER)
        calls.add("supervisor", "close", listener, stop=NEVER)

    def _program_of(self, code: bytes) -> int:
        """The address of a BPF program as the kernel takes it."""
        return self._calls.buffer(struct.pack("=H6xQ", len(code) // 8, self._calls.buffer(code)))


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 — no path objects in here
