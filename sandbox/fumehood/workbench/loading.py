"""Policies that may decide, with their syntax trees: read once, parsed once."""

from __future__ import annotations

from collections.abc import Sequence

from fumehood.errors import Problem
from fumehood.pdp import Bundle, load_bundle, sources
from fumehood.pdp.keys import Keys
from fumehood.pdp.sources import PolicyFile, Source
from fumehood.pdp.syntax import Module, module_of
from fumehood.workbench.tools import ToolSchema, tools_beside

__all__ = ["load_parsed", "tools_of"]


def tools_of(given: Sequence[Source], signed_by: Keys = ()) -> tuple[ToolSchema, ...]:
    """What a `tools.json` among the sources says of the tools; () without one.

    Raises:
        ConfigError: there is no such source, or it cannot be read.
    """
    return tuple(tools_beside(sources.read(given, signed_by).files))


def load_parsed(
    given: Sequence[Source], *, signed_by: Keys = (), is_split: bool = True
) -> tuple[Bundle, tuple[Module, ...]]:
    """The bundle of folders, bundles and packs, and the modules in it that decide.

    Raises:
        ConfigError: the policies cannot be used.
    """
    modules: list[Module] = []

    def parse(file: PolicyFile) -> Module | Problem:
        found = module_of(file)
        if isinstance(found, Module) and not file.is_test:
            modules.append(found)
        return found

    bundle = load_bundle(given, signed_by=signed_by, is_split=is_split, parse=parse)
    return bundle, tuple(modules)
