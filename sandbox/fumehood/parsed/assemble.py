"""Computes the parsed forms of a call's arguments: those that a loaded rule reads, each once.

What has no form is said to be unparseable, with why: `context.normalised.unparseable`. A kind that is
not there at all was not asked for. Texts are bounded in number and, for the parsers, in length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from fumehood.canonical import JSON, escape, leaves
from fumehood.model import PARSED_KINDS, PARSED_PLACES
from fumehood.parsed.files import file_of
from fumehood.parsed.shell import shell_of
from fumehood.parsed.simple import path_of, words_of
from fumehood.parsed.sql import sql_of
from fumehood.parsed.urls import url_of
from fumehood.parsed.why import why_no_path, why_no_url, why_no_words
from fumehood.parsed.words import Unparseable

__all__ = ["Reads", "missing_parsers", "parsed_arguments"]

Reads = Mapping[str, frozenset[str] | None]

_MAX_TEXTS = 256  # of one kind; those beyond it are unparseable
_MAX_PARSER_TEXTS = 16  # the same for the parsers
_MAX_PARSER_CHARS = 32_768  # of all their texts together
_MODULES = {"shell": ("tree_sitter", "tree_sitter_bash"), "sql": ("sqlglot",)}
_NOT_INSTALLED = "its parser is not installed: pip install 'fumehood[parsers]'"


@dataclass(frozen=True, slots=True)
class _Where:
    """What a text is read against."""

    cwd: str | None
    dialect: str | None


def parsed_arguments(
    args: JSON, reads: Reads, *, cwd: str | None = None, sql_dialect: str | None = None
) -> JSON:
    """`context.normalised`: `{paths, urls, argv, files, shell, sql, unparseable}`, by kind and pointer.

    Only the kinds of *reads* are there, and of each only the pointers that it names (None: all texts).
    *cwd* is the folder that relative paths are taken from, an absolute path. `file` looks at this host.
    """
    where = _Where(cwd, sql_dialect)
    found: dict[str, JSON] = {}
    unparseable: dict[str, JSON] = {}
    texts: list[tuple[str, str]] | None = None
    for kind in PARSED_KINDS:
        if kind not in reads:
            continue
        if texts is None:
            texts = [(at, value) for at, value in leaves(args) if isinstance(value, str)]
        wanted = reads[kind]
        chosen = texts if wanted is None else [(at, text) for at, text in texts if at in wanted]
        values, refused = _all(kind, chosen, where)
        if kind == "argv":
            _add_vectors(values, refused, args, "", wanted)
        found[PARSED_PLACES[kind]] = values
        if refused:
            unparseable[kind] = refused
    if unparseable:
        found["unparseable"] = unparseable
    return found


def missing_parsers(reads: Reads) -> tuple[str, ...]:
    """The kinds of *reads* whose parser is not installed: they would always be unparseable."""
    return tuple(
        kind for kind, modules in _MODULES.items() if kind in reads and not all(map(find_spec, modules))
    )


def _all(kind: str, texts: list[tuple[str, str]], where: _Where) -> tuple[dict[str, JSON], dict[str, JSON]]:
    values: dict[str, JSON] = {}
    refused: dict[str, JSON] = {}
    limit = _MAX_PARSER_TEXTS if kind in _MODULES else _MAX_TEXTS
    left = _MAX_PARSER_CHARS
    for pointer, text in texts[:limit]:
        left -= len(text) if kind in _MODULES else 0
        try:
            if left < 0:
                raise Unparseable("the texts are too long together")
            values[pointer] = _READERS[kind](text, where)
        except Unparseable as why:
            refused[pointer] = str(why)
        except ImportError:
            refused[pointer] = _NOT_INSTALLED
    for pointer, _ in texts[limit:]:
        refused[pointer] = f"there are more than {limit} texts"
    return values, refused


def _path(text: str, where: _Where) -> JSON:
    found = path_of(text, cwd=where.cwd)
    if found is None:
        raise Unparseable(why_no_path(text, has_folder=where.cwd is not None))
    return found


def _url(text: str, _: _Where) -> JSON:
    found = url_of(text)
    if found is None:
        raise Unparseable(why_no_url(text))
    return found


def _argv(text: str, _: _Where) -> JSON:
    found = words_of(text)
    if found is None:
        raise Unparseable(why_no_words(text))
    return found


def _file(text: str, where: _Where) -> JSON:
    _path(text, where)
    return file_of(text, cwd=where.cwd)


def _shell(text: str, _: _Where) -> JSON:
    return shell_of(text)


def _sql(text: str, where: _Where) -> JSON:
    return sql_of(text, where.dialect)


_READERS: Mapping[str, Callable[[str, _Where], JSON]] = {
    "path": _path,
    "url": _url,
    "argv": _argv,
    "file": _file,
    "shell": _shell,
    "sql": _sql,
}


def _add_vectors(
    found: dict[str, JSON], refused: dict[str, JSON], value: JSON, pointer: str, wanted: frozenset[str] | None
) -> None:
    """A list of texts is an argument vector as it stands."""
    if isinstance(value, list):
        if value and (wanted is None or pointer in wanted):
            if all(isinstance(item, str) and item and "\0" not in item for item in value):
                found[pointer] = value
            else:
                refused[pointer] = "it is a list with other things in it than texts"
        for index, item in enumerate(value):
            _add_vectors(found, refused, item, f"{pointer}/{index}", wanted)
    elif isinstance(value, dict):
        for key, item in value.items():
            _add_vectors(found, refused, item, f"{pointer}/{escape(key)}", wanted)
