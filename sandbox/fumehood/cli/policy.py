"""`fumehood policy …`: what policies may not say, and what their tests say about them. One verb, one file."""

from __future__ import annotations

import click

from fumehood.cli.policy_bundles import build, inspect
from fumehood.cli.policy_check import check
from fumehood.cli.policy_new import new
from fumehood.cli.policy_test import test

__all__ = ["policy"]


@click.group()
def policy() -> None:
    """Write, check and test policies."""


policy.add_command(new)
policy.add_command(check)
policy.add_command(test)
policy.add_command(build)
policy.add_command(inspect)
