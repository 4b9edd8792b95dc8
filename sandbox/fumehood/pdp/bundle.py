"""A loaded bundle: policies that passed the gate, with the library, a revision and facts about them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from fumehood.errors import ConfigError
from fumehood.model import PolicyFacts
from fumehood.pdp import combine, gate, sources
from fumehood.pdp.expand import expanded

__all__ = ["Bundle", "load_bundle"]

Source = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What decides. `files` are (name, text), tests excluded, the library included; `data` is JSON.

    `revision` is "sha256:…" over names and texts; `embedded` is what the embedded engine loads: the same
    with imports written out, and the module it asks; `tests` are (name, text) and never decide.
    """

    files: tuple[tuple[str, str], ...]
    revision: str
    packages: tuple[str, ...]
    facts: PolicyFacts
    embedded: tuple[tuple[str, str], ...]
    data: str = "{}"
    tests: tuple[tuple[str, str], ...] = ()


def load_bundle(given: Sequence[Source] | Source) -> Bundle:
    """Read, check and freeze the policies of folders and packs.

    Raises:
        ConfigError: with every problem found.
    """
    read = sources.read([given] if isinstance(given, str | os.PathLike) else given)
    verdict = gate.inspect(read)
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
        reads_parsed=verdict.reads_parsed,
    )
    tests = tuple((f.name, f.text) for f in read.files if f.is_test)
    return Bundle(files, revision, packages, facts, _embedded(verdict), data, tests)


def _embedded(verdict: gate.Verdict) -> tuple[tuple[str, str], ...]:
    library = [(file.name, file.text) for file in (*sources.library(), *sources.embedded_library())]
    entry = ("fumehood/entry.rego", combine.entry_module(verdict.rules))
    return (*library, *((m.file.name, expanded(m)) for m in verdict.modules), entry)


def _revision(files: Sequence[tuple[str, str]]) -> str:
    """Over names and texts, each with its length before it, so that no two bundles share one."""
    state = hashlib.sha256()
    for part in (part for file in files for part in file):
        encoded = part.encode()
        state.update(f"{len(encoded)}:".encode() + encoded)
    return "sha256:" + state.hexdigest()
