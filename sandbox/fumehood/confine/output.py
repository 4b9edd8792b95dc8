"""A job's output on its way to the caller: in pieces as it comes, and without control sequences if wanted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fumehood.confine.spec import Spec

NAMES: Final = ("stdout", "stderr")
#: What a terminal acts on (ECMA-48): CSI; OSC, DCS, SOS, PM and APC with their strings; two-byte escapes; and
#: every other control character but tab, line feed and carriage return. In 8-bit form only as UTF-8.
_CONTROL: Final = re.compile(
    rb"(?:\x1b\[|\xc2\x9b)[0-?]*[ -/]*[@-~]"
    rb"|(?:\x1b[PX\]^_]|\xc2[\x90\x98\x9d-\x9f])[^\x07\x1b]*(?:\x07|\x1b\\|\xc2\x9c)"
    rb"|\x1b[ -/]*[0-~]"
    rb"|\xc2[\x80-\x9f]"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
#: The beginning of one that may go on in the next piece.
_BEGUN: Final = re.compile(rb"(?:\x1b|\xc2\x9b|\xc2[\x90\x98\x9d-\x9f])[^\x07\x1b]{0,255}\x1b?$|\xc2$")


class Stripper:
    """Takes control sequences out of a stream that comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> bytes:
        """What can be shown so far. The beginning of a sequence is kept until its end comes."""
        body = self._rest + part
        begun = _BEGUN.search(body)
        cut = begun.start() if begun and not _CONTROL.fullmatch(begun[0]) else len(body)
        self._rest = body[cut:]
        return _CONTROL.sub(b"", body[:cut])

    def end(self) -> bytes:
        """The rest; a sequence without an end loses its first byte, and is text."""
        rest, self._rest = self._rest, b""
        return _CONTROL.sub(b"", rest)


def stripped(body: bytes) -> bytes:
    """*body* without what a terminal would act on."""
    stripper = Stripper()
    return stripper.feed(body) + stripper.end()


class Output:
    """Both streams of one job, as their caller wants them."""

    def __init__(self, spec: Spec) -> None:
        self._tell = spec.on_output
        self._told = [0, 0]
        self._strippers = [Stripper(), Stripper()] if spec.strip_ansi else []

    def take(self, number: int, part: bytes) -> None:
        """The next piece of stream *number*."""
        self._told[number] += len(part)
        self._pass_on(number, self._strippers[number].feed(part) if self._strippers else part)

    def finish(self, streams: Sequence[bytes]) -> tuple[bytes, bytes]:
        """The job has ended: tell what has not been told of the whole *streams*, and answer them."""
        for number, whole in enumerate(streams):
            if self._tell:
                self.take(number, whole[self._told[number] :])
                if self._strippers:
                    self._pass_on(number, self._strippers[number].end())
        stdout, stderr = (stripped(whole) if self._strippers else whole for whole in streams)
        return stdout, stderr

    def _pass_on(self, number: int, part: bytes) -> None:
        if part and self._tell:
            self._tell(NAMES[number], part)
