"""A loaded bundle: policies that passed the gate, with the library, a revision and facts about them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, Problem
from fumehood.model import PolicyFacts
from fumehood.observe_mode import Mode, Observing
from fumehood.pdp import combine, gate, sources
from fumehood.pdp.apart import EngineApart
from fumehood.pdp.gate.data import gather
from fumehood.pdp.index import Index, entry_module, split, whole
from fumehood.pdp.keys import Keys
from fumehood.pdp.manifest import MANIFEST, Manifest, outside
from fumehood.pdp.observing import chosen, marked
from fumehood.pdp.packed import CLAIM, Packed, claimed
from fumehood.pdp.syntax import Module, module_of

__all__ = ["Bundle", "bundle_of", "load_bundle"]

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
    observing: Observing | None = None  # which packages are only watched; None: all are enforced
    marked: tuple[str, ...] = ()  # packages that ask to be observed, whether or not they are


def load_bundle(
    given: Sequence[Source] | Source,
    *,
    signed_by: Keys = (),
    is_trusted: bool = False,
    mode: Mode = Mode.ENFORCE,
    is_split: bool = True,
    parse: Parse = module_of,
    engine: Callable[[], EngineApart] = gate.trial_engine,
) -> Bundle:
    """Read, check and freeze the policies of folders, bundles and packs; with *signed_by*, only what one of
    these keys has signed (packs are part of the installation). *parse* may know what it parsed before; what
    tries the rules may have been started before, by *engine*.

    *mode* says which packages are only watched. Without *is_split* every rule keeps its name and its place
    in the embedded text, for who asks for single rules.

    With *is_trusted* signatures are not verified: to look at a bundle, never to decide with it.

    Raises:
        ConfigError: with every problem found.
    """
    read = sources.read(
        [given] if isinstance(given, str | os.PathLike) else given, signed_by, is_trusted=is_trusted
    )
    return bundle_of(read, gate.inspect(read, parse=parse, engine=engine), mode=mode, is_split=is_split)


def bundle_of(
    read: sources.Files, verdict: gate.Verdict, *, mode: Mode = Mode.ENFORCE, is_split: bool = True
) -> Bundle:
    """The bundle of what was read and inspected. Raises as `load_bundle`."""
    problems = verdict.problems or tuple(_problems_of_bundles(read, verdict.modules))
    if problems:
        noun = "problem" if len(problems) == 1 else "problems"
        raise ConfigError(f"the policies cannot be used: {len(problems)} {noun}", problems=problems)
    deciding = [*sources.library(), *(f for f in read.files if f.is_rego and not f.is_test)]
    files = tuple(sorted((f.name, f.text) for f in deciding))
    data = _as_text(verdict.data)
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
    observing, asking = chosen(mode, verdict.modules), marked(verdict.modules)
    embedded, index = _embedded(verdict, is_split=is_split)
    return Bundle(files, revision, packages, facts, embedded, index, data, tests, observing, asking)


def _problems_of_bundles(read: sources.Files, modules: Sequence[Module]) -> Iterator[Problem]:
    """What is in a bundle and not in its roots, and one whose files are not those that it was built of."""
    for source, packed in read.bundles.items():
        data, _ = gather([f for f in read.files if f.source == source and not f.is_rego])
        packages = [m.package for m in modules if m.file.source == source]
        manifest = packed.manifest or Manifest()
        for what in outside(manifest, packages, data):
            text = f"{what} is not in the roots of the bundle: {', '.join(manifest.roots)}"
            yield Problem(f"{packed.path}:{MANIFEST}", 1, 1, text, "Add the root, or build the bundle anew.")
        said = claimed(packed.files.get(CLAIM, b"").decode(errors="replace"))
        if said is not None and said != _revision_of(packed, data):
            text = f"it was built as {said}, and has the files of another revision"
            yield Problem(packed.path, 1, 1, text, "Build the bundle anew: `fumehood policy build`.")


def _revision_of(packed: Packed, data: Mapping[str, JSON]) -> str:
    """The revision of a bundle that `fumehood policy build` made, alone."""
    policies = [(n, b.decode()) for n, b in packed.files.items() if n.endswith(".rego") and n != CLAIM]
    files = sorted((name, text) for name, text in policies if not name.endswith("_test.rego"))
    return _revision([*files, ("data.json", _as_text(data))])


def _as_text(data: Mapping[str, JSON]) -> str:
    return json.dumps(data, sort_keys=True, ensure_ascii=False)


def _embedded(verdict: gate.Verdict, *, is_split: bool) -> tuple[tuple[tuple[str, str], ...], Index]:
    library = [(file.name, file.text) for file in (*sources.library(), *sources.embedded_library())]
    parts = split(verdict.modules, verdict.rules) if is_split else whole(verdict.rules)
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
