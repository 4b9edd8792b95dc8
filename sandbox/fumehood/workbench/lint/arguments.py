"""Arguments and tools that do not exist: a rule about them falls silent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fumehood.pdp.gate.context import Context, nearest
from fumehood.pdp.syntax import Body, Module, Rule
from fumehood.workbench.lint.findings import Finding, error
from fumehood.workbench.reach import Reach, arguments_in, bodies_of, whole
from fumehood.workbench.tools import ToolSchema

__all__ = ["check_arguments"]


def check_arguments(context: Context, tools: Sequence[ToolSchema], own: frozenset[str]) -> Iterator[Finding]:
    """Against the schemas of *tools*; only files in *own*: a pack is about many users' tools."""
    if not tools:
        return
    known = {tool.name: tool for tool in tools}
    reach = Reach(context)
    for module, rule in context.each_rule():
        if module.file.path not in own:
            continue
        for body in bodies_of(rule):
            parts = whole(rule, body)
            for name, start in reach.names(module, parts):
                if name not in known:
                    yield _no_tool(module, name, start, known)
            yield from _arguments(module, rule, body, reach.tools(module, body), known)


def _no_tool(module: Module, name: str, start: int, known: Mapping[str, ToolSchema]) -> Finding:
    message = f'no tool is called "{name}"{nearest(name, known)}'
    remedy = f"The tools are {_listed(known)}. A rule about another one is silent."
    return error("unknown-tool", module.problem(start, message, remedy))


def _arguments(
    module: Module,
    rule: Rule,
    body: Body,
    reached: frozenset[str] | None,
    known: Mapping[str, ToolSchema],
) -> Iterator[Finding]:
    names = known.keys() if reached is None else reached & known.keys()
    tools = [known[name] for name in sorted(names)]
    if not tools or any(tool.is_open for tool in tools):
        return
    has = {name for tool in tools for name in tool.properties}
    for named in arguments_in(module, whole(rule, body)):
        if named.name not in has:
            about = _listed([tool.name for tool in tools])
            message = f"no tool in reach ({about}) has an argument `{named.name}`{nearest(named.name, has)}"
            remedy = f"Write one of {_listed(has)}: what is never there is silent." if has else "It has none."
            yield error("unknown-argument", module.problem(named.start, message, remedy))


def _listed(names: Sequence[str] | set[str] | Mapping[str, object]) -> str:
    found = sorted(names)
    return ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
