"""`fumehood policy …`: write policies, check, test and explain them, and say what they would change."""

from __future__ import annotations

import click

from fumehood.cli.policy_bench import bench
from fumehood.cli.policy_bundles import build, inspect
from fumehood.cli.policy_check import check
from fumehood.cli.policy_explain import evaluate, explain
from fumehood.cli.policy_new import new
from fumehood.cli.policy_replay import replay
from fumehood.cli.policy_report import report
from fumehood.cli.policy_test import test

__all__ = ["policy"]


@click.group()
def policy() -> None:
    """Write, check, test and explain policies."""


for command in (new, check, test, evaluate, explain, replay, report, bench, build, inspect):
    policy.add_command(command)
