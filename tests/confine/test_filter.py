"""The filter as data and as the BPF that the kernel would run, over every number."""

from __future__ import annotations

import platform

import pyseccomp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confine.bpf import ALLOW, ENOSYS, EPERM, I386, KILL_PROCESS, NOTIFY, X32_BIT, simulate
from fumehood.confine.seccomp import (
    EXEC_ONCE_FD,
    OBSERVED,
    Answer,
    FilterSpec,
    Rule,
    compile_filter,
    compile_observer,
    compile_rules,
    observed_numbers,
    rules,
)
from fumehood.errors import ConfinementError

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")

JOB = FilterSpec()
STRICT = FilterSpec(fork=False, exec=False, once=True)
WITHOUT_NAMESPACES = FilterSpec(attributes=False, pidfd=False)
WITHOUT_SCOPES = FilterSpec(attributes=False, pidfd=False, signals=False)
OBSERVING = FilterSpec(exec=False, once=True, observe=True)
PDP = FilterSpec(kind="pdp")
EVERY = (JOB, STRICT, WITHOUT_NAMESPACES, WITHOUT_SCOPES, OBSERVING, PDP)

WAYS_OUT = """
ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd mount umount2 pivot_root chroot open_tree
move_mount fsopen fsconfig fsmount fspick mount_setattr unshare setns name_to_handle_at open_by_handle_at bpf
perf_event_open userfaultfd keyctl add_key request_key io_uring_setup io_uring_enter io_uring_register seccomp
memfd_create init_module finit_module kexec_load reboot setuid setreuid setfsuid setgroups mknod bind listen
accept shmget semget msgget mq_open personality
""".split()


def number(name: str) -> int:
    found = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    assert found >= 0, name
    return int(found)


def answer(spec: FilterSpec, name: str, *args: int) -> int:
    return simulate(compile_filter(spec), number(name), args)


@pytest.mark.parametrize("spec", EVERY)
def test_every_call_that_is_not_listed_is_refused(spec: FilterSpec) -> None:
    listed = {number(r.name): r.answer for r in rules(spec) if _exists(r.name)}
    program = compile_filter(spec)
    for n in range(1100):
        if n not in listed:
            assert simulate(program, n) == ENOSYS, n


@pytest.mark.parametrize("spec", EVERY)
def test_simulated_answers_are_those_of_the_rules(spec: FilterSpec) -> None:
    expected = {Answer.ALLOW: ALLOW, Answer.EPERM: EPERM, Answer.ENOSYS: ENOSYS}
    program = compile_filter(spec)
    for rule in rules(spec):
        if _exists(rule.name):
            args = [0] * 6
            for match in rule.where:
                args[match.index] = match.value
            assert simulate(program, number(rule.name), tuple(args)) == expected[rule.answer], rule


@pytest.mark.parametrize("spec", EVERY)
@pytest.mark.parametrize("name", WAYS_OUT)
def test_no_filter_lets_a_way_out_pass(spec: FilterSpec, name: str) -> None:
    assert answer(spec, name) == EPERM


@pytest.mark.parametrize("spec", EVERY)
def test_calls_through_another_table_kill_the_process(spec: FilterSpec) -> None:
    program = compile_filter(spec)
    assert simulate(program, number("read") | X32_BIT) == KILL_PROCESS
    assert simulate(program, number("read"), arch=I386) == KILL_PROCESS
    assert simulate(program, 3, arch=0) == KILL_PROCESS


@pytest.mark.parametrize("spec", EVERY)
def test_clone3_answers_enosys_so_that_flags_can_be_seen(spec: FilterSpec) -> None:
    assert answer(spec, "clone3") == ENOSYS


@given(flag=st.sampled_from([0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]))
def test_clone_never_makes_a_namespace(flag: int) -> None:
    for spec in (JOB, STRICT, OBSERVING):
        assert answer(spec, "clone", flag | 0x11) != ALLOW
        assert answer(spec, "clone", flag | 0x10000) != ALLOW


def test_no_job_makes_children_of_the_supervisor() -> None:
    """CLONE_PARENT: a child of the job's parent would be counted by nobody, and collected by nobody."""
    for spec in (JOB, STRICT, OBSERVING):
        for flags in (0x8000, 0x8011, 0x1208011, 0x18000):
            assert answer(spec, "clone", flags) != ALLOW


def test_threads_pass_and_processes_only_where_the_profile_has_them() -> None:
    thread, process = 0x3D0F00, 0x1200011
    assert answer(JOB, "clone", thread) == answer(JOB, "clone", process) == ALLOW
    assert answer(STRICT, "clone", thread) == ALLOW
    assert answer(STRICT, "clone", process) != ALLOW
    assert answer(STRICT, "fork") == answer(STRICT, "vfork") == EPERM
    assert answer(PDP, "clone", thread) != ALLOW


@given(upper=st.integers(min_value=0, max_value=2**32 - 1))
def test_the_upper_half_of_an_argument_changes_nothing(upper: int) -> None:
    """The kernel takes these arguments as 32 bits: a comparison of 64 could be walked around."""
    high = upper << 32
    assert answer(JOB, "ioctl", 0, 0x5412 | high) != ALLOW  # TIOCSTI
    assert answer(JOB, "ioctl", 0, 0x541C | high) != ALLOW  # TIOCLINUX
    assert answer(JOB, "ioctl", 0, 0x5401 | high) == ALLOW
    assert answer(JOB, "prctl", 22 | high) != ALLOW  # PR_SET_SECCOMP
    assert answer(JOB, "socketpair", 1 | high, 2 | high) != ALLOW


@pytest.mark.parametrize("spec", [JOB, STRICT, WITHOUT_NAMESPACES, PDP])
@given(family=st.integers(min_value=0, max_value=50))
def test_no_socket_of_any_family(spec: FilterSpec, family: int) -> None:
    assert answer(spec, "socket", family, 1) == EPERM
    assert answer(spec, "connect", 3) == EPERM


def test_socketpair_is_a_stream_of_this_host_only() -> None:
    assert answer(JOB, "socketpair", 1, 1 | 0o2000000) == ALLOW
    assert answer(JOB, "socketpair", 1, 2) != ALLOW  # a datagram one can be pointed elsewhere
    assert answer(JOB, "socketpair", 1, 5) != ALLOW
    assert answer(JOB, "socketpair", 2, 1) != ALLOW


@pytest.mark.parametrize("bits", [0o4000, 0o2000, 0o6755])
def test_no_file_gets_a_set_id_bit(bits: int) -> None:
    for name, at in (
        ("open", 2),
        ("openat", 3),
        ("creat", 1),
        ("chmod", 1),
        ("fchmod", 1),
        ("fchmodat", 2),
        ("mkdir", 1),
    ):
        args = [0] * 6
        args[at] = bits
        assert answer(JOB, name, *args) != ALLOW, name
        args[at] = 0o755
        assert answer(JOB, name, *args) == ALLOW, name


def test_without_exec_only_the_opened_program_starts() -> None:
    assert answer(STRICT, "execve") == EPERM
    assert answer(STRICT, "execveat", EXEC_ONCE_FD, 0, 0, 0, 0x1000) == ALLOW
    assert answer(STRICT, "execveat", EXEC_ONCE_FD, 0, 0, 0, 0) != ALLOW
    assert answer(STRICT, "execveat", 5, 0, 0, 0, 0x1000) != ALLOW
    assert answer(FilterSpec(exec=False), "execveat", EXEC_ONCE_FD, 0, 0, 0, 0x1000) == EPERM
    assert simulate(compile_observer(STRICT), number("execveat")) == NOTIFY
    assert answer(JOB, "execve") == ALLOW


def test_observed_calls_reach_the_supervisor_and_not_a_refusal_before_it() -> None:
    """The strictest answer of several filters wins: EPERM below would hide the attempt."""
    held = compile_observer(OBSERVING)
    for n, _ in observed_numbers():
        assert simulate(held, n) == NOTIFY
    assert answer(OBSERVING, "execve") == ALLOW
    assert answer(OBSERVING, "socket", 2, 1) == ALLOW
    assert answer(OBSERVING, "socket", 16, 3) != ALLOW  # netlink
    assert simulate(held, number("read")) == ALLOW
    assert set(OBSERVED) >= {"open", "openat", "execve", "socket", "connect", "unlink"}


@pytest.mark.parametrize("name", ["chmod", "fchmod", "chown", "utimensat", "setxattr"])
def test_without_namespaces_what_landlock_does_not_cover_is_refused(name: str) -> None:
    assert answer(WITHOUT_NAMESPACES, name) == EPERM
    assert answer(JOB, name) == ALLOW


def test_without_scopes_nobody_is_signalled() -> None:
    assert answer(WITHOUT_SCOPES, "kill", 1, 9) == answer(WITHOUT_SCOPES, "tgkill") == EPERM
    assert answer(WITHOUT_NAMESPACES, "kill", 1, 0) == ALLOW  # Landlock bounds it there


@pytest.mark.parametrize("name", ["setresuid", "setresgid"])
def test_only_the_effective_id_may_be_set_where_programs_are_started(name: str) -> None:
    same = 2**32 - 1
    assert answer(JOB, name, same, 1000, same) == answer(JOB, name, 2**64 - 1, 0, 2**64 - 1) == ALLOW
    for args in ((0, same, same), (same, same, 0), (0, 0, 0)):
        assert answer(JOB, name, *args) != ALLOW
    for spec in (STRICT, OBSERVING, PDP):
        assert answer(spec, name, same, 1000, same) == EPERM


def test_limits_of_other_processes_are_out_of_reach() -> None:
    assert answer(JOB, "prlimit64", 0, 7) == ALLOW
    assert answer(JOB, "prlimit64", 4242, 7) != ALLOW


def test_a_policy_worker_opens_starts_and_maps_nothing_new() -> None:
    for name in ("open", "openat", "openat2", "execve", "execveat", "fork", "socket", "connect", "kill"):
        assert answer(PDP, name) == EPERM
    assert answer(PDP, "mmap", 0, 4096, 3) == ALLOW
    assert answer(PDP, "mmap", 0, 4096, 7) != ALLOW
    assert answer(PDP, "mprotect", 0, 4096, 4) != ALLOW
    assert answer(PDP, "prlimit64", 0, 9, 0) == ALLOW
    assert answer(PDP, "prlimit64", 0, 9, 1 << 40) != ALLOW  # setting, with a pointer above 32 bits
    for name in ("read", "write", "recvmsg", "sendmsg", "futex", "clock_gettime", "exit_group", "getrandom"):
        assert answer(PDP, name) == ALLOW


def test_a_misspelt_call_is_an_error_not_a_hole() -> None:
    with pytest.raises(ConfinementError, match="opne"):
        compile_rules((Rule("opne", Answer.EPERM),), default=Answer.ALLOW)


def test_a_filter_is_compiled_once() -> None:
    assert compile_filter(FilterSpec()) is compile_filter(FilterSpec())


def _exists(name: str) -> bool:
    return bool(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0)
