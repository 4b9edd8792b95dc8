"""The policy author's workbench: case tables, coverage, mutations, lint, and a first policy to begin with."""

from fumehood.workbench.run import Report, run_policy_tests

__all__ = ["Report", "run_policy_tests"]
