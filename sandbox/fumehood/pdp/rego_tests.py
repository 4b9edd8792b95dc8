"""Runs `*_test.rego` without the opa binary, by the conventions of `opa test`.

A rule `test_…` in a test file passes if it is true; `todo_test_…` is skipped. Each runs against
the policies, the library and all test files together, with no input but what `with input as` gives.
"""

from __future__ import annotations

import json
import os
import re
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError, Problem
from fumehood.pdp import combine, gate, sources
from fumehood.pdp.apart import ApartLimits, EngineApart
from fumehood.pdp.engine import EngineError
from fumehood.pdp.expand import expanded
from fumehood.pdp.gate.context import Context
from fumehood.pdp.gate.scope import check_variables
from fumehood.pdp.syntax import Module, Node, Rule, constant_of, module_of, ref_of

__all__ = ["Source", "Suite", "TestResult", "pattern_of", "run_tests"]

Source = str | os.PathLike[str]
_TEST_S = 5.0  # processor time of one test, as `opa test` has it of the clock
_MARKED = re.compile(r"(?:todo_)?test_")


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test. `outcome` is "pass", "fail", "error" or "skip"; `output` is what it printed; `details` is
    the message in parts, for a program."""

    __test__ = False  # not for pytest

    name: str
    file: str
    line: int
    outcome: str
    message: str = ""
    output: str = ""
    duration_s: float = 0.0
    details: Mapping[str, JSON] | None = None


class Suite:
    """The tests of what was read, ready to run; *covers*: and which lines they evaluate."""

    def __init__(
        self,
        read: sources.Files,
        verdict: gate.Verdict,
        *,
        covers: bool = False,
    ) -> None:
        """*verdict* is the gate's about *read*, without a problem.

        Raises:
            ConfigError: the engine refuses the tests.
        """
        parsed = map(module_of, (f for f in read.files if f.is_test))
        self._tests = [module for module in parsed if isinstance(module, Module)]
        self.covers = covers
        self._engine = EngineApart(ApartLimits(cpu_s=_TEST_S))
        weakref.finalize(self, self._engine.close)
        try:
            self._engine.load(_files(verdict, self._tests), json.dumps(verdict.data), is_gated=True)
            self._engine.loaded()
        except EngineError as error:
            raise ConfigError(f"the tests cannot be run: {error}") from error
        if covers:
            self._engine.cover()

    def run(self, wanted: re.Pattern[str]) -> list[TestResult]:
        """The results of the tests in whose full name *wanted* is found, in order of file and line."""
        return [
            _run(self._engine, module, rule)
            for module in self._tests
            for rule in _first_of_each(module)
            if wanted.search(f"data.{module.name}.{rule.name}")
        ]

    def coverage(self) -> str:
        """What was evaluated so far; see `Engine.coverage`."""
        return self._engine.coverage()


def run_tests(given: Sequence[Source] | Source, *, only: str | None = None) -> list[TestResult]:
    """Run the tests of folders and packs; with *only*, those whose full name the regular expression matches.

    Raises:
        ConfigError: the policies do not pass the gate, a test file does not parse, or *only* is no pattern.
    """
    read = sources.read([given] if isinstance(given, str | os.PathLike) else given)
    verdict = gate.inspect(read)
    if verdict.problems:
        raise ConfigError("the policies cannot be tested", problems=verdict.problems)
    wanted = pattern_of(only)
    return Suite(read, verdict).run(wanted)


def pattern_of(only: str | None) -> re.Pattern[str]:
    """*only* as a pattern; None matches everything.

    Raises:
        ConfigError: it is none.
    """
    try:
        return re.compile(only or "")
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"{only!r} is not a regular expression: {error}") from error


def _files(verdict: gate.Verdict, tests: Sequence[Module]) -> list[tuple[str, str]]:
    shipped = (*sources.library(), *sources.embedded_library())
    library = [(f.path, _asking_by_name(f.text, verdict)) for f in shipped]
    return [*library, *((m.file.path, _written_out(m)) for m in (*verdict.modules, *tests))]


def _asking_by_name(text: str, verdict: gate.Verdict) -> str:
    """lib/main.rego with the packages named one by one: regorus would evaluate the tests as well, and
    find that they depend on themselves."""
    if not text.startswith(("#", "package")) or "\npackage fumehood.main\n" not in text:
        return text
    kept = [part for part in text.split("\n\n") if "_said contains" not in part]
    asked = (
        f'_said contains ["{package}", "{rule}", value] if {{\n\t_phase == "{phase}"\n'
        f"\tvalue := data.policies.{package}.{rule}\n}}"
        for package, rules in verdict.rules.items()
        for phase, names in combine.PHASES.items()
        for rule in names
        if rule in rules
    )
    return "\n\n".join([*kept, "_said contains [] if false", *asked]) + "\n"


def _written_out(module: Module) -> str:
    """As for deciding, unless a test's variable hides an import: then as it stands."""
    hidden = any(" hides what " in problem.message for problem in _variable_problems(module))
    return module.file.text if hidden else expanded(module)


def _variable_problems(module: Module) -> Iterator[Problem]:
    return check_variables(Context((module,), {}))


def _first_of_each(module: Module) -> list[Rule]:
    found: dict[str, Rule] = {}
    for rule in module.rules:
        if _MARKED.match(rule.name):
            found.setdefault(rule.name, rule)
    return list(found.values())


def _run(engine: EngineApart, module: Module, rule: Rule) -> TestResult:
    name, line = f"data.{module.name}.{rule.name}", module.encoded[: rule.start].count(b"\n") + 1
    if rule.name.startswith("todo_"):
        return TestResult(name, module.file.path, line, "skip", "still to be written")
    if sum(other.name == rule.name for other in module.rules) > 1:
        return TestResult(name, module.file.path, line, "error", "several tests have this name; rename them")
    if rule.shape != "value" or rule.args:
        return TestResult(name, module.file.path, line, "error", "a test is a plain rule: `test_… if { … }`")
    wrong = _wrong_inputs(rule)
    if wrong:
        return TestResult(name, module.file.path, line, "error", "\n".join(wrong))
    engine.prints()
    begun = time.perf_counter()
    outcome, message = _outcome(engine, name)
    took = time.perf_counter() - begun
    return TestResult(name, module.file.path, line, outcome, message, "\n".join(engine.prints()), took)


def _wrong_inputs(rule: Rule) -> list[str]:
    """What no guard would ever send, in the inputs that are written out: a misspelt field, a wrong type."""
    from fumehood.pdp.document import complaints  # pydantic: only tests pay for it

    found: list[str] = []
    for statement in rule.statements():
        for modifier in cast("list[Node]", statement.get("with_mods") or []):
            ref = ref_of(cast("Node", modifier["refr"]))
            value = constant_of(cast("Node", modifier["as"]))
            if ref is not None and (ref.root, ref.parts) == ("input", ()) and value is not None:
                found += [f"the input is not one: {said}" for said in complaints(value, is_partial=True)]
    return found


def _outcome(engine: EngineApart, name: str) -> tuple[str, str]:
    try:
        value: JSON = json.loads(engine.evaluate_without_input(name))
    except PdpError as error:
        return ("fail", "undefined") if error.code == "pdp_undefined" else ("error", str(error))
    return ("pass", "") if value is True else ("fail", f"the value is {json.dumps(value)[:200]}, not true")
