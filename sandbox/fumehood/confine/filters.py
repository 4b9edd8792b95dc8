"""The system-call filter as data: which calls a confined process may make, and with what arguments.

A filter is an allow-list. `rules(spec)` is pure and can be printed and simulated; `seccomp` compiles it.

What is not listed answers ENOSYS: programs then use what they used before a newer call existed, and calls
that the kernel gains later are denied by number. Known ways out answer EPERM. A call through another
architecture's table (x32, int 0x80) kills the process.

Source: seccomp(2); the deny-lists of docker and flatpak; CVE-2017-5226 (TIOCSTI), CVE-2023-1523 (TIOCLINUX).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from fumehood.confine import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The number under which a program's own executable is open for the one exec that `once` allows. It lies
#: above the hard limit on open files, so that nothing inside can ever put another file there.
EXEC_ONCE_FD: Final = syscalls.EXEC_ONCE_FD
FAREWELL: Final = syscalls.FAREWELL

_ALL32: Final = 0xFFFFFFFF
_ALL64: Final = 0xFFFFFFFFFFFFFFFF
_SUID_BITS: Final = 0o6000


class Answer(Enum):
    """What the kernel does when a rule matches."""

    ALLOW = "allow"
    EPERM = "EPERM"
    ENOSYS = "ENOSYS"
    NOTIFY = "notify"


@dataclass(frozen=True, slots=True)
class Match:
    """One argument, compared under a mask; 32-bit by default, as the kernel drops the upper half."""

    index: int
    value: int
    mask: int = _ALL32


@dataclass(frozen=True, slots=True)
class Rule:
    """An answer for one call, if every listed argument matches."""

    name: str
    answer: Answer
    where: tuple[Match, ...] = ()


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """What distinguishes one filter from another. Hashable: it is the key under which a program is kept."""

    kind: str = "job"  # or "pdp", which has no other choice
    fork: bool = True
    exec: bool = True  # may start programs
    once: bool = False  # without `exec`: the program itself is started, once; the supervisor counts
    observe: bool = False  # a second filter holds attempts for the supervisor, which refuses exec and sockets
    attributes: bool = True  # chmod, chown, utime, xattr: Landlock does not cover them
    signals: bool = True  # kill: only where a namespace or Landlock bounds whom it reaches
    pidfd: bool = True
    jit: bool = False  # may make machine code at run time: map what is writable and executable


def _words(text: str) -> list[str]:
    return text.split()


# Reading, writing and waiting on what is already open; memory; time; the thread's own state.
_BASE: Final = _words("""
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 close lseek fstat
poll ppoll select pselect6 epoll_wait epoll_pwait epoll_pwait2
recvfrom recvmsg sendto sendmsg
getsockopt getsockname getpeername shutdown
munmap mremap brk madvise msync
futex set_robust_list rseq sched_yield
nanosleep gettimeofday time times getitimer setitimer alarm
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack
restart_syscall pause
getpid gettid getppid getuid geteuid getgid getegid getgroups getresuid getresgid
getpgrp getpgid getsid getrusage sched_getaffinity getcpu sysinfo uname getrandom exit exit_group
""")

# What an ordinary program does besides: files, children of its own, pipes, timers, threads.
_PROGRAM: Final = _words("""
open openat stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat
getdents getdents64
getcwd chdir fchdir rename renameat renameat2 link linkat unlink unlinkat symlink symlinkat rmdir
truncate ftruncate fallocate fsync fdatasync sync_file_range fadvise64 copy_file_range
sendfile statfs fstatfs flock umask
dup dup2 dup3 pipe pipe2 epoll_create epoll_create1 epoll_ctl eventfd eventfd2
timerfd_create timerfd_settime timerfd_gettime
set_tid_address
wait4 waitid setsid setpgid
sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
getrlimit close_range
getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
""")

_ATTRIBUTES: Final = _words("""
chown lchown fchown fchownat utime utimes futimesat utimensat setxattr lsetxattr fsetxattr
removexattr lremovexattr fremovexattr
""")
_SIGNALS: Final = _words("kill tkill tgkill")
_PIDFD: Final = _words("pidfd_open pidfd_send_signal")

# Ways out, or into the kernel, that are answered EPERM so that programs say something sensible.
_REFUSED: Final = _words("""
ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
unshare setns name_to_handle_at open_by_handle_at bpf perf_event_open userfaultfd
keyctl add_key request_key io_uring_setup io_uring_enter io_uring_register seccomp
memfd_create memfd_secret vmsplice init_module finit_module delete_module kexec_load kexec_file_load reboot
swapon swapoff acct quotactl quotactl_fd settimeofday clock_settime clock_adjtime adjtimex
sethostname setdomainname
syslog vhangup iopl ioperm modify_ldt lookup_dcookie fanotify_init fanotify_mark
setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset
mknod mknodat socket connect bind listen accept accept4
shmget shmat shmctl shmdt semget semop semtimedop semctl
msgget msgsnd msgrcv msgctl mq_open mq_unlink
landlock_create_ruleset landlock_add_rule landlock_restrict_self personality nfsservctl
sched_setscheduler sched_setparam sched_setattr setpriority ioprio_set mbind set_mempolicy
migrate_pages move_pages rt_sigqueueinfo rt_tgsigqueueinfo
inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
mincore mlock mlock2 mlockall munlock munlockall syncfs splice tee ioprio_get capget get_robust_list
""")

_IOCTLS: Final = (0x5401, 0x5413, 0x540F, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, sizes, FIONREAD, FIO*
_FICLONE: Final = 0x40049409
_FCNTLS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)  # DUPFD, flags, locks, …
_PRCTLS: Final = (
    2,
    3,
    15,
    16,
    21,
    23,
    27,
    30,
    38,
    39,
    0x53564D41,
)  # names, reads, no_new_privs, VMA names
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE = 1, 1, 0xF
_AF_INET, _AF_INET6 = 2, 10
#: SOL_SOCKET: reuse, buffers, keep-alive, linger, credentials, time-outs. Never a filter of its own.
_SOCKET_OPTIONS: Final = (2, 7, 8, 9, 13, 16, 20, 21)
_SOL_SOCKET, _IPPROTO_TCP, _TCP_NODELAY = 1, 6, 1
#: The thread's own pointer, and what the processor can do.
_ARCH_PRCTLS: Final = (0x1002, 0x1003, 0x1021, 0x1022, 0x1023, 0x3001)
#: A clock below this is the host's or one's own; above are those of other processes, and devices.
_NOT_OWN_CLOCK: Final = 1 << 31
_PROT_WRITE, _PROT_EXEC = 2, 4
_AT_EMPTY_PATH: Final = syscalls.AT_EMPTY_PATH
#: Calls that the supervisor holds, records and lets the kernel answer (or refuses, for exec and sockets).
OBSERVED: Final = _words("""
open openat creat execve execveat socket connect unlink unlinkat rename renameat renameat2
mkdir mkdirat symlink symlinkat link linkat truncate
""")


def _allow(names: Iterable[str]) -> tuple[Rule, ...]:
    return tuple(Rule(name, Answer.ALLOW) for name in names)


def _allow_values(name: str, index: int, values: Iterable[int]) -> tuple[Rule, ...]:
    return tuple(Rule(name, Answer.ALLOW, (Match(index, value),)) for value in values)


def _clones(spec: FilterSpec) -> tuple[Rule, ...]:
    """Threads always, processes if the profile has them, namespaces never, and no child of another's: that of
    the job's process would be the supervisor's, which would not know it. clone3 hides its flags: ENOSYS."""
    never = syscalls.CLONE_NEW_ANY | syscalls.CLONE_PARENT
    thread = syscalls.CLONE_THREAD
    if spec.fork:
        return (
            *_allow(["fork", "vfork"]),
            Rule("clone", Answer.ALLOW, (Match(0, 0, never),)),
            Rule("clone3", Answer.ENOSYS),
        )
    threads = Rule("clone", Answer.ALLOW, (Match(0, thread, never | thread),))
    processes = Rule("clone", Answer.EPERM, (Match(0, 0, thread),))
    return (
        threads,
        processes,
        Rule("clone3", Answer.ENOSYS),
        Rule("fork", Answer.EPERM),
        Rule("vfork", Answer.EPERM),
    )


def _execs(spec: FilterSpec) -> tuple[Rule, ...]:
    """Without `exec`, only the file under EXEC_ONCE_FD; observed, the supervisor refuses execve.

    An absolute path makes the kernel ignore that number, and a filter cannot see the path: so the
    supervisor holds this call, and lets it pass once, before anything of the caller's has run.
    """
    if spec.exec:
        return _allow(["execve", "execveat"])
    once = Rule("execveat", Answer.ALLOW, (Match(0, EXEC_ONCE_FD), Match(4, _AT_EMPTY_PATH)))
    program = once if spec.once else Rule("execveat", Answer.EPERM)
    return Rule("execve", Answer.ALLOW if spec.observe else Answer.EPERM), program


def _modes(attributes: bool) -> tuple[Rule, ...]:
    """Calls that take a file mode: never with a set-id bit, which would outlive the confinement."""
    made = {"creat": 1, "mkdir": 1, "mkdirat": 2}
    changed = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2} if attributes else {}
    return tuple(
        Rule(name, Answer.ALLOW, (Match(at, 0, _SUID_BITS),)) for name, at in {**made, **changed}.items()
    )


def _opens() -> tuple[Rule, ...]:
    return tuple(
        Rule(name, Answer.ALLOW, (Match(at, 0, _SUID_BITS),)) for name, at in (("open", 2), ("openat", 3))
    )


def _sockets(spec: FilterSpec) -> tuple[Rule, ...]:
    stream = (Match(0, _AF_UNIX), Match(1, _SOCK_STREAM, _SOCK_TYPE))
    pair = Rule("socketpair", Answer.ALLOW, stream)
    if not spec.observe:
        return (pair,)
    families = _allow_values("socket", 0, (_AF_INET, _AF_INET6))
    return pair, *families, Rule("connect", Answer.ALLOW)


def _socket_options() -> tuple[Rule, ...]:
    """Few: an option may install a program in the kernel (SO_ATTACH_FILTER) or reach a protocol's depths."""
    level = Match(1, _SOL_SOCKET)
    usual = tuple(Rule("setsockopt", Answer.ALLOW, (level, Match(2, option))) for option in _SOCKET_OPTIONS)
    return *usual, Rule("setsockopt", Answer.ALLOW, (Match(1, _IPPROTO_TCP), Match(2, _TCP_NODELAY)))


def _memory(spec: FilterSpec) -> tuple[Rule, ...]:
    """Write or execute, not both, and nothing that was written becomes executable (but see `jit`).

    A library is mapped for execution as it is loaded, which stays: what lies in a file may be executed,
    unless its mount says otherwise.
    """
    if spec.jit:
        return _allow(["mmap", "mprotect"])
    both = _PROT_WRITE | _PROT_EXEC
    return (
        *(Rule("mmap", Answer.ALLOW, (Match(2, value, both),)) for value in (0, _PROT_WRITE, _PROT_EXEC)),
        Rule("mmap", Answer.EPERM, (Match(2, both, both),)),
        Rule("mprotect", Answer.ALLOW, (Match(2, 0, _PROT_EXEC),)),
        Rule("mprotect", Answer.EPERM, (Match(2, _PROT_EXEC, _PROT_EXEC),)),
    )


def _identities(spec: FilterSpec) -> tuple[Rule, ...]:
    """`seteuid` to what it is already: what POSIX_SPAWN_RESETIDS does, with which make starts programs.

    There is no capability and no other id to come back to: the kernel refuses every other one.
    """
    as_it_is = (Match(0, _ALL32), Match(2, _ALL32))
    names = ("setresuid", "setresgid") if spec.fork and spec.exec else ()
    return tuple(Rule(name, Answer.ALLOW, as_it_is) for name in names)


def _clocks() -> tuple[Rule, ...]:
    names = ("clock_gettime", "clock_getres", "clock_nanosleep")
    return tuple(Rule(name, Answer.ALLOW, (Match(0, 0, _NOT_OWN_CLOCK),)) for name in names)


def _job_rules(spec: FilterSpec) -> tuple[Rule, ...]:
    listed = _BASE + [n for n in _PROGRAM if n not in ("open", "openat")]
    listed += _ATTRIBUTES if spec.attributes else []
    listed += (_SIGNALS if spec.signals else []) + (_PIDFD if spec.pidfd else [])
    allowed = (
        *_allow(listed),
        *_opens(),
        *_modes(spec.attributes),
        *_clones(spec),
        *_execs(spec),
        *_sockets(spec),
        *_socket_options(),
        *_memory(spec),
        *_clocks(),
        *_identities(spec),
        *_allow_values("arch_prctl", 0, _ARCH_PRCTLS),
        Rule("getpriority", Answer.ALLOW, (Match(1, 0),)),
        *_allow_values("ioctl", 1, (*_IOCTLS, _FICLONE)),
        *_allow_values("fcntl", 1, _FCNTLS),
        *_allow_values("prctl", 0, _PRCTLS),
        Rule("prlimit64", Answer.ALLOW, (Match(0, 0),)),
        Rule("sched_setaffinity", Answer.ALLOW, (Match(0, 0),)),
        Rule("setrlimit", Answer.ALLOW),
    )
    refused = _refused(spec, have={rule.name for rule in allowed})
    return (*allowed, *refused)


def _refused(spec: FilterSpec, *, have: set[str]) -> tuple[Rule, ...]:
    more = [] if spec.attributes else [*_ATTRIBUTES, "chmod", "fchmod", "fchmodat", "fchmodat2"]
    more += ([] if spec.signals else _SIGNALS) + ([] if spec.pidfd else _PIDFD)
    return tuple(Rule(name, Answer.EPERM) for name in [*_REFUSED, *more] if name not in have)


def _pdp_rules() -> tuple[Rule, ...]:
    """A policy worker after loading: what is open stays usable, nothing new can be reached."""
    no_exec = (Match(2, 0, _PROT_EXEC),)
    allowed = (
        *_allow(_BASE),
        *_clocks(),
        Rule("mmap", Answer.ALLOW, no_exec),
        Rule("mprotect", Answer.ALLOW, no_exec),
        *_allow_values("fcntl", 1, (1, 2, 3, 4)),
        *_allow_values("ioctl", 1, (0x541B, 0x5421)),  # FIONREAD, FIONBIO
        Rule("prlimit64", Answer.ALLOW, (Match(0, 0), Match(2, 0, _ALL64))),  # reading only
    )
    have = {rule.name for rule in allowed}
    more = ["open", "openat", "openat2", "execve", "execveat", "clone", "fork", "vfork", *_SIGNALS]
    refused = tuple(Rule(name, Answer.EPERM) for name in [*_REFUSED, *more] if name not in have)
    return (*allowed, Rule("clone3", Answer.ENOSYS), *refused)


def rules(spec: FilterSpec) -> tuple[Rule, ...]:
    """The whole allow-list of *spec*; a call that matches no rule answers ENOSYS."""
    return _pdp_rules() if spec.kind == "pdp" else _job_rules(spec)


def farewell_rules() -> tuple[Rule, ...]:
    """A second filter: everything passes but the call with which code of ours ends a job's source."""
    return (Rule("exit_group", Answer.NOTIFY, (Match(1, FAREWELL, _ALL64),)),)


def observed_rules(spec: FilterSpec) -> tuple[Rule, ...]:
    """The second filter: everything passes but the calls that the supervisor holds. Empty without any."""
    attempts = [name for name in OBSERVED if name != "execveat"] if spec.observe else []
    return tuple(Rule(name, Answer.NOTIFY) for name in (*attempts, *(["execveat"] * spec.once)))
