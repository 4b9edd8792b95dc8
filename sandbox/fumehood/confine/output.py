"""A job's output on its way to the caller: in pieces as it comes, and without control sequences if wanted.

What a terminal acts on is in ECMA-48: sequences that begin with CSI; strings that begin with OSC, DCS, SOS,
PM or APC; escapes of two or three bytes; and every other control character but tab, line feed and carriage
return. In 8-bit form they count as UTF-8, and as lone bytes that are part of no character.

A sequence has an end within a few bytes, or it is none: its beginning is dropped, and what follows is text.
So little is ever held back, and a stray byte hides nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fumehood.confine.spec import Spec

NAMES: Final = ("stdout", "stderr")
_MOST_STRING_BYTES: Final = 4096
#: Whole characters that no terminal acts on, as RFC 3629 has them.
_CHARACTER: Final = (
    rb"\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|\xf4[\x80-\x8f][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}"
)
#: The beginning of a character at the end of what there is.
_CUT: Final = (
    rb"(?:[\xc2-\xdf]|\xe0[\xa0-\xbf]?|\xed[\x80-\x9f]?|[\xe1-\xec\xee\xef][\x80-\xbf]?"
    rb"|\xf0(?:[\x90-\xbf][\x80-\xbf]?)?|\xf4(?:[\x80-\x8f][\x80-\xbf]?)?|[\xf1-\xf3][\x80-\xbf]{0,2})\Z"
)
#: What follows a repetition is never part of it, and no string holds what may begin another: time is linear.
_CSI: Final = rb"(?:\x1b\[|\xc2\x9b)[0-?]{0,256}[ -/]{0,16}"
_STRING: Final = (
    rb"(?:\x1b[PX\]^_]|\xc2[\x90\x98\x9d-\x9f])"
    rb"(?:[^\x07\x18\x1a\x1b\xc2]|\xc2(?![\x80-\x9f])){0,%d}" % _MOST_STRING_BYTES
)
_ESCAPE: Final = rb"\x1b[ -/]{0,16}"
_COMPLETE: Final = rb"%b[@-~]|%b(?:\x07|\x1b\\|\xc2\x9c)" % (_CSI, _STRING)
_BEGUN: Final = rb"(?P<begun>(?:%b|%b|\xc2|(?P<string>%b)[\x1b\xc2]?)\Z|%b)" % (_CSI, _ESCAPE, _STRING, _CUT)
#: What a string cannot hold.
_ENDING: Final = re.compile(rb"[\x07\x18\x1a\x1b]|\xc2[\x80-\x9f]")
_SHORT: Final = rb"%b[0-~]|\xc2[\x80-\x9f]|[\x00-\x1f\x7f-\x9f]" % _ESCAPE


def _pattern(*, is_whole: bool) -> re.Pattern[bytes]:
    odd = rb"(?!\xc2[\x80-\x9f])[\xa0-\xff]" if is_whole else rb"(?!\xc2[\x80-\x9f]|%b)[\xa0-\xff]" % _CUT
    text = rb"(?P<text>[\t\n\r -~]+|%b|%b)" % (_CHARACTER, odd)
    return re.compile(b"|".join([text, _COMPLETE, *([] if is_whole else [_BEGUN]), _SHORT]))


_WHOLE: Final = _pattern(is_whole=True)
_PART: Final = _pattern(is_whole=False)


class Stripper:
    """Takes control sequences out of a stream that comes in pieces; how it is cut makes no difference."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_string = False  # that of which the rest is the beginning

    def feed(self, part: bytes) -> bytes:
        """What can be shown so far. The beginning of a sequence, 4 KiB at most, is kept until more comes."""
        body = self._rest + part
        if self._is_string and len(body) <= _MOST_STRING_BYTES and not _ENDING.search(self._rest[-1:] + part):
            self._rest = body
            return b""
        self._rest, self._is_string = b"", False
        return _PART.sub(self._shown, body)

    def end(self) -> bytes:
        """The rest; a sequence without an end loses its beginning, and is text."""
        rest, self._rest = self._rest, b""
        return stripped(rest)

    def _shown(self, found: re.Match[bytes]) -> bytes:
        self._rest, self._is_string = found["begun"] or b"", found["string"] is not None
        return found["text"] or b""


def stripped(body: bytes) -> bytes:
    """*body* without what a terminal would act on."""
    return _WHOLE.sub(lambda found: found["text"] or b"", body)


class Output:
    """Both streams of one job, as their caller wants them."""

    def __init__(self, spec: Spec) -> None:
        self._is_told = spec.on_output is not None
        self._told = [0, 0]
        self._strippers = [Stripper(), Stripper()] if spec.strip_ansi else []

    def take(self, number: int, part: bytes) -> bytes:
        """What is to be told of *part*, the next piece of stream *number*."""
        self._told[number] += len(part)
        return self._strippers[number].feed(part) if self._strippers else part

    def rest(self, streams: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """The job has ended: what is still to be told of the whole *streams*."""
        if not self._is_told:
            return
        for number, whole in enumerate(streams):
            yield number, self.take(number, whole[self._told[number] :])
            if self._strippers:
                yield number, self._strippers[number].end()

    def whole(self, stream: bytes) -> bytes:
        """All of a stream, for the outcome."""
        return stripped(stream) if self._strippers else stream
