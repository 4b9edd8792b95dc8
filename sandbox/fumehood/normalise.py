"""Every parsed form of a call's arguments, for documents that people write: case tables, tests.

A guard computes only what its policies read (`parsed`). Where relative paths lead is not known here.
"""

from __future__ import annotations

from fumehood.canonical import JSON
from fumehood.model import PARSED_KINDS
from fumehood.parsed import parsed_arguments

__all__ = ["normalised"]


def normalised(args: JSON, *, cwd: str | None = None, sql_dialect: str | None = None) -> JSON:
    """`context.normalised` for *args*, with all kinds and pointers; see `docs/parsed-arguments.md`."""
    return parsed_arguments(args, dict.fromkeys(PARSED_KINDS), cwd=cwd, sql_dialect=sql_dialect)
