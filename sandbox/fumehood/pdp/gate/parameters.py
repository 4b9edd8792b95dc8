"""Parameters of packs: a pack's `data.json` holds defaults, and the policy author's own data goes before it.

Beside it, `parameters.jsonschema` says what they may be. A value that it does not allow is a problem at
load, at the place where it is written: a limit that is a text would be no limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import fumehood_policies
from fumehood.canonical import JSON
from fumehood.errors import Problem
from fumehood.pdp.gate.data import gather
from fumehood.pdp.schemas import complaints
from fumehood.pdp.sources import PolicyFile

__all__ = ["SCHEMA", "check_parameters", "defaults_apart", "fill", "gathered"]

SCHEMA = "parameters.jsonschema"


def gathered(files: Sequence[PolicyFile]) -> tuple[dict[str, JSON], list[Problem]]:
    """All data documents as one, packs' parameters put in where the author gives none, and what is wrong."""
    documents = [file for file in files if not file.name.endswith(("_cases.yaml", "_cases.yml"))]
    own, packs = defaults_apart(documents)
    whole, problems = gather(own)
    defaults, more = gather(packs)
    fill(whole, defaults)
    problems += more
    return whole, problems or list(check_parameters(whole, documents))


def defaults_apart(files: Iterable[PolicyFile]) -> tuple[list[PolicyFile], list[PolicyFile]]:
    """The author's own data documents, and those of packs."""
    own: list[PolicyFile] = []
    defaults: list[PolicyFile] = []
    packs = fumehood_policies.PACKS.resolve()
    for file in files:
        (defaults if packs in Path(file.path).resolve().parents else own).append(file)
    return own, defaults


def fill(whole: dict[str, JSON], defaults: dict[str, JSON]) -> None:
    """Put in each parameter of *defaults* that *whole* does not have. One that it has stays whole."""
    for pack, parameters in defaults.items():
        given = whole.setdefault(pack, {})
        if isinstance(given, dict) and isinstance(parameters, dict):
            for name, value in parameters.items():
                given.setdefault(name, value)


def check_parameters(whole: dict[str, JSON], files: Sequence[PolicyFile]) -> Iterator[Problem]:
    """What the schemas beside the data documents of *files* do not allow."""
    for schema in _schemas(files):
        for pack, rule in cast("dict[str, dict[str, JSON]]", schema["properties"]).items():
            for path, said in complaints(rule, whole.get(pack)):
                yield _problem(files, pack, path, said)


def _schemas(files: Sequence[PolicyFile]) -> Iterator[dict[str, JSON]]:
    for path in sorted({Path(file.path).with_name(SCHEMA) for file in files}):
        if path.is_file():
            yield json.loads(path.read_text(encoding="utf-8"))


def _problem(files: Sequence[PolicyFile], pack: str, path: tuple[str | int, ...], said: str) -> Problem:
    keys = [pack, *(part for part in path if isinstance(part, str))]
    own, defaults = defaults_apart(files)
    named = [f for f in (*own, *defaults) if pack in f.folder or _place(f.text, keys[:1]) is not None]
    file = next(iter(named), files[0])
    line, column = _place(file.text, keys[1:] if pack in file.folder else keys) or (1, 1)
    name = ".".join([pack, *map(str, path)])
    text = file.text.split("\n")[line - 1].replace("\t", " ")[:200]
    remedy = f"What it may be: the pack's {SCHEMA}, and docs/packs.md."
    return Problem(file.path, line, column, f"parameter `{name}`: {said}", remedy, text)


def _place(text: str, keys: Sequence[str]) -> tuple[int, int] | None:
    """Line and column of the last of *keys*, each looked for behind the one before it."""
    at, found = 0, None
    for key in keys:
        match = re.compile(rf"[\"']?{re.escape(key)}[\"']?\s*:").search(text, at)
        if match is None:
            break
        at, found = match.end(), match.start()
    if found is None:
        return None
    before = text[:found]
    return before.count("\n") + 1, found - (before.rfind("\n") + 1) + 1
