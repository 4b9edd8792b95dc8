"""A small policy folder with a case table, for tests."""

from __future__ import annotations

from pathlib import Path

from fumehood.pdp.rego_tests import TestResult
from fumehood.workbench import Report

POLICY = """# METADATA
# title: Refunds
package policies.pay

import data.fumehood.call

# METADATA
# title: Small
permit if {
	call.tool == "pay"
	is_number(call.args.amount)
	call.args.amount > 0
	call.args.amount <= 100
}

# METADATA
# title: Reading
permit if call.tool == "read"

# METADATA
# title: Large
deny contains {"reason": "too much", "controls": ["ASI02"]} if {
	call.tool == "pay"
	call.args.amount > 100
}

# METADATA
# title: Never to evil
deny contains "never there" if {
	call.tool == "pay"
	call.args.to == "evil"
}

# METADATA
# title: Ask
approve contains {"reason": "not named by the user", "risk": "high"} if {
	call.tool == "pay"
	not _is_trusted
}

_is_trusted if call.trusted("/amount")

# METADATA
# title: Counted
limit contains {"key": "pay", "max": 3, "per_s": 60} if call.tool == "pay"
"""

CASES = """cases:
  - name: small and named
    input: {tool: pay, args: {amount: 40}, origins: {/amount: user}}
    expect:
      effect: permit
      obligations: [{type: limit, max: 3}]
  - name: small and unknown
    input: {tool: pay, args: {amount: 40}}
    expect: {effect: ask, reasons: [not named by the user]}
  - name: large
    input: {tool: pay, args: {amount: 400}}
    expect: {effect: deny, reasons: [{reason: too much, rule: policies.pay.deny, controls: [ASI02]}]}
"""


def folder(where: Path, *, cases: str = CASES, policy: str = POLICY, **more: str) -> Path:
    """A policy folder; `a_dot_json` is a.json."""
    where.mkdir(parents=True, exist_ok=True)
    (where / "pay.rego").write_text(policy)
    if cases:
        (where / "pay_cases.yaml").write_text(cases)
    for name, text in more.items():
        (where / name.replace("_dot_", ".")).write_text(text)
    return where


def failed(report: Report) -> dict[str, TestResult]:
    return {row.name: row for row in report.results if row.outcome != "pass"}


def row(text: str) -> str:
    """A table of one row with this input, which expects a denial."""
    return f"cases:\n  - name: one\n    input: {text}\n    expect: {{effect: deny}}\n"
