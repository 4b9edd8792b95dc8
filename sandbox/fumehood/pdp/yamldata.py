"""Data documents in YAML, read only where every reader of YAML agrees.

YAML 1.1, 1.2 and Go's reader (OPA's) disagree about `yes`, `on`, `y`, `017`, `1_000`, `12:30`, `2001-01-01`:
a bool to one, a text or a number to another, even as a key. Such a word has to be quoted, or written as JSON
has it. No anchors, tags, second documents or keys that stand twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar, cast

import yaml

from fumehood.canonical import JSON, MAX_DEPTH

__all__ = ["YamlError", "read_yaml"]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,300})(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?\Z")
_INT = re.compile(r"-?[0-9]+\Z")
_WORDS = re.compile(r"(?:y|n|yes|no|on|off|true|false|null|=|<<)\Z", re.IGNORECASE)
_CLEAR = {"true": True, "false": False, "null": None, "~": None, "": None}
_LIKE_A_NUMBER = re.compile(
    r"""[-+]?(?: 0x[0-9a-f_]+ | 0o?[0-7_]+ | 0b[01_]+
        | [0-9][0-9_]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)? | \.[0-9_]+(?:e[-+]?[0-9]+)?
        | [0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)? | \.inf | \.nan )\Z
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}""",
    re.IGNORECASE | re.VERBOSE,
)
_SHOWN = 40
_T = TypeVar("_T", bound=yaml.Event)


class YamlError(ValueError):
    """What is wrong, where (1-based), and what to write."""

    def __init__(self, message: str, mark: yaml.Mark | None, remedy: str) -> None:
        self.line: int = mark.line + 1 if mark else 1
        self.column: int = mark.column + 1 if mark else 1
        self.remedy = remedy
        super().__init__(message)


def read_yaml(text: str) -> JSON:
    """The document in *text*; a number is an int or a float.

    Raises:
        YamlError: it is not one document that means the same to everybody.
    """
    try:
        return _Reader(text).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise YamlError(f"not valid YAML: {getattr(error, 'problem', error)}", mark, "Correct it.") from error


class _Reader:
    """Builds the value from the parser's events: nothing in it doubles itself, and nothing is constructed."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))

    def document(self) -> JSON:
        self._take(yaml.StreamStartEvent)
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        found = self._value(next(self._events), 0)
        self._take(yaml.DocumentEndEvent)
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise YamlError("a second document begins", event.start_mark, "Write one document to a file.")
        return found

    def _take(self, kind: type[_T]) -> _T:
        event = next(self._events)
        if not isinstance(event, kind):
            raise YamlError("not what was expected here", event.start_mark, "Correct it.")
        return event

    def _value(self, event: yaml.Event, depth: int) -> JSON:
        mark = event.start_mark
        if depth > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", mark, "Flatten it.")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlError("an anchor or alias", mark, "Write the value out where it is needed.")
        if getattr(event, "tag", None):
            raise YamlError(f"the tag {event.tag}", mark, "Write a plain value.")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return list(self._items(yaml.SequenceEndEvent, depth))
        return self._mapping(depth)

    def _items(self, end: type[yaml.Event], depth: int) -> Iterator[JSON]:
        while not isinstance(event := next(self._events), end):
            yield self._value(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str, JSON]:
        found: dict[str, JSON] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            if not isinstance(key, str):
                raise YamlError("a key that is not a text", event.start_mark, "Quote it.")
            if key in found:
                raise YamlError(f"the key {key!r} stands twice", event.start_mark, "Keep one of them.")
            found[key] = self._value(next(self._events), depth + 1)
        return found


def _scalar(event: yaml.ScalarEvent) -> JSON:
    text = event.value
    if event.style is not None:  # quoted, or a block
        return cast("str", text)
    if text in _CLEAR:
        return _CLEAR[text]
    if _NUMBER.match(text):
        return int(text) if _INT.match(text) else float(text)
    if _WORDS.match(text) or _LIKE_A_NUMBER.match(text):
        short = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        remedy = f'Quote it if it is a text: "{short}". If not, write true, false, null or a JSON number.'
        what = f"`{short}` is one thing to some readers of YAML and another to others"
        raise YamlError(what, event.start_mark, remedy)
    return cast("str", text)
