"""Data documents beside the policies, `data.json` or `data.yaml`, found where their folder is, as in OPA."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from fumehood.canonical import JSON, require_plain
from fumehood.canonical import parse as parse_json
from fumehood.errors import BindError, Problem
from fumehood.pdp.sources import PolicyFile
from fumehood.pdp.yamldata import YamlError, read_yaml

__all__ = ["gather", "located"]

_NAMES = frozenset({"data.json", "data.yaml", "data.yml"})
# Case tables, and the schemas of the tools: read by `fumehood policy`, never data that decides.
_FOR_THE_WORKBENCH = re.compile(r"(?:_cases\.ya?ml|(?:\A|/)tools\.json)\Z")

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
        if not _FOR_THE_WORKBENCH.search(file.name):
            problems.extend(_add(file, whole))
    return whole, problems


def _add(file: PolicyFile, whole: dict[str, JSON]) -> list[Problem]:
    if PurePosixPath(file.name).name not in _NAMES:
        return [
            _problem(
                file,
                "a data document must be called data.json or data.yaml",
                "Rename it, or move it elsewhere.",
            )
        ]
    try:
        document = _parsed(file)
    except BindError as error:
        return [_problem(file, str(error), "Correct the JSON.")]
    except YamlError as error:
        return [located(file, error.line, error.column, str(error), error.remedy)]
    for folder in reversed(file.folder):
        document = {folder: document}
    if not isinstance(document, dict):
        return [_problem(file, "a data document is an object", 'Write { "name": value }.')]
    for root in sorted(set(document) & set(_RESERVED)):
        return [_problem(file, f"data under `{root}` {_RESERVED[root]}", "Choose another name.", key=root)]
    clash = _merge(whole, document, "data")
    return [_problem(file, f"`{clash}` has two values", "Keep one of them.")] if clash else []


def _parsed(file: PolicyFile) -> JSON:
    if file.name.endswith(".json"):
        return parse_json(file.text)
    document = read_yaml(file.text)
    require_plain(document)
    return document


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
    column = len(before) - (before.rfind("\n") + 1) + 1
    return located(file, line, column, message, remedy)


def located(file: PolicyFile, line: int, column: int, message: str, remedy: str) -> Problem:
    """A finding about *file* with the line that it is about."""
    lines = file.text.split("\n")
    text = lines[line - 1] if line <= len(lines) else ""
    return Problem(file.path, line, column, message, remedy, text.replace("\t", " ")[:200])
