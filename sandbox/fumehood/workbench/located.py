"""YAML as JSON values, with the line of everything. The only file that knows PyYAML.

Stricter than YAML: the core schema of YAML 1.2 (`no`, `1:30` and dates are texts), one document, no
anchors, aliases or tags, no key twice, and only what JSON has. Built from the parser's events, so that
neither a deep text nor one that doubles itself can hurt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from fumehood.canonical import JSON
from fumehood.errors import Problem

__all__ = ["Located", "Path", "YamlProblem", "read_yaml"]

Path = tuple[str | int, ...]
_MAX_DEPTH = 100
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]{1,400}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_JSON = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_STR_TAG = "tag:yaml.org,2002:str"


class YamlProblem(Exception):
    """The text cannot be read; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@dataclass(frozen=True, slots=True)
class Located:
    """A value, and where each part of it begins: (line, column), 1-based, by its path."""

    file: str
    text: str = field(repr=False)
    value: JSON
    places: Mapping[Path, tuple[int, int]]

    def problem(self, path: Path, message: str, remedy: str = "") -> Problem:
        """A finding about the part at *path*, or about the nearest one around it that is there."""
        while path and path not in self.places:
            path = path[:-1]
        return _problem(self.file, self.text, self.places.get(path, (1, 1)), message, remedy)


def read_yaml(text: str, file: str, *, line: int = 1) -> Located:
    """The YAML document in *text*, whose first line is *line* of *file*.

    Raises:
        YamlProblem: it is not one document of plain JSON values.
    """
    places: dict[Path, tuple[int, int]] = {}
    loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        value = _Reader(file, text, yaml.parse(text, Loader=loader), places, line - 1).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error).split("\n")[0]
        at = (mark.line + line, mark.column + 1) if mark else (line, 1)
        raise YamlProblem(_problem(file, text, at, f"not YAML: {said}", "Correct it here.")) from error
    return Located(file, text, value, places)


def _problem(file: str, text: str, at: tuple[int, int], message: str, remedy: str) -> Problem:
    lines = text.split("\n")
    source = lines[at[0] - 1] if 0 < at[0] <= len(lines) else ""
    return Problem(file, *at, message, remedy, source.replace("\t", " ").rstrip("\r")[:300])


class _Reader:
    """Composes values from events."""

    def __init__(
        self,
        file: str,
        text: str,
        events: Iterator[yaml.Event],
        places: dict[Path, tuple[int, int]],
        shift: int,
    ) -> None:
        self._file, self._text, self._events = file, text, events
        self._places, self._shift = places, shift

    def document(self) -> JSON:
        value: JSON = None
        count = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                count += 1
                if count > 1:
                    raise self._odd(event, "a second document", "Write one document to a file.")
            elif isinstance(event, yaml.NodeEvent):
                value = self._node(event, ())
        return value

    def _node(self, event: yaml.Event, path: Path) -> JSON:
        self._places.setdefault(path, self._at(event))
        if len(path) > _MAX_DEPTH:
            raise self._odd(event, f"nested more than {_MAX_DEPTH} deep", "Write it flatter.")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._odd(event, "an anchor or alias", "Write the value out where it is meant.")
        if event.tag not in (None, "!", _STR_TAG):
            raise self._odd(event, f"the tag {event.tag}", "Leave the tag out.")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: Path) -> JSON:
        found: dict[str, JSON] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None:
                raise self._odd(event, "a key that is not a plain text", "Write a text before the colon.")
            if event.value in found:
                raise self._odd(event, f"the key {event.value!r} for the second time", "Keep one of them.")
            self._places[(*path, event.value)] = self._at(event)
            found[event.value] = self._node(next(self._events), (*path, event.value))
        return found

    def _sequence(self, path: Path) -> JSON:
        found: list[JSON] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.append(self._node(event, (*path, len(found))))
        return found

    def _scalar(self, event: yaml.ScalarEvent) -> JSON:
        text: str = event.value
        if event.tag is not None or not event.implicit[0]:  # quoted, or a block
            return text
        if _NULL.match(text):
            return None
        if _BOOL.match(text):
            return text[0] in "tT"
        if _INT.match(text):
            return int(text)
        if _NOT_JSON.match(text) or (_FLOAT.match(text) and not math.isfinite(float(text))):
            raise self._odd(event, f"{text}, a number that JSON does not have", "Quote it, or leave it out.")
        return float(text) if _FLOAT.match(text) else text

    def _at(self, event: yaml.Event) -> tuple[int, int]:
        return event.start_mark.line + 1 + self._shift, event.start_mark.column + 1

    def _odd(self, event: yaml.Event, what: str, remedy: str) -> YamlProblem:
        return YamlProblem(
            _problem(self._file, self._text, self._at(event), f"{what} is not read here", remedy)
        )
