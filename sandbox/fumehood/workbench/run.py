"""Runs everything that tests policies: `test_*` rules, case tables, mutations; by one engine or by both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from fumehood.canonical import JSON
from fumehood.errors import ConfigError
from fumehood.pdp import gate, sources
from fumehood.pdp.keys import Keys
from fumehood.pdp.rego_tests import Source, Suite, TestResult, pattern_of
from fumehood.workbench.answers import Answer, difference, loosened, meets
from fumehood.workbench.cases import ENDINGS, Case, cases_of
from fumehood.workbench.completing import Document
from fumehood.workbench.coverage import Coverage, coverage_of
from fumehood.workbench.deciding import Deciding, DecidingLines
from fumehood.workbench.fragments import fragment_of
from fumehood.workbench.judge import EmbeddedJudge, Judge, gated
from fumehood.workbench.mutate import Mutant, mutants_of
from fumehood.workbench.opa import OpaBinary, OpaJudge, find_opa
from fumehood.workbench.tools import tools_beside

__all__ = ["Engines", "Report", "run_policy_tests"]

Engines = Literal["embedded", "opa", "both"]


@dataclass(frozen=True, slots=True)
class Report:
    """What was run. `mutants`: how many variants were decided; `coverage`: None if it was not asked for."""

    results: tuple[TestResult, ...]
    mutants: int = 0
    coverage: Coverage | None = None

    @property
    def is_ok(self) -> bool:
        return not any(result.outcome in ("fail", "error") for result in self.results)


def run_policy_tests(
    given: Sequence[Source],
    *,
    only: str | None = None,
    engines: Engines = "embedded",
    opa: str | None = None,
    covers: bool = False,
    mutates: bool = False,
    signed_by: Keys = (),
) -> Report:
    """Run the tests and case tables of folders, bundles and packs; with *signed_by*, as `load_bundle`.

    *only*: a regular expression, searched in full names (`data.x_test.test_a`, `x_cases/the row's name`).

    Raises:
        ConfigError: policies, tests or tables cannot be used; or the opa binary is wanted and not there.
    """
    return _Run(sources.read(given, signed_by), only=only, engines=engines, opa=opa, covers=covers).report(
        mutates=mutates
    )


class _Run:
    def __init__(
        self, read: sources.Files, *, only: str | None, engines: Engines, opa: str | None, covers: bool
    ) -> None:
        self._verdict: gate.Verdict = gated(read)
        self._deciding = DecidingLines(self._verdict)
        self._wanted = pattern_of(only)
        cases, problems = cases_of(read.files, tools_beside(read.files))
        if problems:
            raise ConfigError("the case tables cannot be read", problems=tuple(problems))
        self._cases = [case for case in cases if self._wanted.search(_name(case))]
        self._binary = self._opa_binary(read, opa) if engines != "embedded" else None
        self._suite, self._embedded = None, None
        if engines != "opa":
            self._suite = Suite(read, self._verdict, covers=covers)
            self._embedded = EmbeddedJudge(self._verdict, covers=covers)

    def _opa_binary(self, read: sources.Files, opa: str | None) -> OpaBinary:
        path = find_opa(opa)
        if path is None:
            raise ConfigError("there is no opa binary on PATH; give it with --opa or $FUMEHOOD_OPA")
        return OpaBinary(path, self._verdict, [file for file in read.files if file.is_test])

    def report(self, *, mutates: bool) -> Report:
        results = [*self._rego_tests(), *self._case_tests()]
        count = 0
        if mutates:
            passed = {(result.file, result.line) for result in results if result.outcome == "pass"}
            for group in _in_groups([c for c in self._cases if (c.file, c.line) in passed]):
                count += sum(len(mutants) for _, mutants in group)
                results.extend(self._mutations(group))
        return Report(tuple(results), count, self._coverage())

    @property
    def _judges(self) -> list[Judge]:
        found: list[Judge] = [self._embedded] if self._embedded else []
        return [*found, OpaJudge(self._binary)] if self._binary else found

    def _answers(self, documents: Sequence[Document]) -> list[list[Answer]]:
        """What each engine says of each document; of what one had to be ended for no other is asked."""
        answers: list[list[Answer]] = []
        for judge in self._judges:
            late = {i: a for row in answers for i, a in enumerate(row) if a.too_late}
            left = iter(judge.answers([d for i, d in enumerate(documents) if i not in late]))
            answers.append([late[i] if i in late else next(left) for i in range(len(documents))])
        return answers

    def _coverage(self) -> Coverage | None:
        if self._suite is None or self._embedded is None or not self._suite.covers:
            return None
        reports = [self._suite.coverage(), self._embedded.coverage()]
        modules = self._verdict.modules
        return coverage_of(reports, modules, known=self._embedded.lines(modules))

    def _rego_tests(self) -> list[TestResult]:
        here = self._suite.run(self._wanted) if self._suite else []
        if self._binary is None:
            return here
        there = [row for row in map(_by_opa, self._binary.test()) if self._wanted.search(row.name)]
        return _agreed(here, there) if self._suite else there

    def _case_tests(self) -> list[TestResult]:
        documents = [case.document for case in self._cases]
        said = self._answers(documents)
        return [self._case(case, [answers[i] for answers in said]) for i, case in enumerate(self._cases)]

    def _case(self, case: Case, answers: Sequence[Answer]) -> TestResult:
        result = TestResult(_name(case), case.file, case.line, "pass")
        answer = answers[0]
        if answer.too_late and case.expected.reasons is None:
            return self._failed(result, case.document, answer, _late(answer), [])
        if not meets(answer, case.expected):
            diff = difference(answer, case.expected)
            return self._failed(result, case.document, answer, "", diff)
        if _differ(answers):
            return self._failed(result, case.document, answer, _disagreement(answers), [])
        return result

    def _failed(
        self, result: TestResult, document: dict[str, JSON], answer: Answer, said: str, diff: Sequence[str]
    ) -> TestResult:
        decided = self._deciding.behind(document, answer)
        shown = json.dumps(fragment_of(document), ensure_ascii=False)
        message = "\n".join(
            [*([said] if said else []), "input", f"  {shown}", *diff, *_shown_lines(answer, decided)]
        )
        details: dict[str, JSON] = {
            "input": document,
            "decided": cast("JSON", answer.as_json()),
            "diff": cast("JSON", list(diff)),
            "decided_by": [_deciding_json(one) for one in decided],
        }
        return replace(result, outcome="fail", message=message, details=details)

    def _mutations(self, group: Sequence[tuple[Case, list[Mutant]]]) -> Iterator[TestResult]:
        """What loosens an answer. Asked about many rows at once: each start of the opa binary costs."""
        documents = [d for case, mutants in group for d in (case.document, *(m.document for m in mutants))]
        said = list(zip(*self._answers(documents), strict=True))
        for case, mutants in group:
            before, after = said[0], said[1 : len(mutants) + 1]
            said = said[len(mutants) + 1 :]
            used: set[tuple[str, str]] = set()
            for mutant, answers in zip(mutants, after, strict=True):
                yield from self._mutation(case, mutant, before, answers, used)
            yield from _unneeded(case, used)

    def _mutation(
        self,
        case: Case,
        mutant: Mutant,
        before: Sequence[Answer],
        after: Sequence[Answer],
        used: set[tuple[str, str]],
    ) -> Iterator[TestResult]:
        hows = list(map(loosened, before, after))
        at = next((index for index, how in enumerate(hows) if how), None)
        key = (mutant.at, mutant.mutation)
        if at is not None and key in {(allowance.at, allowance.mutation) for allowance in case.allowances}:
            used.add(key)
        elif at is not None:
            yield self._looser(case, mutant, after[at], hows[at], self._judges[at].name)
        elif (after[0].too_late and not before[0].too_late) or _differ(after):
            name = f"{_name(case)} [{mutant.at} {mutant.mutation}]"
            result = TestResult(name, case.file, case.line, "fail")
            said = _late(after[0]) if after[0].too_late else _disagreement(after)
            yield self._failed(result, mutant.document, after[0], said, [])

    def _looser(self, case: Case, mutant: Mutant, answer: Answer, how: str, engine: str) -> TestResult:
        name = f"{_name(case)} [{mutant.at} {mutant.mutation}]"
        by = "" if engine == "embedded" else f" ({engine})"
        said = f"looser{by}: {how} where {mutant.at} is {_WORDS[mutant.mutation]}"
        return self._failed(TestResult(name, case.file, case.line, "fail"), mutant.document, answer, said, [])


_AT_ONCE = 2000
_WORDS: Mapping[str, str] = {
    "removed": "absent",
    "nulled": "null",
    "retyped": "of another type",
    "negated": "negative",
    "untraced": "of unknown origin",
}


def _name(case: Case) -> str:
    stem = case.file.replace("\\", "/").rpartition("/")[2]
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    return f"{stem}_cases/{case.name}"


def _in_groups(cases: Sequence[Case]) -> Iterator[list[tuple[Case, list[Mutant]]]]:
    """The cases with their variants, a few thousand variants at a time."""
    group: list[tuple[Case, list[Mutant]]] = []
    for case in cases:
        group.append((case, mutants_of(case)))
        if sum(len(mutants) for _, mutants in group) > _AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _unneeded(case: Case, used: set[tuple[str, str]]) -> Iterator[TestResult]:
    for one in case.allowances:
        if (one.at, one.mutation) not in used:
            name = f"{_name(case)} [{one.at} {one.mutation}]"
            message = "this mutation is allowed and loosens nothing; delete the line"
            yield TestResult(name, case.file, one.line, "fail", message)


def _by_opa(row: Mapping[str, JSON]) -> TestResult:
    outcome = "skip" if row.get("skip") else "error" if row.get("error") else "pass"
    outcome = "fail" if row.get("fail") and outcome == "pass" else outcome
    place = row.get("location")
    line = place.get("row", 1) if isinstance(place, dict) else 1
    error = row.get("error")
    message = str(error.get("message", "")) if isinstance(error, dict) else ""
    name = f"{row.get('package')}.{str(row.get('name')).partition('#')[0]}"
    duration = row.get("duration", 0)
    took = duration / 1e9 if isinstance(duration, int | float) else 0.0
    return TestResult(
        name, str(row["file"]), cast("int", line), outcome, message, str(row.get("output", "")), took
    )


def _agreed(here: Sequence[TestResult], there: Sequence[TestResult]) -> list[TestResult]:
    """The embedded engine's results; where the other says otherwise, a failure that says so."""
    others: dict[str, list[str]] = {}
    for row in there:
        others.setdefault(row.name, []).append(row.outcome)
    found = [_compared(row, others.pop(row.name, ["not run"])) for row in here]
    extra = [row for row in there if row.name in others]
    message = "the engines disagree: only opa runs this test"
    return [*found, *(replace(row, outcome="fail", message=message) for row in extra)]


def _compared(row: TestResult, theirs: Sequence[str]) -> TestResult:
    is_bad = any(outcome not in ("pass", "skip") for outcome in theirs)
    if is_bad == (row.outcome in ("fail", "error")):
        return row
    said = f"the engines disagree: embedded {row.outcome}, opa {', '.join(theirs)}"
    return replace(row, outcome="fail", message="\n".join(filter(None, [said, row.message])))


def _differ(answers: Sequence[Answer]) -> bool:
    def key(answer: Answer) -> tuple[object, ...]:
        items = (answer.reasons, answer.obligations)
        said = [sorted(json.dumps(item, sort_keys=True) for item in part) for part in items]
        is_failure = any(str(reason.get("code", "")).startswith("pdp_") for reason in answer.reasons)
        return (answer.effect, "pdp") if is_failure else (answer.effect, *said)

    return len({json.dumps(key(answer)) for answer in answers}) > 1


def _disagreement(answers: Sequence[Answer]) -> str:
    return "the engines disagree: " + ", ".join(json.dumps(a.as_json(), ensure_ascii=False) for a in answers)


def _late(answer: Answer) -> str:
    return f"{answer.too_late}; the guard denies such a call, whatever its rules say"


def _shown_lines(answer: Answer, decided: Sequence[Deciding]) -> list[str]:
    if not decided:
        return [] if answer.rules or answer.too_late else ["nothing permits it: no `permit` names this tool"]
    lines = ["nothing permits it; what did not hold:" if decided[0].is_silent else "decided by"]
    if answer.too_late:
        lines = ["where it got stuck"]
    for one in decided:
        lines.append(f"  {one.file}:{one.line}: {one.rule}")
        lines += [f"    {number:>4}  {text}" for number, text in enumerate(one.source, one.line)]
    return lines


def _deciding_json(one: Deciding) -> JSON:
    return {"rule": one.rule, "file": one.file, "line": one.line, "held": not one.is_silent}
