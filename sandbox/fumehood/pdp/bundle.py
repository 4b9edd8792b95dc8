"""A loaded bundle: policies that passed the gate, with the library, a revision and facts about them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fumehood.errors import ConfigError, Problem
from fumehood.model import PolicyFacts
from fumehood.pdp import combine, gate, sources
from fumehood.pdp.index import Index, entry_module, split
from fumehood.pdp.syntax import Module, module_of

__all__ = ["Bundle", "load_bundle"]

Parse = Callable[[sources.PolicyFile], Module | Problem]
Source = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What decides. `files` are (name, text), tests excluded, the library included; `data` is JSON.

    `revision` is "sha256:…" over names and texts; `embedded` is what the embedded engine loads: the same
    with imports written out, and the module it asks, to which `index` leads; `tests` are (name, text) and
    never decide.
    """

    files: tuple[tuple[str, str], ...]
    revision: str
    packages: tuple[str, ...]
    facts: PolicyFacts
    embedded: tuple[tuple[str, str], ...]
    index: Index
    data: str = "{}"
    tests: tuple[tuple[str, str], ...] = ()


def load_bundle(given: Sequence[Source] | Source, *, parse: Parse = module_of) -> Bundle:
    """Read, check and freeze the policies of folders and packs. *parse* may know what it parsed before.

    Raises:
        ConfigError: with every problem found.
    """
    read = sources.read([given] if isinstance(given, str | os.PathLike) else given)
    verdict = gate.inspect(read, parse=parse)
    if verdict.problems:
        count = len(verdict.problems)
        noun = "problem" if count == 1 else "problems"
        raise ConfigError(f"the policies cannot be used: {count} {noun}", problems=verdict.problems)
    deciding = [*sources.library(), *(f for f in read.files if f.is_rego and not f.is_test)]
    files = tuple(sorted((f.name, f.text) for f in deciding))
    data = json.dumps(verdict.data, sort_keys=True, ensure_ascii=False)
    revision = _revision([*files, ("data.json", data)])
    packages = tuple(f"policies.{name}" for name in sorted(verdict.rules))
    facts = PolicyFacts(
        revision,
        packages,
        has_result_rules=any(
            set(rules) & set(combine.PHASES["return_result"]) for rules in verdict.rules.values()
        ),
        reads_history=verdict.reads_history,
    )
    tests = tuple((f.name, f.text) for f in read.files if f.is_test)
    return Bundle(files, revision, packages, facts, *_embedded(verdict), data, tests)


def _embedded(verdict: gate.Verdict) -> tuple[tuple[tuple[str, str], ...], Index]:
    library = [(file.name, file.text) for file in (*sources.library(), *sources.embedded_library())]
    parts = split(verdict.modules, verdict.rules)
    entry, index = entry_module(parts)
    written = (text for module in verdict.modules for text in parts.texts(module))
    return (*library, *written, ("fumehood/entry.rego", entry)), index


def _revision(files: Sequence[tuple[str, str]]) -> str:
    """Over names and texts, each with its length before it, so that no two bundles share one."""
    state = hashlib.sha256()
    for part in (part for file in files for part in file):
        encoded = part.encode()
        state.update(f"{len(encoded)}:".encode() + encoded)
    return "sha256:" + state.hexdigest()
