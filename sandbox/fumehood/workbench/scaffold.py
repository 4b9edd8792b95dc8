"""A first policy about the user's own tools: one permit, one approve, one deny, tests, and a case table.

Pure: `scaffold` makes texts. What only a person can know is marked in them, and `fumehood policy check`
refuses each mark until somebody has decided. Names of tools and arguments are other people's text: one that
is not plain is refused or left out, so that none can become Rego.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fumehood.canonical import JSON, escape
from fumehood.errors import ConfigError
from fumehood.pdp.gate.names import KEYWORDS
from fumehood.workbench.lint.unfinished import MARK
from fumehood.workbench.scaffold_texts import cases_text, policy_text, tests_text
from fumehood.workbench.tools import FILE_NAME, ToolSchema, tools_to_text

__all__ = ["EXAMPLES", "Plan", "name_for", "plan_for", "scaffold", "write_new"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_TOOL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}\Z")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_VERBS = "read|get|list|search|find|lookup|look|show|fetch|query|describe|view|count|inspect"
_READS = re.compile(rf"(?:{_VERBS})(?:_|\b|[A-Z])")
_DEEDS = "pay|refund|issue|transfer|charge|delete|drop|remove|wipe|send|post|write|run|exec|grant|create"
_ACTS = re.compile(rf"(?:{_DEEDS})(?:_|\b|[A-Z])")
_READ_KINDS = frozenset({"read", "fetch"})
_RISKY = ("money", "destroy", "access", "egress", "execute", "write")
_CHECKS = {"string": "is_string", "number": "is_number", "integer": "is_number", "array": "is_array"}
_CHECKS |= {"boolean": "is_boolean", "object": "is_object"}
_SAMPLES: Mapping[str, JSON] = {
    "string": "example", "number": 10, "integer": 10, "array": ["example"], "boolean": True, "object": {},
}  # fmt: skip

#: What is scaffolded where no tools are given.
EXAMPLES = (
    ToolSchema(
        "read_ticket",
        {"properties": {"ticket_id": {"type": "integer"}}, "required": ["ticket_id"]},
        {"kind": "read"},
    ),
    ToolSchema(
        "issue_refund",
        {
            "properties": {"order_id": {"type": "string"}, "amount_usd": {"type": "number"}},
            "required": ["order_id", "amount_usd"],
        },
        {"kind": "money", "target": ["order_id"]},
    ),
)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument that the policy looks at."""

    name: str
    type: str

    @property
    def ref(self) -> str:
        is_plain = "-" not in self.name and self.name not in KEYWORDS
        return f"call.args.{self.name}" if is_plain else f"call.args[{json.dumps(self.name)}]"

    @property
    def pointer(self) -> str:
        return "/" + escape(self.name)

    @property
    def check(self) -> str:
        return f"{_CHECKS[self.type]}({self.ref})"


@dataclass(frozen=True, slots=True)
class Plan:
    """Which tool gets which rule. `bound` is the argument that is bounded, `trusted` the one that must come
    from the user; None where the tool has none that could be."""

    name: str
    reader: ToolSchema | None
    actor: ToolSchema
    others: tuple[str, ...]
    required: tuple[Argument, ...]
    bound: Argument | None
    trusted: Argument | None

    @property
    def most(self) -> int:
        """The bound that is proposed: an amount, a length, or the number of arguments."""
        if self.bound is None:
            return len(self.actor.properties)
        return 100 if self.bound.type in ("number", "integer") else 1000

    @property
    def measure(self) -> str:
        """What is compared with the bound."""
        if self.bound is None:
            return "count(call.args)"
        is_number = self.bound.type in ("number", "integer")
        return self.bound.ref if is_number else f"count({self.bound.ref})"

    @property
    def extras(self) -> tuple[str, ...]:
        """Where only the number of arguments is bounded: how those are called that are too many."""
        return tuple(f"extra_{n}" for n in range(self.most + 1 - len(self.required)))

    def sample(self, **changed: JSON) -> dict[str, JSON]:
        """Arguments within every bound."""
        return {argument.name: _SAMPLES[argument.type] for argument in self.required} | changed

    def beyond(self) -> dict[str, JSON]:
        """Arguments that are beyond the bound."""
        if self.bound is None:
            return self.sample() | dict.fromkeys(self.extras, 1)
        if self.bound.type in ("number", "integer"):
            return self.sample() | {self.bound.name: self.most + 1}
        is_text = self.bound.type == "string"
        return self.sample() | {self.bound.name: "x" * (self.most + 1) if is_text else [0] * (self.most + 1)}


def name_for(folder: Path) -> str:
    """A package name for a folder."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", folder.resolve().name).strip("_")
    return plain if plain != "policies" and _is_name(plain) else "agent"


def plan_for(name: str, tools: Sequence[ToolSchema]) -> Plan:
    """Who gets which rule.

    Raises:
        ConfigError: *name* is no package name, or a tool's name is not plain text.
    """
    if not _is_name(name):
        raise ConfigError(f"{name!r} cannot be a package's name; use letters, digits and _")
    for tool in tools:
        if not _TOOL.match(tool.name):
            raise ConfigError(f"{tool.name!r} is an odd name for a tool; use letters, digits and _ . : / -")
    readers = [tool for tool in tools if _is_reader(tool)]
    actors = sorted((tool for tool in tools if tool not in readers), key=_risk) or readers[-1:]
    if not actors:
        raise ConfigError("there is no tool to write a policy for")
    actor = actors[0]
    reader = next((tool for tool in readers if tool is not actor), None)
    others = tuple(tool.name for tool in tools if tool is not actor and tool is not reader)
    arguments = [Argument(n, t) for n in actor.properties if _ARGUMENT.match(n) and (t := _type(actor, n))]
    needed = actor.schema.get("required")
    is_needed = {name for name in needed if isinstance(name, str)} if isinstance(needed, list) else set()
    bound = _bound(arguments, is_needed)
    required = tuple(a for a in arguments if a.name in is_needed or a == bound)
    return Plan(name, reader, actor, others, required, bound, _trusted(actor, required))


def scaffold(name: str, tools: Sequence[ToolSchema] = ()) -> dict[str, str]:
    """The files of a new policy folder: name → text. Without *tools* it is about two examples.

    Raises:
        ConfigError: as `plan_for`.
    """
    plan = plan_for(name, tools or EXAMPLES)
    files = {
        f"{name}.rego": policy_text(plan, MARK),
        f"{name}_test.rego": tests_text(plan),
        f"{name}_cases.yaml": cases_text(plan, MARK),
    }
    return files | ({FILE_NAME: tools_to_text(tools)} if tools else {})


def write_new(folder: Path, files: Mapping[str, str]) -> None:
    """Write *files* into a new or empty folder; nothing is ever overwritten.

    Raises:
        ConfigError: something is there already, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; name a new folder, below {folder} if you like")
        for name, text in files.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}") from error


def _is_name(name: str) -> bool:
    return bool(_NAME.match(name)) and name not in KEYWORDS


def _is_reader(tool: ToolSchema) -> bool:
    kind = tool.annotations.get("kind")
    return kind in _READ_KINDS if kind else bool(_READS.match(tool.name))


def _risk(tool: ToolSchema) -> tuple[int, bool, bool, bool, str]:
    """The most dangerous first: by its kind, by its verb, then those with an amount, or with any argument."""
    kind = str(tool.annotations.get("kind", ""))
    has_number = any(_type(tool, name) in ("number", "integer") for name in tool.properties)
    rank = _RISKY.index(kind) if kind in _RISKY else len(_RISKY)
    return (rank, not _ACTS.match(tool.name), not has_number, not tool.properties, tool.name)


def _type(tool: ToolSchema, argument: str) -> str:
    """The argument's one JSON type; "" if it has several, or none that is known."""
    found = tool.types_of(argument) - {"null"}
    return next(iter(found)) if len(found) == 1 and found <= _CHECKS.keys() else ""


def _bound(arguments: Sequence[Argument], needed: set[str]) -> Argument | None:
    """What to bound: a number, else a text or a list; rather one that is always there."""
    for types in (("number", "integer"), ("string", "array")):
        found = [argument for argument in arguments if argument.type in types]
        if found:
            return next((argument for argument in found if argument.name in needed), found[0])
    return None


def _trusted(tool: ToolSchema, required: Sequence[Argument]) -> Argument | None:
    """Where the side effect goes: what the integrator said, else the first argument."""
    targets = tool.annotations.get("target")
    named = [a for a in required if isinstance(targets, list) and a.name in targets]
    return next(iter([*named, *required]), None)
