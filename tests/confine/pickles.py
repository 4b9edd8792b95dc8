"""Facts about pickles: opcode, module, callable and kind of argument make a `Row`, and a row its pickle.

See `pickle_rows`. A payload is harmless: it makes the canary (a file), or connects to the test's server.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Aim:
    """Where the payloads point: a file that is not there yet, and a port of this machine."""

    canary: str
    port: int

    @property
    def shell(self) -> str:
        return f"touch {self.canary}"

    @property
    def code(self) -> str:
        """An expression, and so a statement too."""
        return f"open({self.canary!r}, 'w').close()"


Deed = Literal["program", "write", "connect"]
Arguments = Callable[[Aim], tuple[object, ...]]


@dataclass(frozen=True)
class Row:
    """One pickle: what it is called, whose it is, what it does when nobody stops it, and how it is made."""

    name: str
    origin: str
    deed: Deed
    make: Callable[[Aim], bytes]
    needs: str = ""  # a module, or module:name, that not every installation has


# --- opcodes -----------------------------------------------------------------------------------------


def value(item: object) -> bytes:
    """The opcodes that push *item*."""
    return pickle.dumps(item, 3)[2:-1]


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word.encode())]) + word.encode()


def name(module: str, attribute: str) -> bytes:
    """STACK_GLOBAL."""
    return text(module) + text(attribute) + b"\x93"


def old_name(module: str, attribute: str) -> bytes:
    """GLOBAL, whose words are lines."""
    return f"c{module}\n{attribute}\n".encode()


def reduce(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def call(module: str, attribute: str, *arguments: object) -> bytes:
    return reduce(name(module, attribute), *map(value, arguments))


def inst(module: str, attribute: str, *arguments: bytes) -> bytes:
    return b"(" + b"".join(arguments) + f"i{module}\n{attribute}\n".encode()


def obj(maker: bytes, *arguments: bytes) -> bytes:
    return b"(" + maker + b"".join(arguments) + b"o"


def newobj(maker: bytes) -> bytes:
    return maker + b")\x81"


def build(target: bytes, state: bytes) -> bytes:
    return target + state + b"b"


def line(word: str) -> bytes:
    """UNICODE."""
    return b"V" + word.encode("raw_unicode_escape") + b"\n"


def string(word: str) -> bytes:
    """STRING."""
    return b"S" + repr(word).encode() + b"\n"


def whole(body: bytes, *, protocol: int = 4) -> bytes:
    return (b"\x80" + bytes([protocol]) if protocol else b"") + body + b"."


def calls(module: str, attribute: str, arguments: Arguments) -> Callable[[Aim], bytes]:
    """The plainest form: STACK_GLOBAL, a tuple, REDUCE."""
    return lambda aim: whole(call(module, attribute, *arguments(aim)))
