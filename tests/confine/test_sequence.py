"""System calls that are written down first: the machine code is what it says, and Python does the same."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from host import PARTS
from hypothesis import given, settings
from hypothesis import strategies as st

from fumehood.confine import sequence, syscalls
from fumehood.confine.letter import Letter
from fumehood.confine.sequence import AT_ERROR, NEVER, UNLESS_ZERO, Sequence, Stop
from fumehood.confine.setup import Refused

pytestmark = pytest.mark.skipif(not sequence.may_share_memory(), reason="no machine code for this machine")

_LOADS = (("rax", 0), ("rdi", 8), ("rsi", 16), ("rdx", 24), ("r10", 32), ("r8", 40), ("r9", 48))
TEXTS = {
    "x86_64": f"""
        .intel_syntax noprefix
        endbr64
        push rbx
        push rbp
        push r12
        mov rbx, rdi
        mov rbp, rsi
        mov r12, rdx
    next:
        cmp rbx, rbp
        jae stop
        {"; ".join(f"mov {name}, [rbx+{at}]; mov {name}, [{name}]" for name, at in _LOADS)}
        syscall
        mov rcx, [rbx+56]
        mov [rcx], rax
        xor rax, [rbx+72]
        test rax, [rbx+64]
        jnz stop
        add rbx, 80
        jmp next
    stop:
        cmp rbx, r12
        jb back
        mov eax, 231
        mov edi, 125
        syscall
    back:
        mov rax, rbx
        pop r12
        pop rbp
        pop rbx
        ret
    """,
    "aarch64": f"""
        bti c
        mov x9, x0
        mov x10, x1
        mov x13, x2
    next:
        cmp x9, x10
        b.hs stop
        ldr x8, [x9]
        ldr x8, [x8]
        {"; ".join(f"ldr x{n}, [x9, #{8 + 8 * n}]; ldr x{n}, [x{n}]" for n in range(6))}
        svc #0
        ldr x11, [x9, #56]
        str x0, [x11]
        ldr x11, [x9, #64]
        ldr x12, [x9, #72]
        eor x0, x0, x12
        tst x0, x11
        b.ne stop
        add x9, x9, #80
        b next
    stop:
        cmp x9, x13
        b.lo back
        mov x8, #94
        mov x0, #125
        svc #0
    back:
        mov x0, x9
        ret
    """,
}


def assembler(machine: str) -> list[str]:
    """GNU as for *machine*, or a skip."""
    own = [shutil.which("as")] if os.uname().machine == machine else []
    found = next((path for path in (*own, shutil.which(f"{machine}-linux-gnu-as")) if path), None)
    if found is None:
        pytest.skip(f"there is no assembler for {machine} here (binutils has it)")
    return [found, *(["-march=armv8.5-a"] if machine == "aarch64" else [])]


@pytest.mark.parametrize("machine", sorted(TEXTS))
def test_machine_code_is_what_its_text_says(machine: str, tmp_path: Path) -> None:
    source, made = tmp_path / "text.s", tmp_path / "text.o"
    source.write_text(TEXTS[machine])
    subprocess.run([*assembler(machine), str(source), "-o", str(made)], check=True)
    assert bytes.fromhex(sequence._CODE[machine]) in made.read_bytes()


_OTHER_MACHINE = """
    .text
    .global _start
_start:
    adr x0, entries
    adr x1, end
    mov x2, #-1
    bl walker
    adr x1, entries
    sub x0, x0, x1
    mov x1, #80
    udiv x0, x0, x1
    adr x2, written
    ldr x2, [x2]
    add x0, x0, x2, lsl #4
    mov x8, #94
    svc #0
    .balign 16
walker:
    .byte {code}
    .data
    .balign 8
write:   .quad 64
close:   .quad 57
one:     .quad 1
text:    .quad hello
three:   .quad 3
zero:    .quad 0
none:    .quad -1
result:  .quad 0
written: .quad 0
hello:   .ascii "ok\\n"
    .balign 8
entries:
    .quad write, one, text, three, zero, zero, zero, written, 0x8000000000000000, 0
    .quad close, none, zero, zero, zero, zero, zero, result, 0, 0
    .quad close, none, zero, zero, zero, zero, zero, result, 0x8000000000000000, 0
    .quad write, one, text, three, zero, zero, zero, result, 0, 0
end:
"""


def test_machine_code_for_arm_does_what_it_says(tmp_path: Path) -> None:
    """In an emulator: it writes, passes over what may fail, and stops at what may not."""
    linker, emulator = shutil.which("aarch64-linux-gnu-ld"), shutil.which("qemu-aarch64")
    if linker is None or emulator is None:
        pytest.skip("there is no linker or no emulator for aarch64 here")
    source, made, program = (tmp_path / name for name in ("text.s", "text.o", "program"))
    code = ",".join(map(str, bytes.fromhex(sequence._CODE["aarch64"])))
    source.write_text(_OTHER_MACHINE.replace("{code}", code).replace("\\\\n", "\\n"))
    subprocess.run([*assembler("aarch64"), str(source), "-o", str(made)], check=True)
    subprocess.run([linker, str(made), "-o", str(program)], check=True)
    done = subprocess.run([emulator, str(program)], capture_output=True, check=False)
    assert (done.stdout, done.returncode) == (b"ok\n", 2 + (3 << 4))


def in_both(build: Any) -> list[tuple[int, list[int]]]:
    """Where each of the two stops, and every result, for what *build* writes down."""
    found = []
    for walk in (sequence._code(), sequence._walk):
        calls = Sequence()
        results = build(calls)
        assert walk is not None
        place = walk(calls.place(0), calls.place(len(calls.steps)), -1)
        found.append(((place - calls.place(0)) // 80, [result.value for result in results]))
    return found


CALLS = st.sampled_from(
    [
        ("getpid",),
        ("close", 987_654),
        ("prctl", 3, 0, 0, 0, 0),
        ("openat", syscalls.AT_FDCWD, "/nowhere/at/all", os.O_RDONLY, 0),
        ("openat", syscalls.AT_FDCWD, b"/\xff", os.O_PATH, 0),
        ("dup3", 1, 1, 0),
        ("mkdirat", syscalls.AT_FDCWD, "/", 0o777),
    ]
)
STOPS = st.sampled_from([AT_ERROR, UNLESS_ZERO, NEVER, Stop(-1, -9), Stop(-1, -22), Stop(0xFF, 0)])


@given(st.lists(st.tuples(CALLS, STOPS), max_size=12))
@settings(deadline=None, max_examples=150)
def test_python_stops_where_the_machine_code_does(steps: list[tuple[tuple[Any, ...], Stop]]) -> None:
    def build(calls: Sequence) -> list[Any]:
        return [calls.add("test", name, *args, stop=stop) for (name, *args), stop in steps]

    machine, python = in_both(build)
    assert machine == python


def test_a_result_is_the_argument_of_a_later_call() -> None:
    def build(calls: Sequence) -> list[Any]:
        mode = os.O_RDONLY | os.O_CLOEXEC
        opened = calls.add("test", "openat", syscalls.AT_FDCWD, "/dev/null", mode, 0)
        return [calls.add("test", "close", opened), calls.add("test", "close", opened, stop=NEVER)]

    assert in_both(build) == [(3, [0, -9]), (3, [0, -9])]


def test_a_call_that_fails_is_named_with_its_layer() -> None:
    calls = Sequence()
    calls.add("first", "close", 987_654, stop=NEVER)
    calls.add("rootfs", "openat", syscalls.AT_FDCWD, "/nowhere", os.O_RDONLY, 0)
    with pytest.raises(Refused, match="openat: No such file") as refused:
        calls.run()
    assert (refused.value.layer, refused.value.errno) == ("rootfs", 2)


def test_a_letter_brings_text_and_descriptors() -> None:
    ours, theirs = os.pipe()
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    calls = Sequence()
    out, into = Letter(calls, body=b"hello", descriptors=1), Letter(calls, size=64, descriptors=3)
    ctypes.c_int.from_address(out.descriptor(0).address).value = theirs
    out.send(calls, left.fileno())
    read = into.reader(into.receive(calls, right.fileno()))
    for _ in range(2):
        into.make_ready()
        calls.run()
        body, (fd,) = read()
        os.write(fd, body)
        os.close(fd)
    assert os.read(ours, 100) == b"hellohello"
    out = Letter(calls, body=b"x" * 65, descriptors=0)
    first = len(calls.steps)
    out.send(calls, left.fileno())
    read = into.reader(into.receive(calls, right.fileno()))
    into.make_ready()
    calls.run(first)
    with pytest.raises(ValueError, match="cut"):
        read()
    for fd in (ours, theirs, left.detach(), right.detach()):
        os.close(fd)


def test_memory_is_never_writable_and_executable() -> None:
    address = syscalls.executable(b"\xc3" * 16)
    (mode,) = [
        line.split()[1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if int(line.split("-")[0], 16) <= address < int(line.split()[0].split("-")[1], 16)
    ]
    assert mode.startswith("r-x")


_HARDENED = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0):
    sys.exit(77)  # before Linux 6.3
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
if libc.mmap(None, 4096, 7, 0x22, -1, 0) != ctypes.c_void_p(-1).value:
    sys.exit("the host lets memory be written and executed")
from fumehood import confine
from fumehood.confine import procs, sequence
from fumehood.confine.api import _CLIENT
from pathlib import Path
assert not sequence.may_share_memory()
def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""  # it has ended since it was listed
def beside_the_supervisor():
    return [pid for pid in procs.children(_CLIENT._spawner.pid) if "anchor" in name_of(pid)]
for tier in ("full", "no-userns"):
    if tier == "full" and sys.argv[1] == "without":
        continue
    one = confine.python("print(6 * 7)", tier=tier)
    assert one.stdout == b"42\\n" and one.exit.code == 0, one
    folder = sys.argv[2]
    argv = ["/bin/sh", "-c", "echo here > file; cat file"]
    two = confine.run(argv, profile="shell", tier=tier, workdir=folder)
    assert two.stdout == b"here\\n", two
    three = confine.run(["no-such-program"], profile="shell", tier=tier, workdir=folder)
    assert three.exit.kind == "not_started" and b"No such file" in three.stderr, three
    before = beside_the_supervisor()
    confine.run(argv, profile="shell", tier=tier, workdir=folder)
    assert before == beside_the_supervisor(), "a job has ended its template"
print("done")
"""


def test_where_no_new_memory_may_be_executed_python_does_the_same(as_ordinary_user: Any) -> None:
    """As under systemd's MemoryDenyWriteExecute."""
    folder = f"/tmp/fumehood-test-{os.getpid()}"
    script = f"import os; os.makedirs({folder!r}, exist_ok=True)\n" + _HARDENED
    has_userns = "with" if PARTS["userns"]() else "without"
    try:
        done = as_ordinary_user(script, has_userns, folder)
        if done.returncode == 77:
            pytest.skip("this kernel cannot deny executable memory")
        assert done.stdout == "done\n", (done.stdout, done.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_process_that_is_alone_ends_where_it_stops() -> None:
    code = (
        "from fumehood.confine.sequence import Sequence\n"
        "calls = Sequence(); calls.add('test', 'getpid'); calls.add('test', 'close', -1)\n"
        "calls.run(alone=0)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 125
