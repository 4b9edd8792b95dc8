"""The policy author's workbench: a first policy, lint, case tables, coverage and mutations; what was decided,
why, and what another policy would have decided."""

from fumehood.workbench.run import Report, run_policy_tests

__all__ = ["Report", "run_policy_tests"]
