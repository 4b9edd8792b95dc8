"""System calls written down first and made later, one after the other, with nothing of Python's in between.

A process that was just forked shares its memory with its parent. Every object that the interpreter then
touches has its reference count written, and the page around it copied: hundreds of pages, more than a
millisecond, for what takes a job's process into its jail. The template that forks it pays again for each page
that it writes next. So the template writes the calls down once, and both only make them: arguments and
results are in a few pages of the sequence itself.

A process that will only become a program need not have memory of its own: it makes its calls in the
template's, which waits (vfork). It must not return from them, and ends itself where it stops.

The calls are made by some hundred bytes of machine code, the same for every sequence: `_CODE` has them, and
what they say. Where they cannot be had (another machine, a host that allows no new executable memory),
`_walk` does the same in Python; tests hold both equal. A step is ten words in memory, eight of them
addresses:

    number, six arguments, where the result goes; then a mask and a value: a result that differs from the
    value in a bit of the mask ends the sequence there
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from fumehood.confine import syscalls
from fumehood.confine.setup import ENDED_BEFORE_RUNNING, Refused


class Stop(NamedTuple):
    """When a step ends its sequence: if its result differs from `value` in a bit of `mask`."""

    mask: int
    value: int = 0


AT_ERROR: Final = Stop(-(1 << 63))
UNLESS_ZERO: Final = Stop(-1)
NEVER: Final = Stop(0)

_WORDS: Final = 10
_WORD_BYTES: Final = 8
_STEP_BYTES: Final = _WORDS * _WORD_BYTES
_RESULT: Final = 7
_CHUNK_BYTES: Final = 16_384
_LAST_ERROR: Final = -4095

#: The text is what a test assembles, where there is an assembler, and compares.
_CODE: Final = {
    # endbr64; push rbx; push rbp; push r12; mov rbx, rdi; mov rbp, rsi; mov r12, rdx
    # next: cmp rbx, rbp; jae stop
    #       mov rax, [rbx]; mov rax, [rax]; likewise rdi, rsi, rdx, r10, r8, r9 from [rbx+8] to [rbx+48]
    #       syscall; mov rcx, [rbx+56]; mov [rcx], rax
    #       xor rax, [rbx+72]; test rax, [rbx+64]; jnz stop; add rbx, 80; jmp next
    # stop: cmp rbx, r12; jb back; mov eax, 231; mov edi, 125; syscall
    # back: mov rax, rbx; pop r12; pop rbp; pop rbx; ret
    "x86_64": "f30f1efa535541544889fb4889f54989d44839eb7349488b03488b00488b7b08488b3f488b7310488b36488b5318"
    "488b124c8b53204d8b124c8b43284d8b004c8b4b304d8b090f05488b4b38488901483343484885434075064883c350eb"
    "b24c39e3720cb8e7000000bf7d0000000f054889d8415c5d5bc3",
    # bti c; mov x9, x0; mov x10, x1; mov x13, x2
    # next: cmp x9, x10; b.hs stop
    #       ldr x8, [x9]; ldr x8, [x8]; likewise x0 to x5 from [x9, #8] to [x9, #48]
    #       svc #0; ldr x11, [x9, #56]; str x0, [x11]
    #       ldr x11, [x9, #64]; ldr x12, [x9, #72]; eor x0, x0, x12; tst x0, x11; b.ne stop
    #       add x9, x9, #80; b next
    # stop: cmp x9, x13; b.lo back; mov x8, #94; mov x0, #125; svc #0
    # back: mov x0, x9; ret
    "aarch64": "5f2403d5e90300aaea0301aaed0302aa3f010aeb22030054280140f9080140f9200540f9000040f9210940f9"
    "210040f9220d40f9420040f9231140f9630040f9241540f9840040f9251940f9a50040f9010000d42b1d40f9600100f9"
    "2b2140f92c2540f900000cca1f000bea6100005429410191e7ffff17"
    "3f010deb83000054c80b80d2a00f80d2010000d4e00309aac0035fd6",
}


class Cell(NamedTuple):
    """A word in memory that a sequence's calls read and write."""

    address: int

    @property
    def value(self) -> int:
        """What it holds."""
        return _word(self.address)

    @property
    def descriptor(self) -> int:
        """The descriptor that its first four bytes hold."""
        return ctypes.c_int.from_address(self.address).value

    def writer(self) -> Callable[[int], None]:
        """`set`, with everything bound that it needs."""
        return partial(
            memoryview((ctypes.c_char * 8).from_address(self.address)).cast("B").cast("q").__setitem__, 0
        )

    def reader(self) -> Callable[[], int]:
        """`value`, with everything bound that it needs."""
        return partial(
            memoryview((ctypes.c_char * 8).from_address(self.address)).cast("B").cast("q").__getitem__, 0
        )

    def set(self, value: int) -> None:
        """From now on it holds *value*."""
        ctypes.c_long.from_address(self.address).value = value


#: What a call is given: a number, the address of text, what a cell holds by then, or nothing.
Argument = int | str | bytes | Cell | None


class Step(NamedTuple):
    """What a step is called when it fails."""

    layer: str
    name: str


class Sequence:
    """Calls to be made, in order. Memory that they use is this object's, and stays where it is."""

    def __init__(self) -> None:
        self._words = array.array("q")
        self._chunks: list[ctypes.Array[ctypes.c_char]] = []
        self._free = self._end = 0
        self._constants: dict[int, int] = {}
        self.steps: list[Step] = []

    def buffer(self, body: bytes) -> int:
        """The address of memory of this sequence that begins with *body*."""
        size = -len(body) % _WORD_BYTES + len(body)
        if self._free + size > self._end:
            self._chunks.append(ctypes.create_string_buffer(max(size, _CHUNK_BYTES)))
            self._free = ctypes.addressof(self._chunks[-1])
            self._end = self._free + len(self._chunks[-1])
        address, self._free = self._free, self._free + size
        ctypes.memmove(address, body, len(body))
        return address

    def cell(self, value: int = 0) -> Cell:
        """A word of memory."""
        return Cell(self.buffer(struct.pack("=q", value)))

    def add(
        self, layer: str, name: str, *args: Argument, into: Cell | None = None, stop: Stop = AT_ERROR
    ) -> Cell:
        """Write down one call, which belongs to *layer*. Answers the cell of its result.

        Text and bytes are passed as their address, with a NUL behind.
        """
        addresses = [self._address(arg) for arg in (syscalls.number(name), *args)]
        addresses += [self._address(0)] * (_RESULT - len(addresses))
        result = into or self.cell()
        self._words.extend([*addresses, result.address, *stop])
        self.steps.append(Step(layer, name))
        return result

    def _address(self, arg: Argument) -> int:
        if isinstance(arg, Cell):
            return arg.address
        if isinstance(arg, (str, bytes)):
            arg = self.buffer(os.fsencode(arg) + b"\0")
        value = arg or 0
        if value not in self._constants:
            self._constants[value] = self.cell(value).address
        return self._constants[value]

    def run(self, first: int = 0, last: int | None = None, *, alone: int | None = None) -> int:
        """Make the calls from *first* on, up to *last*. Answers the step that ended it, or *last*.

        From the step *alone* on nobody returns: who stops there ends, with status 125.

        Raises:
            Refused: a call failed that was not to fail.
        """
        return self.step(self.prepared(first, last, alone=alone)())

    def prepared(
        self, first: int = 0, last: int | None = None, *, alone: int | None = None
    ) -> Callable[[], int]:
        """As `run`, to be called many times. Answers where it ended, which `step` understands."""
        until = self.place(len(self.steps) if last is None else last)
        return partial(_code() or _walk, self.place(first), until, -1 if alone is None else self.place(alone))

    def copy(self, other: Sequence, first: int, last: int) -> None:
        """Write down the same steps as *other*, which has to stay: its memory is used."""
        self._words.extend(other._words[first * _WORDS : last * _WORDS])
        self.steps += other.steps[first:last]

    def failure(self, first: int) -> Refused | None:
        """Why a process that shares this memory, and began with step *first*, could not go on."""
        for number in range(first, len(self.steps)):
            words = self._words[number * _WORDS : (number + 1) * _WORDS]
            result = _word(words[_RESULT])
            if (result ^ words[-1]) & words[-2] and _LAST_ERROR <= result < 0:
                Cell(words[_RESULT]).set(words[-1])  # others have the same step
                return self._refusal(number, -result)
        return None

    def _refusal(self, number: int, code: int) -> Refused:
        layer, name = self.steps[number]
        return Refused(layer, str(OSError(code, f"{name}: {os.strerror(code)}")), code)

    def place(self, number: int) -> int:
        """Where the step *number* is. No step may be added any more."""
        address, _ = self._words.buffer_info()
        return address + number * _STEP_BYTES

    def step(self, place: int) -> int:
        """The number of the step at *place*, where a run ended.

        Raises:
            Refused: by that, since it failed.
        """
        number = (place - self.place(0)) // _STEP_BYTES
        if number < len(self.steps):
            result = _word(_word(place + _RESULT * _WORD_BYTES))
            if result < 0:
                raise self._refusal(number, -result)
        return number


def _word(address: int) -> int:
    return ctypes.c_long.from_address(address).value


def may_share_memory() -> bool:
    """True if a process can make its calls in its parent's memory: it never comes back to Python.

    Asked before the first fork, all that are forked have one answer.
    """
    return _code() is not None


def _walk(first: int, end: int, alone: int) -> int:
    """What the machine code does, in Python."""
    libc = syscalls.locked_libc()
    while first < end:
        words = [_word(first + number * _WORD_BYTES) for number in range(_WORDS)]
        result = libc.syscall(*(ctypes.c_long(_word(address)) for address in words[:_RESULT]))
        if result == -1:
            result = -ctypes.get_errno()
        ctypes.c_long.from_address(words[_RESULT]).value = result
        if (result ^ words[-1]) & words[-2]:
            break
        first += _STEP_BYTES
    if 0 <= alone <= first:
        os._exit(ENDED_BEFORE_RUNNING)
    return first


_made: list[Callable[[int, int, int], int] | None] = []


def _code() -> Callable[[int, int, int], int] | None:
    """The machine code as a function, made once in a process and its children; None where there is none."""
    if not _made:
        _made.append(None)
        with contextlib.suppress(OSError):
            _made[0] = _loaded(bytes.fromhex(_CODE.get(os.uname().machine, "")))
    return _made[0]


def _loaded(code: bytes) -> Any:
    """*code* in memory of its own, which can be written no more when it can be executed."""
    if not code:
        return None
    address = syscalls.executable(code)
    # holds the interpreter's lock: a call may be one that returns twice
    return ctypes.PYFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 3)(address)
