"""The command line: thin, no decisions of its own. `fumehood --help` loads nothing but click."""

from fumehood.cli.root import main

__all__ = ["main"]
