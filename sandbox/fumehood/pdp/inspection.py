"""What is in policies, to look at: bundles, rules with their METADATA, data. Decides nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, Problem
from fumehood.pdp import gate, sources
from fumehood.pdp.bundle import Bundle, load_bundle
from fumehood.pdp.combine import PUBLIC
from fumehood.pdp.keys import Keys
from fumehood.pdp.packed import Packed
from fumehood.pdp.syntax import Module, Rule
from fumehood.pdp.yamldata import YamlError, read_yaml

__all__ = ["Inspection", "RuleFacts", "inspect_sources"]

Source = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """A public rule: its full name, its place, and the METADATA above it (its text, if that is no YAML)."""

    name: str
    file: str
    line: int
    metadata: JSON = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """`revision` is "" if the policies cannot be used, and `problems` says why."""

    revision: str
    packages: tuple[str, ...]
    rules: tuple[RuleFacts, ...]
    data: Mapping[str, JSON]
    bundles: tuple[Packed, ...]
    tests: int
    problems: tuple[Problem, ...]


def inspect_sources(given: Sequence[Source] | Source, *, signed_by: Keys = ()) -> Inspection:
    """What is in folders, bundles and packs; without keys, signatures are shown and not verified.

    Raises:
        ConfigError: there is no such source, or a bundle cannot be read, or does not verify.
    """
    read = sources.read(given, signed_by, is_trusted=True)  # type: ignore[arg-type]
    verdict = gate.inspect(read)
    problems, revision = verdict.problems, ""
    if not problems:
        loaded = _loaded(given, signed_by)
        revision, problems = (loaded.revision, ()) if isinstance(loaded, Bundle) else ("", loaded)
    return Inspection(
        revision,
        tuple(sorted({module.name for module in verdict.modules})),
        tuple(fact for module in verdict.modules for fact in _facts(module)),
        verdict.data,
        tuple(read.bundles.values()),
        sum(file.is_test for file in read.files),
        problems,
    )


def _loaded(given: Sequence[Source] | Source, signed_by: Keys) -> Bundle | tuple[Problem, ...]:
    try:
        return load_bundle(given, signed_by=signed_by, is_trusted=True)
    except ConfigError as error:
        return error.problems


def _facts(module: Module) -> Iterator[RuleFacts]:
    for rule in module.rules:
        if rule.name in PUBLIC:
            place = module.problem(rule.start, "", "")
            yield RuleFacts(
                f"{module.name}.{rule.name}", module.file.path, place.line, _metadata(module, rule)
            )


def _metadata(module: Module, rule: Rule) -> JSON:
    """The comment that begins with `# METADATA` and ends right above *rule*, read as YAML."""
    lines: list[str] = []
    for line in reversed(module.encoded[: rule.start].decode(errors="replace").splitlines()):
        if line.strip() == "# METADATA":
            text = "\n".join(reversed(lines))
            try:
                return read_yaml(text)
            except YamlError:
                return text
        if not line.startswith("#"):
            return None
        lines.append(line.removeprefix("#").removeprefix(" "))
    return None
