"""Rules that read what needs a parser, where that is not installed: to them everything is unparseable."""

from __future__ import annotations

from collections.abc import Iterator

from fumehood.parsed import missing_parsers
from fumehood.pdp.gate.context import Context
from fumehood.pdp.gate.refs import called_path
from fumehood.pdp.parsed_reads import reads_parsed
from fumehood.pdp.syntax import Module, start_of
from fumehood.workbench.lint.findings import Finding, warning

__all__ = ["check_parsers"]

_REMEDY = "pip install 'fumehood[parsers]', here and where the agent runs: without it nothing parses."


def check_parsers(context: Context) -> Iterator[Finding]:
    for module in context.modules:
        for kind in missing_parsers(reads_parsed([module])):
            message = f"call.{kind} is read here, and the parser that it needs is not installed"
            yield warning("missing-parser", module.problem(_place(module, kind), message, _REMEDY))


def _place(module: Module, kind: str) -> int:
    """Where it is read first; the package, where that is not by its function."""
    for rule in module.rules:
        for call in rule.survey().of("Call"):
            if called_path(module, call) == ("data", "fumehood", "call", kind):
                return start_of(call)
    return module.package_start
