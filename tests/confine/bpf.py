"""A simulator of classic BPF over one `struct seccomp_data`: a filter is checked over every call."""

from __future__ import annotations

import struct
from functools import lru_cache

ALLOW, EPERM, ENOSYS, KILL_PROCESS, NOTIFY = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000, 0x7FC00000
X86_64 = 0xC000003E
I386 = 0x40000003
AARCH64 = 0xC00000B7
X32_BIT = 0x40000000


@lru_cache(maxsize=32)
def _decoded(program: bytes) -> tuple[tuple[int, int, int, int], ...]:
    return tuple(struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8))


def simulate(program: bytes, number: int, args: tuple[int, ...] = (), *, arch: int = X86_64) -> int:
    """What the kernel would answer."""
    words = (*args, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=iIQ6Q", number if number < 2**31 else number - 2**32, arch, 0, *words)
    code = _decoded(program)
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        if operation == 0x20:  # ld [k]
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif operation == 0x54:  # and #k
            accumulator &= k
        elif operation == 0x05:  # ja k
            at += k
        elif operation in (0x15, 0x25, 0x35, 0x45):  # jeq, jgt, jge, jset
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[operation]
            at += if_true if holds else if_false
        elif operation == 0x06:  # ret #k
            return int(k)
        else:
            raise AssertionError(f"an instruction the simulator does not know: {operation:#x}")
