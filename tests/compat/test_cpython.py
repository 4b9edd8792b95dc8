"""CPython's own tests, inside `python-data`. What fails is on the published list, or fails outside too."""

from __future__ import annotations

from pathlib import Path

import pytest
from host import require

from compat.exceptions import EXCEPTIONS, Exempt, excuse
from compat.suites import Result, Suite, inside, outside, suite_with

DOCS = Path(__file__).parents[2] / "docs/compatibility.md"
#: Some seconds of each, in every run.
PARTS = {
    "test_json": ["test_json"],
    "test_re": ["test_re"],
    "test_sqlite3": ["test_sqlite3"],
    "test_threading": [
        f"test_threading.{name}" for name in ("LockTests", "ConditionTests", "EventTests", "TimerTests")
    ],
    "test_subprocess": [
        f"test_subprocess.POSIXProcessTestCase.test_{name}"
        for name in ("preexec", "close_fds", "pass_fds", "start_new_session", "terminate", "restore_signals")
    ],
    "test_asyncio": [f"test_asyncio.test_{name}" for name in ("futures", "locks", "queues", "runners")],
}


def checked(suite: Suite, tier: str, names: list[str], *, timeout_s: float) -> dict[str, Result]:
    """Run them: what fails and is not excused must fail without us too; what hangs is left out then."""
    left_out = [entry.pattern for entry in EXCEPTIONS if entry.hangs and tier in entry.tiers]
    for _ in range(4):
        results = inside(suite, tier, names, leave_out=left_out, timeout_s=timeout_s)
        failed = [name for name, r in results.items() if r.how in ("failed", "started")]
        ours = [n for n in failed if not excuse(n, results[n].why, tier) and passes_outside(suite, n)]
        assert not ours, "\n\n".join(f"{name}: {results[name]}" for name in ours)
        hung = [name for name, result in results.items() if result.how == "started"]
        if not hung:
            return results
        left_out += hung
    raise AssertionError(f"one after the other hangs: {left_out}")


def passes_outside(suite: Suite, name: str) -> bool:
    found = outside(suite, [name], timeout_s=30)
    return all(result.how in ("passed", "skipped") for result in found.values())


def usable(module: str, tier: str) -> Suite:
    require("cpython-tests")
    suite = suite_with(module, tier)
    if suite is None:
        pytest.skip(
            f"no {module} for an interpreter that {tier} can show; FUMEHOOD_CPYTHON may name one that has it"
        )
    return suite


@pytest.mark.parametrize("module", PARTS)
def test_a_part_of_cpythons_tests_passes(module: str, tier: str) -> None:
    results = checked(usable(module, tier), tier, PARTS[module], timeout_s=60)
    assert sum(result.how == "passed" for result in results.values()) >= 5, results


@pytest.mark.slow
@pytest.mark.parametrize("module", PARTS)
def test_all_of_cpythons_tests_pass_but_the_published_exceptions(module: str, tier: str) -> None:
    suite = usable(module, tier)
    results = checked(suite, tier, [module], timeout_s=400)
    assert sum(result.how == "passed" for result in results.values()) > 100
    for entry in EXCEPTIONS:
        if entry.pattern.startswith(module + ".") and tier in entry.tiers:
            assert is_needed(entry, suite, tier, results), f"take {entry.pattern} off the list: it passes now"


def is_needed(entry: Exempt, suite: Suite, tier: str, results: dict[str, Result]) -> bool:
    if entry.hangs:
        alone = inside(suite, tier, [entry.pattern], leave_out=[], timeout_s=10)
        return {result.how for result in alone.values()} == {"started"}
    return any(result.how == "failed" and entry.excuses(name, result.why) for name, result in results.items())


def test_the_published_list_is_this_one() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `test_")]
    assert rows == [f"| `{e.pattern}` | {' and '.join(e.tiers)} | {e.reason} |" for e in EXCEPTIONS]
