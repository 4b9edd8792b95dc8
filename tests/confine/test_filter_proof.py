"""The compiled filter against the rules that it was made from, for every number, table and argument.

`verdict` says what the rules mean; `simulate` what the kernel would answer to the very bytes that are loaded.
And in real children: calls by another table end the process, calls of the future answer ENOSYS.
"""

from __future__ import annotations

import itertools
import os
import platform
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pyseccomp
import pytest

from confine.bpf import AARCH64, ALLOW, ENOSYS, EPERM, I386, KILL_PROCESS, NOTIFY, X32_BIT, X86_64, simulate
from fumehood.confine import syscalls
from fumehood.confine.seccomp import (
    Answer,
    FilterSpec,
    Rule,
    allowed_calls,
    compile_filter,
    compile_observer,
    observed_rules,
    rules,
)

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")

SPECS = {
    "a job": FilterSpec(),
    "a job that may make code": FilterSpec(jit=True),
    "one process": FilterSpec(fork=False, exec=False),
    "one program": FilterSpec(fork=False, exec=False, once=True),
    "observed": FilterSpec(exec=False, once=True, observe=True),
    "without namespaces": FilterSpec(attributes=False, pidfd=False),
    "without namespaces, before Landlock bounds signals": FilterSpec(
        attributes=False, pidfd=False, signals=False
    ),
    "a policy worker": FilterSpec(kind="pdp"),
}
ANSWERS = {Answer.ALLOW: ALLOW, Answer.EPERM: EPERM, Answer.ENOSYS: ENOSYS, Answer.NOTIFY: NOTIFY}
NUMBERS = range(600)
#: Of every argument that a rule looks at, besides what the rules name: edges, and single bits.
EDGES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1)


@pytest.fixture(params=SPECS.values(), ids=SPECS)
def spec(request: pytest.FixtureRequest) -> FilterSpec:
    return request.param


def by_number(listed: tuple[Rule, ...]) -> dict[int, list[Rule]]:
    found: dict[int, list[Rule]] = {}
    for rule in listed:
        found.setdefault(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, rule.name), []).append(rule)
    newer = {436: "close_range", 439: "faccessat2", 441: "epoll_pwait2", 452: "fchmodat2"}
    return found | {n: [r for r in listed if r.name == name] for n, name in newer.items() if n not in found}


def verdict(listed: list[Rule], args: tuple[int, ...], *, otherwise: Answer) -> int:
    """What the rules for one call mean; no two of them may contradict each other."""
    answers = {r.answer for r in listed if all(args[m.index] & m.mask == m.value for m in r.where)}
    assert len(answers) <= 1, (listed, args)
    return ANSWERS[answers.pop() if answers else otherwise]


def interesting(listed: list[Rule]) -> Iterator[tuple[int, ...]]:
    """Arguments around everything that the rules compare: each value, and each value with one bit changed."""
    looked_at = sorted({match.index for rule in listed for match in rule.where})
    choices = []
    for index in looked_at:
        matches = [match for rule in listed for match in rule.where if match.index == index]
        values = {m.value for m in matches} | {m.mask for m in matches}
        near = {value ^ (1 << bit) for value in values for bit in (*range(13), 31, 32, 63)}
        choices.append(sorted({*values, *near, *EDGES}))
    few = [c if len(looked_at) == 1 else c[:: max(1, len(c) // 40)] for c in choices]
    for picked in itertools.product(*few):
        args = [0xAAAA] * 6
        for index, value in zip(looked_at, picked, strict=True):
            args[index] = value
        yield tuple(args)


def test_the_answer_to_every_number_is_as_planned(spec: FilterSpec) -> None:
    program, listed = compile_filter(spec), by_number(rules(spec))
    for number in NUMBERS:
        args = (0,) * 6
        expected = verdict(listed.get(number, []), args, otherwise=Answer.ENOSYS)
        assert simulate(program, number, args) == expected, (number, listed.get(number))


def test_the_answer_to_every_argument_is_as_planned(spec: FilterSpec) -> None:
    program, listed = compile_filter(spec), by_number(rules(spec))
    tried = 0
    for number, of_call in listed.items():
        for args in interesting(of_call) if number >= 0 else ():
            assert simulate(program, number, args) == verdict(of_call, args, otherwise=Answer.ENOSYS), (
                of_call[0].name,
                args,
            )
            tried += 1
    assert tried > 500


def test_what_is_held_is_as_planned(spec: FilterSpec) -> None:
    held = observed_rules(spec)
    if not held:
        assert compile_observer(spec) == b""
        return
    program, listed = compile_observer(spec), by_number(held)
    for number in NUMBERS:
        expected = verdict(listed.get(number, []), (0,) * 6, otherwise=Answer.ALLOW)
        assert simulate(program, number) == expected, number


def test_numbers_that_no_kernel_has_yet_answer_enosys(spec: FilterSpec) -> None:
    program = compile_filter(spec)
    for number in (*range(470, 1200), 5000, 65_535, X32_BIT - 1):
        assert simulate(program, number) == ENOSYS, number


def test_every_call_by_the_x32_table_ends_the_process(spec: FilterSpec) -> None:
    program = compile_filter(spec)
    for number in (*range(1100), 0x3FFFFFFE):
        assert simulate(program, X32_BIT + number) == KILL_PROCESS, number


@pytest.mark.parametrize("arch", [I386, AARCH64, 0, X86_64 ^ 1, 0xFFFFFFFF], ids=hex)
def test_every_call_by_another_machines_table_ends_the_process(spec: FilterSpec, arch: int) -> None:
    program = compile_filter(spec)
    for number in (*NUMBERS, X32_BIT, 2**32 - 1):
        assert simulate(program, number, arch=arch) == KILL_PROCESS, number


def test_the_calls_that_are_counted_are_those_that_pass(spec: FilterSpec) -> None:
    """Named once each; what passes for no argument at all is not counted."""
    program, listed = compile_filter(spec), by_number(rules(spec))
    pass_somehow = {
        of_call[0].name
        for number, of_call in listed.items()
        if number >= 0 and any(simulate(program, number, args) == ALLOW for args in interesting(of_call))
    }
    assert set(allowed_calls(spec)) == pass_somehow
    assert list(allowed_calls(spec)) == sorted(pass_somehow)


def test_no_profile_lets_more_than_two_hundred_calls_pass() -> None:
    counts = {name: len(allowed_calls(spec)) for name, spec in SPECS.items()}
    assert max(counts.values()) <= 200, counts
    assert counts["a policy worker"] <= 90 < counts["one process"] < counts["a job"]
    assert set(allowed_calls(SPECS["one process"])) < set(allowed_calls(SPECS["a job"]))


# --- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0x2, 0x22, 0x21, 0x4022, 0x40062])
def test_no_memory_is_writable_and_executable(spec: FilterSpec, flags: int) -> None:
    program, expected = compile_filter(spec), ALLOW if spec.jit else EPERM
    if spec.kind == "pdp":
        expected = ENOSYS
    for bit in range(3, 32):  # every other bit, as PROT_GROWSDOWN, changes nothing
        assert simulate(program, 9, (0, 4096, 6 | 1 << bit, flags)) == expected
    assert simulate(program, 9, (0, 4096, 7, flags)) == expected
    assert simulate(program, 10, (0, 4096, 7)) == expected
    assert simulate(program, 10, (0, 4096, 5)) == expected
    assert simulate(program, 329, (0, 4096, 5, 0)) == ENOSYS
    assert simulate(program, 9, (0, 4096, 3, flags)) == ALLOW


@pytest.mark.parametrize("option", [26, 50, 27, 51, 52, 37])  # filters, in their kinds, and busy polling
def test_no_socket_gets_a_program_of_its_own(spec: FilterSpec, option: int) -> None:
    assert simulate(compile_filter(spec), 54, (3, 1, option)) != ALLOW
    assert simulate(compile_filter(spec), 54, (3, 1 | 1 << 32, option | 1 << 40)) != ALLOW


@pytest.mark.parametrize("clock", [(~1234 << 3) | 2, (~1234 << 3) | 6, (~7 << 3) | 3])
def test_clocks_of_other_processes_and_of_devices_cannot_be_read(spec: FilterSpec, clock: int) -> None:
    for number in (228, 229, 230):
        assert simulate(compile_filter(spec), number, (clock % 2**64,)) == ENOSYS
        assert simulate(compile_filter(spec), number, (clock % 2**32,)) == ENOSYS
        assert simulate(compile_filter(spec), number, (1,)) == ALLOW


# --- real children -----------------------------------------------------------------------------------


def program_of(body: bytes, at: Path) -> Path:
    """A whole program: its machine code behind the least that the kernel starts."""
    base, size = 0x400000, 120 + len(body)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("=HHIQQQIHHHHHH", 2, 62, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    at.write_bytes(head + struct.pack("=IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096) + body)
    at.chmod(0o700)
    return at


EXIT = b"\xb8\xe7\0\0\0\x0f\x05"  # mov eax, 231 (exit_group); syscall
EXIT_WITH_RESULT = b"\x89\xc7\xf7\xdf" + EXIT  # mov edi, eax; neg edi
CALLS = {
    "int 0x80": b"\xb8\x14\0\0\0\xcd\x80" + EXIT_WITH_RESULT,  # mov eax, 20 (getpid)
    "int 0x80, an unknown number": b"\xb8\xff\x0f\0\0\xcd\x80" + EXIT_WITH_RESULT,
    "x32": b"\xb8\x27\0\0\x40\x0f\x05" + EXIT_WITH_RESULT,  # mov eax, 0x40000000 + 39
    "x32, a number of its own": b"\xb8\x00\x02\0\x40\x0f\x05" + EXIT_WITH_RESULT,  # 512
    # push 0x23; lea rax, [rip + 3]; push rax; retfq; then 32-bit code: mov eax, 20; sysenter's other door
    "a 32-bit segment": b"\x6a\x23\x48\x8d\x05\x03\0\0\0\x50\x48\xcb\xb8\x14\0\0\0\xcd\x80\xf4",
}


def status_of(program: Path, spec: FilterSpec) -> int:
    """How it ends under the filter alone, nothing else of a jail around it."""
    pid = os.fork()
    if not pid:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.load_filter(compile_filter(spec))
        os.execv(program, [str(program)])
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("call", CALLS)
def test_a_real_call_by_another_table_ends_the_process(call: str, tmp_path: Path) -> None:
    status = status_of(program_of(CALLS[call], tmp_path / "program"), FilterSpec())
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS


@pytest.mark.parametrize("number", [437, 462, 470, 548, 1000, 0x3FFFFFFF])
def test_a_real_call_of_the_future_answers_enosys(number: int, tmp_path: Path) -> None:
    body = b"\xb8" + struct.pack("=I", number) + b"\x0f\x05" + EXIT_WITH_RESULT
    assert os.WEXITSTATUS(status_of(program_of(body, tmp_path / "program"), FilterSpec())) == 38


def test_without_a_filter_those_programs_are_not_ended(tmp_path: Path) -> None:
    """Else the tests above would show nothing: the first three calls are answered by this kernel."""
    for number, call in enumerate(("int 0x80", "int 0x80, an unknown number", "x32")):
        program = program_of(CALLS[call], tmp_path / str(number))
        pid = os.fork()
        if not pid:
            os.execv(program, [str(program)])
        assert os.WIFEXITED(os.waitpid(pid, 0)[1])
