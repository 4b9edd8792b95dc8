"""Which definitions of a rule can apply to a tool, so that a thousand rules do not cost what a thousand cost.

Most definitions begin with `call.tool == "x"` or `call.tool in {…}`. Where that is the *first*
statement of every body it decides alone: nothing after it is evaluated for another tool, errors
included, in either engine. Such definitions are written out for the embedded engine under a name of
their own (`deny__3`), and for a tool only the names that can apply are asked. Anything that is not
understood applies to every tool. Nothing is left out of what the author wrote or what OPA is given.

The answer names the tool that the policies saw; should it not be the one that was asked about, the
caller asks about that one instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from fumehood.pdp.combine import ENTRY, PERMITS, PHASES, PUBLIC
from fumehood.pdp.expand import Replacement, expanded
from fumehood.pdp.near import definitions, unused_prefix
from fumehood.pdp.syntax import Body, Module, Node, Rule, kind_of, ref_of

__all__ = ["Index", "Split", "entry_module", "split", "whole"]

_MAX_ITEMS = 20_000  # of all entry points together; beyond that nothing is split; below 2**16 (see worker.py)
_TOOL = ("data", "fumehood", "call", "tool")
_ID = ("input", "resource", "id")
_TEXTS = ("String", "RawString")

Tools = frozenset[str]


@dataclass(frozen=True, slots=True)
class Group:
    """Definitions of one rule that apply to the same `tools`; `name` is what they are called instead.

    `is_alone`: they name nothing of their package, and are written into the package of the entry points:
    the embedded engine looks at every file where one package names another.
    """

    package: str
    rule: str
    name: str
    tools: Tools
    is_alone: bool


@dataclass(frozen=True, slots=True)
class Split:
    """What the analysis found: `groups`, and for each file its definitions (by offset) that are in one."""

    groups: tuple[Group, ...]
    members: Mapping[str, Mapping[int, Group]]
    rules: Mapping[str, tuple[str, ...]]  # package → rules that some definition is left of
    near: str = (
        ""  # how the names of values of data.fumehood.call begin that stand beside groups that are alone
    )

    def texts(self, module: Module) -> Iterator[tuple[str, str]]:
        """*module* for the embedded engine, (name, text): what stays in its package, and what is alone."""
        members = self.members.get(module.file.name, {})
        heads = [(start, start + len(group.rule), group.name) for start, group in members.items()]
        stay: list[Replacement] = []
        apart: list[Replacement] = []
        starts = [rule.start for rule in module.rules]
        for rule, end in zip(module.rules, [*starts[1:], len(module.encoded)], strict=True):
            group = members.get(rule.ref.start)
            (apart if group is not None and group.is_alone else stay).append(_blank(module, rule.start, end))
        if stay or not apart:
            yield module.file.name, expanded(module, heads, instead=apart)
        if apart:
            start, end, lines = _blank(module, 0, starts[0])
            package = (start, end, f"package {ENTRY}{lines}")
            yield module.file.name, expanded(module, heads, instead=[package, *stay], near=self.near)


def _blank(module: Module, start: int, end: int) -> Replacement:
    """The lines between, empty."""
    return start, end, "\n" * module.encoded.count(b"\n", start, end)


@dataclass(frozen=True, slots=True)
class Index:
    """The entry points of the embedded engine. `names` are their full names, those for any tool first."""

    names: tuple[str, ...]
    numbers: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (phase, tool) → place in `names`

    def number(self, phase: str, tool: str) -> int:
        """The place in `names` of the entry point to ask about *tool*."""
        return self.numbers.get((phase, tool), _PHASE_NUMBER[phase])


_PHASE_NUMBER = {phase: number for number, phase in enumerate(PHASES)}


def split(modules: Sequence[Module], rules: Mapping[str, Sequence[str]]) -> Split:
    """Find the definitions that apply to few tools. *rules*: package → its public rules."""
    used = {name for module in modules for name in _used(module)}
    own: dict[str, set[str]] = {}
    for module in modules:
        own.setdefault(module.package[-1], set()).update(rule.name for rule in module.rules)
    groups: dict[tuple[str, str, Tools, bool], Group] = {}
    members: dict[str, dict[int, Group]] = {}
    left: dict[str, set[str]] = {}
    for module in modules:
        package = module.package[-1]
        for rule in module.rules:
            if rule.name not in PUBLIC:
                continue
            tools = None if (package, rule.name) in used else tools_of(module, rule)
            if tools is None:
                left.setdefault(package, set()).add(rule.name)
                continue
            is_alone = _is_alone(module, rule, own[package])
            key = (package, rule.name, tools, is_alone)
            name = f"{package}__{rule.name}__{len(groups)}" if is_alone else f"{rule.name}__{len(groups)}"
            group = groups.setdefault(key, Group(package, rule.name, name, tools, is_alone))
            members.setdefault(module.file.name, {})[rule.ref.start] = group
    if sum(len(group.tools) for group in groups.values()) > _MAX_ITEMS:
        return whole(rules)
    rest = {name: tuple(sorted(left[name])) for name in sorted(left)}
    return Split(tuple(groups.values()), members, rest, unused_prefix(modules))


def whole(rules: Mapping[str, Sequence[str]]) -> Split:
    """Nothing apart: each of *rules* (package → its public rules) is asked about every tool."""
    return Split((), {}, {name: tuple(found) for name, found in rules.items()})


def _is_alone(module: Module, rule: Rule, own: set[str]) -> bool:
    """Whether *rule* means the same in another package."""
    bound = {imported.alias for imported in module.imports if imported.path[:1] != ("data",)}
    is_below = b"\n" in module.encoded[: module.rules[0].start]
    return is_below and not any(ref.root in own or ref.root in bound for _, ref in rule.references())


def tools_of(module: Module, rule: Rule) -> Tools | None:
    """The only tools that *rule* can say anything about, or raise for; None if that is not understood."""
    if rule.shape not in ("value", "set") or rule.args or not rule.bodies:
        return None
    found = [_tools_of_body(module, body) for body in rule.bodies]
    if None in found:
        return None
    return frozenset().union(*cast("list[Tools]", found))


def _tools_of_body(module: Module, body: Body) -> Tools | None:
    if not body.statements or body.statements[0].get("with_mods"):
        return None
    kind, literal = kind_of(cast("Node", body.statements[0]["literal"]))
    if kind != "Expr":
        return None
    kind, expression = kind_of(cast("Node", literal["expr"]))
    if kind == "BoolExpr" and expression["op"] == "Eq":
        left, right = cast("Node", expression["lhs"]), cast("Node", expression["rhs"])
        for one, other in ((left, right), (right, left)):
            if _is_tool(module, one) and kind_of(other)[0] in _TEXTS:
                return frozenset({cast("str", kind_of(other)[1]["value"])})
    is_membership = kind == "Membership" and expression.get("key") is None
    if is_membership and _is_tool(module, cast("Node", expression["value"])):
        return _texts(cast("Node", expression["collection"]))
    return None


def _texts(node: Node) -> Tools | None:
    """The members of a set or list of texts that is written out."""
    kind, body = kind_of(node)
    if kind not in ("Set", "Array"):
        return None
    items = [kind_of(item) for item in cast("list[Node]", body["items"])]
    if any(item_kind not in _TEXTS for item_kind, _ in items):
        return None
    return frozenset(cast("str", item["value"]) for _, item in items)


def _is_tool(module: Module, node: Node) -> bool:
    if kind_of(node)[0] not in ("Var", "RefDot", "RefBrack"):
        return False
    ref = ref_of(node)
    if ref is None or None in ref.parts:
        return False
    for imported in module.imports:
        if imported.alias == ref.root:
            return (*imported.path, *ref.parts) in (_TOOL, _ID)
    return (ref.root, *ref.parts) in (_TOOL, _ID)


def _used(module: Module) -> Iterator[tuple[str, str]]:
    """The public rules that an expression of *module* may name: (package, rule)."""
    paths = [imported.path for imported in module.imports]
    for rule in module.rules:
        for _, ref in rule.references():
            if ref.root in PUBLIC:
                yield module.package[-1], ref.root
            paths.append(ref.constant)
    for path in paths:
        if path[:2] == ("data", "policies") and len(path) >= 4:
            yield path[2], path[3]


# --- the module that is asked ------------------------------------------------------------------------


def entry_module(found: Split) -> tuple[str, Index]:
    """The Rego module with an entry point for each set of groups that some tool needs, and the index to it.

    An entry point's value is [tool, {package: {rule: found}}, [[package, rule, items]]].
    """
    lines = [f"package {ENTRY}"]
    seen = ".".join(_TOOL)
    if any(group.is_alone for group in found.groups):
        seen = f"{found.near}tool"
        lines += definitions(found.near)
    names: list[str] = []
    numbers: dict[tuple[str, str], int] = {}
    for phase in PHASES:
        lines += [_base(phase, found.rules), _entry(phase, phase, (), seen)]
        names.append(phase)
    for phase in PHASES:
        known: dict[tuple[str, ...], int] = {}
        for tool, groups in _by_tool(g for g in found.groups if g.rule in PHASES[phase]).items():
            key = tuple(f"{group.package}.{group.name}" for group in groups)
            if key not in known:
                known[key] = len(names)
                names.append(f"{phase}_{len(names)}")
                lines.append(_entry(names[-1], phase, groups, seen))
            numbers[phase, tool] = known[key]
    return "\n\n".join(lines) + "\n", Index(tuple(f"data.{ENTRY}.{name}" for name in names), numbers)


def _by_tool(groups: Iterable[Group]) -> Mapping[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        for tool in group.tools:
            found.setdefault(tool, []).append(group)
    return found


def _base(phase: str, rules: Mapping[str, Sequence[str]]) -> str:
    """What no index can tell: asked about every tool."""
    packages = []
    for name, defined in rules.items():
        items = [f'"{rule}": {_found(name, rule)}' for rule in PHASES[phase] if rule in defined]
        if items:
            packages.append(f"\n\t{json.dumps(name)}: {{\n\t\t" + ",\n\t\t".join(items) + "\n\t}")
    return f"_{phase} := {{" + ",".join(packages) + "\n}"


def _entry(name: str, phase: str, groups: Sequence[Group], seen: str) -> str:
    items = (f'\n\t["{group.package}", "{group.rule}", {_items(group)}]' for group in groups)
    return f"{name} := [{seen}, _{phase}, [" + ",".join(items) + "\n]]"


def _items(group: Group) -> str:
    """A group is what its definitions are: true or undefined, or a set."""
    path = group.name if group.is_alone else f"data.policies.{group.package}.{group.name}"
    return f"[true | {path}]" if group.rule in PERMITS else path


def _found(package: str, rule: str) -> str:
    """[] where the rule is undefined, else [[type name, value]]."""
    return f"[[type_name(v), v] | v := data.policies.{package}.{rule}]"
