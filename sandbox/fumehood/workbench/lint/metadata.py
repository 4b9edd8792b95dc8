"""METADATA: that it is there, can be read, and names controls that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import Problem
from fumehood.pdp.combine import PUBLIC
from fumehood.pdp.gate.context import Context, nearest
from fumehood.pdp.syntax import Module, Node, Rule, constant_of, kind_of, start_of
from fumehood.workbench.lint.findings import Finding, warning
from fumehood.workbench.located import Located, YamlProblem, read_yaml

__all__ = ["CONTROLS", "check_metadata", "is_control"]

#: Control ids: OWASP Top 10 for agentic applications, and for LLM applications; MITRE ATLAS by its form.
CONTROLS = frozenset(
    {f"ASI{n:02}" for n in range(1, 11)}
    | {f"LLM{n:02}:{year}" for n in range(1, 11) for year in (2023, 2025)}
)
_ATLAS = re.compile(r"AML\.(?:T\d{4}(?:\.\d{3})?|M\d{4}|TA\d{4})\Z")
_OWN = re.compile(r"[\w.-]+/\S+\Z")
_BLOCK = re.compile(rb"^[ \t]*#[ \t]*METADATA[ \t]*\r?$", re.MULTILINE)
_SUBJECT = re.compile(rb"\S")
_REMEDY = "Write `# METADATA`, `# title: …` in the lines above it."


def is_control(name: str) -> bool:
    """A known id; or one of the author's own, `catalogue/id`."""
    return name in CONTROLS or bool(_ATLAS.match(name) or _OWN.match(name))


def check_metadata(context: Context) -> Iterator[Finding]:
    documented: set[str] = set()
    for module in context.modules:
        blocks = _blocks(module)
        yield from (found for found in blocks.values() if isinstance(found, Finding))
        yield from _controls_in_blocks(module, blocks)
        yield from _rules(module, blocks, _whole_documents(module, blocks))
        if module.package_start in _subjects(module, blocks):
            documented.add(module.name)
    for name, module in {m.name: m for m in reversed(context.modules)}.items():
        if name not in documented:
            message = f"package {name} has no METADATA"
            yield warning("metadata", module.problem(module.package_start, message, _REMEDY))


def _rules(
    module: Module, blocks: Mapping[int, Located | Finding], everywhere: frozenset[str]
) -> Iterator[Finding]:
    subjects = _subjects(module, blocks)
    for rule in module.rules:
        if rule.name not in PUBLIC or rule.shape == "default":
            continue
        if rule.start not in subjects and rule.name not in everywhere:
            message = f"this `{rule.name}` has no METADATA"
            yield warning("metadata", module.problem(rule.start, message, _REMEDY))
        yield from _controls_in_item(module, rule)


def _whole_documents(module: Module, blocks: Mapping[int, Located | Finding]) -> frozenset[str]:
    """The rules of which a block says `scope: document`: it holds for every definition."""
    ends = {
        found.start()
        for end, block in blocks.items()
        if isinstance(block, Located)
        and isinstance(block.value, dict)
        and block.value.get("scope") == "document"
        and (found := _SUBJECT.search(module.encoded, end))
    }
    return frozenset(rule.name for rule in module.rules if rule.start in ends)


def _blocks(module: Module) -> dict[int, Located | Finding]:
    """Each METADATA block by the offset where it ends: its values, or why it cannot be read."""
    found: dict[int, Located | Finding] = {}
    for begin in _BLOCK.finditer(module.encoded):
        at = begin.end() + 1
        lines: list[str] = []
        while (line := _comment_line(module.encoded, at)) is not None:
            lines.append(line)
            at = _next_line(module.encoded, at)
        first = module.encoded[: begin.end()].count(b"\n") + 2
        try:
            found[at] = read_yaml("\n".join(lines), module.file.path, line=first)
        except YamlProblem as error:
            found[at] = warning("metadata", error.problem)
    return found


def _comment_line(text: bytes, at: int) -> str | None:
    line = text[at : _next_line(text, at)].decode(errors="replace").strip()
    return line[1:].removeprefix(" ").rstrip() if line.startswith("#") else None


def _next_line(text: bytes, at: int) -> int:
    found = text.find(b"\n", at)
    return len(text) if found < 0 else found + 1


def _subjects(module: Module, blocks: Mapping[int, object]) -> frozenset[int]:
    """The offsets of the rules and the package that stand right behind a block."""
    behind = {found.start() for end in blocks if (found := _SUBJECT.search(module.encoded, end))}
    return frozenset(
        start for start in (module.package_start, *(r.start for r in module.rules)) if start in behind
    )


def _controls_in_blocks(module: Module, blocks: Mapping[int, Located | Finding]) -> Iterator[Finding]:
    for block in blocks.values():
        if isinstance(block, Finding) or not isinstance(block.value, dict):
            continue
        custom = block.value.get("custom")
        controls = custom.get("controls") if isinstance(custom, dict) else None
        for index, name in enumerate(controls if isinstance(controls, list) else []):
            line, column = block.places.get(("custom", "controls", index), (1, 1))
            yield from _control(name, _at_line(module, line, column + 2, name))


def _at_line(module: Module, line: int, column: int, name: JSON) -> Problem:
    source = module.file.text.split("\n")[line - 1].replace("\t", " ")
    found = source.find(str(name))
    return Problem(module.file.path, line, found + 1 if found >= 0 else column, "", "", source)


def _controls_in_item(module: Module, rule: Rule) -> Iterator[Finding]:
    if rule.key is None or kind_of(rule.key)[0] != "Object":
        return
    for _, name, value in cast("list[tuple[object, Node, Node]]", kind_of(rule.key)[1]["fields"]):
        kind, body = kind_of(value)
        if constant_of(name) == "controls" and kind in ("Array", "Set"):
            for item in cast("Sequence[Node]", body["items"]):
                place = module.problem(start_of(kind_of(item)[1]), "", "")
                yield from _control(constant_of(item), place)


def _control(name: JSON, place: Problem) -> Iterator[Finding]:
    if isinstance(name, str) and not is_control(name):
        message = f"nobody knows a control `{name}`{nearest(name, CONTROLS)}"
        remedy = "Write ASI01, LLM01:2025, AML.T0051; one of your own catalogue as `catalogue/id`."
        yield warning("unknown-control", place._replace(message=message, remedy=remedy))
