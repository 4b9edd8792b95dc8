"""Data documents beside the policies: `data.json`, found where its folder is, as OPA does it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from fumehood.canonical import JSON
from fumehood.canonical import parse as parse_json
from fumehood.errors import BindError, Problem
from fumehood.pdp.sources import PolicyFile

__all__ = ["gather"]

_RESERVED = {
    "policies": "could grant what no policy permits",
    "fumehood": "could change how decisions are made",
    "system": "is OPA's own",
}


def gather(files: Sequence[PolicyFile]) -> tuple[dict[str, JSON], list[Problem]]:
    """All data documents as one, and what is wrong with them."""
    whole: dict[str, JSON] = {}
    problems: list[Problem] = []
    for file in files:
        problems.extend(_add(file, whole))
    return whole, problems


def _add(file: PolicyFile, whole: dict[str, JSON]) -> list[Problem]:
    if not file.name.endswith(".json"):
        return [_problem(file, "a data document in YAML is not read", "Write it as data.json.")]
    if PurePosixPath(file.name).name != "data.json":
        return [
            _problem(file, "a data document must be called data.json", "Rename it, or move it elsewhere.")
        ]
    try:
        document = parse_json(file.text)
    except BindError as error:
        return [_problem(file, str(error), "Correct the JSON.")]
    for folder in reversed(file.folder):
        document = {folder: document}
    if not isinstance(document, dict):
        return [_problem(file, "a data document is an object", 'Write { "name": value }.')]
    for root in sorted(set(document) & set(_RESERVED)):
        return [_problem(file, f"data under `{root}` {_RESERVED[root]}", "Choose another name.", key=root)]
    clash = _merge(whole, document, "data")
    return [_problem(file, f"`{clash}` has two values", "Keep one of them.")] if clash else []


def _merge(into: dict[str, JSON], document: dict[str, JSON], path: str) -> str:
    """Merge objects; the path of the first place with two values, or ""."""
    for name, value in document.items():
        known = into.get(name)
        if name not in into:
            into[name] = value
        elif isinstance(known, dict) and isinstance(value, dict):
            if clash := _merge(known, value, f"{path}.{name}"):
                return clash
        else:
            return f"{path}.{name}"
    return ""


def _problem(file: PolicyFile, message: str, remedy: str, *, key: str = "") -> Problem:
    at = re.search(re.escape(json.dumps(key)), file.text) if key else None
    before = file.text[: at.start()] if at else ""
    line = before.count("\n") + 1
    text = file.text.split("\n")[line - 1] if file.text else ""
    column = len(before) - (before.rfind("\n") + 1) + 1
    return Problem(file.path, line, column, message, remedy, text.replace("\t", " ")[:200])
