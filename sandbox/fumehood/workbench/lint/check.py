"""Every check of `fumehood policy check`: the load gate, ours, and OPA's where its binary is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fumehood_policies
from fumehood.errors import Problem
from fumehood.pdp import gate, sources
from fumehood.pdp.bundle import Bundle, bundle_of
from fumehood.pdp.gate.context import Context
from fumehood.pdp.keys import Keys
from fumehood.pdp.rego_tests import Source
from fumehood.pdp.syntax import Module, module_of
from fumehood.workbench.cases import cases_of
from fumehood.workbench.lint.arguments import check_arguments
from fumehood.workbench.lint.bounds import check_bounds
from fumehood.workbench.lint.fields import check_fields
from fumehood.workbench.lint.findings import Finding, error, warning
from fumehood.workbench.lint.metadata import check_metadata
from fumehood.workbench.lint.names import check_names_in_use
from fumehood.workbench.lint.parsers import check_parsers
from fumehood.workbench.lint.texts import check_raw_texts
from fumehood.workbench.lint.unfinished import check_unfinished
from fumehood.workbench.opa import OpaBinary, find_opa
from fumehood.workbench.tools import ToolSchema, tools_beside

__all__ = ["Checked", "check_policies"]


@dataclass(frozen=True, slots=True)
class Checked:
    """Every finding in order of file and line. `bundle`: None where the load gate refuses the policies."""

    findings: tuple[Finding, ...]
    bundle: Bundle | None
    with_opa: bool

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.is_error)


def check_policies(
    given: Sequence[Source],
    *,
    tools: Sequence[ToolSchema] = (),
    opa: str | None = None,
    signed_by: Keys = (),
) -> Checked:
    """What is wrong with the policies of folders, bundles and packs; with *signed_by*, as `load_bundle`.

    *tools*: the user's own; else those of a `tools.json` beside the policies.

    Raises:
        ConfigError: there is no such source; *opa* or a `tools.json` cannot be used; a bundle is not what it
            says of itself.
    """
    read = sources.read(given, signed_by)
    binary = find_opa(opa)
    verdict = gate.inspect(read)
    own = _own(read)
    tools = tools or tools_beside(read.files)
    findings = [error("load-gate", problem) for problem in verdict.problems]
    findings += check_unfinished([file for file in read.files if file.path in own])
    findings += [error("case-table", problem) for problem in cases_of(read.files, tools)[1]]
    if not verdict.problems:
        tests = [module for module in map(module_of, _tests(read)) if isinstance(module, Module)]
        findings += _ours(Context(verdict.modules, verdict.data), tests, tools, own)
        if binary:
            findings += _by_opa(OpaBinary(binary, verdict, _tests(read)), findings)
    ordered = tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.order))
    bundle = None if verdict.problems else bundle_of(read, verdict)
    return Checked(ordered, bundle, bool(binary) and bundle is not None)


def _ours(
    context: Context, tests: Sequence[Module], tools: Sequence[ToolSchema], own: frozenset[str]
) -> list[Finding]:
    return [
        *check_arguments(context, tools, own),
        *check_bounds(context, tools),
        *check_fields(context),
        *check_metadata(context),
        *check_names_in_use(context, tests),
        *check_parsers(context),
        *check_raw_texts(context),
    ]


def _tests(read: sources.Files) -> list[sources.PolicyFile]:
    return [file for file in read.files if file.is_test]


def _own(read: sources.Files) -> frozenset[str]:
    """The paths of files that are not a pack's."""
    packs = fumehood_policies.PACKS.resolve()
    return frozenset(file.path for file in read.files if packs not in Path(file.path).resolve().parents)


def _by_opa(binary: OpaBinary, known: Sequence[Finding]) -> list[Finding]:
    """What OPA refuses is an error; what only its strict mode refuses is style, unless we have said it."""
    fields = {finding.problem[:3] for finding in known if finding.code == "unknown-field"}
    hard = [problem for problem in binary.check(is_strict=False) if problem[:3] not in fields]
    said = {(finding.problem.file, finding.problem.line) for finding in known}
    strict = [p for p in binary.check(is_strict=True) if p not in hard and (p.file, p.line) not in said]
    return [*(error("opa", p) for p in hard), *map(_style, strict)]


def _style(problem: Problem) -> Finding:
    return warning("opa", problem)
