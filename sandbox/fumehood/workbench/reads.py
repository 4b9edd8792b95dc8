"""What of the policy input a rule may read, found soundly: where it cannot be told, everything.

A recorded input is not always whole: secrets were taken out of it, and the history is only there if
a rule read it then. A decision that could hang on what is missing cannot be told from the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import cast

from fumehood.canonical import JSON
from fumehood.model import PARSED_PLACES, Phase
from fumehood.normalise import unrecorded
from fumehood.pdp.combine import PHASES
from fumehood.pdp.gate.context import Context, path_of
from fumehood.pdp.syntax import Body, Module, Node, Rule, constant_of, kind_of, ref_of
from fumehood.redaction import MARK

__all__ = ["Path", "Reads", "marked_in", "missing_in", "pointer_of"]

Path = tuple[str, ...]  # steps below `input`

_ARGS: Path = ("action", "properties", "args")
_EVERYTHING: Path = ()
_CALL: dict[str, tuple[Path, ...]] = {
    "tool": (("resource", "id"),),
    "kind": (("resource", "properties", "annotations", "kind"),),
    "runs": (("resource", "properties", "runs"),),
    "args": (_ARGS,),
    "connect_to": (("action", "properties", "connect"),),
    "result": (("action", "properties", "result"),),
    "is_error": (("action", "properties", "is_error"),),
    "targets": (_ARGS, ("resource", "properties", "annotations")),
}
_FORMS: Mapping[str, tuple[str, ...]] = {
    **{kind: (place,) for kind, place in PARSED_PLACES.items()},
    "inside": (PARSED_PLACES["path"], PARSED_PLACES["file"]),
}
_PARTS = ("history", "counters", "provenance", "normalised")  # of context: there, or else not recorded


def pointer_of(path: Path) -> str:
    """The JSON Pointer (RFC 6901) of a path."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


def missing_in(document: JSON, *, is_marked: bool = True, with_forms: bool = True) -> frozenset[Path]:
    """Where a recorded policy input is not what was decided on: redacted, or not recorded (of the parsed
    arguments a guard only works out those that its rules read).

    *is_marked* False: nothing in it is redacted, as its text does not hold the mark. *with_forms* False: no
    rule reads a parsed argument, so that it does not matter which of them are missing.
    """
    found = set(marked_in(document, (), MARK)) if is_marked else set()
    whole = document if isinstance(document, dict) else {}
    context, action = whole.get("context"), whole.get("action")
    if isinstance(action, dict) and action.get("name") == Phase.EXECUTE_TOOL.value:
        there = context if isinstance(context, dict) else {}
        found |= {("context", part) for part in _PARTS if part not in there}
        forms = there.get("normalised")
        if with_forms and isinstance(forms, dict):
            found |= {("context", "normalised", *keys) for keys in unrecorded(_args(action), forms)}
    return frozenset(found)


def _args(action: Mapping[str, JSON]) -> JSON:
    properties = action.get("properties")
    return properties.get("args") if isinstance(properties, dict) else None


def marked_in(value: JSON, path: Path, mark: str) -> Iterator[Path]:
    """Where in *value*, which stands at *path*, something was replaced by *mark*."""
    if isinstance(value, str):
        if mark in value:
            yield path
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from [path] if mark in name else marked_in(item, (*path, name), mark)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from marked_in(item, (*path, str(i)), mark)


class Reads:
    """What the rules of some modules may read."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self._context = Context(tuple(modules), {})
        self._rules: dict[tuple[str, str], frozenset[Path]] = {}
        self.paths = lru_cache(maxsize=4096)(self._paths)
        self.may_matter = lru_cache(maxsize=4096)(self._may_matter)

    def _may_matter(self, phase: Phase, tool: str, missing: frozenset[Path]) -> frozenset[Path]:
        """Those of *missing* that a decision about *tool* may hang on."""
        return touched(self.paths(phase, tool), missing)

    def _paths(self, phase: Phase, tool: str) -> frozenset[Path]:
        """All that a decision about *tool* may hang on."""
        read: set[Path] = set()
        for name, package in self._context.packages.items():
            for rule in PHASES[phase.value]:
                for module, defined in package.rules.get(rule, ()):
                    read |= self.definition(name, module, defined, tool)
        return frozenset(read)

    def definition(
        self, package: str, module: Module, rule: Rule, tool: str | None = None
    ) -> frozenset[Path]:
        """What one definition may read; nothing, where its first conditions name other tools than *tool*."""
        found: set[Path] = set()
        bodies = rule.bodies or (Body((), is_else=False, value=None, start=rule.start),)
        for body in bodies:
            if tool is None or len(bodies) > 1 or _may_apply(module, body, tool):
                for part in (rule.args, rule.value, rule.key, rule.head, body.statements, body.value):
                    found |= self.part(package, module, part)
        return frozenset(found)

    def part(self, package: str, module: Module, value: object) -> frozenset[Path]:
        """What an expression, a statement or a list of such may read."""
        return frozenset(self._found(package, module, value))

    def _found(self, package: str, module: Module, value: object) -> Iterator[Path]:
        if isinstance(value, list | tuple):
            for item in value:
                yield from self._found(package, module, item)
        elif isinstance(value, dict):
            for key, item in value.items():
                is_reference = key in ("Var", "RefDot", "RefBrack") and isinstance(item, dict)
                if key == "Call" and isinstance(item, dict):
                    yield from self._called(package, module, item)
                elif is_reference and (ref := ref_of({key: item})) is not None:
                    yield from self._named(package, path_of(module, ref.root, ref.parts))
                    yield from self._indices(package, module, {key: item})
                else:
                    yield from self._found(package, module, item)

    def _indices(self, package: str, module: Module, node: Node) -> Iterator[Path]:
        kind, body = kind_of(node)
        while kind in ("RefDot", "RefBrack"):
            if kind == "RefBrack":
                yield from self._found(package, module, body["index"])
            kind, body = kind_of(cast("Node", body["refr"]))

    def _called(self, package: str, module: Module, call: Node) -> Iterator[Path]:
        params = cast("list[Node]", call["params"])
        ref = ref_of(cast("Node", call["fcn"]))
        path = path_of(module, ref.root, ref.parts) if ref else (None,)
        if path[:3] == ("data", "fumehood", "call") and len(path) == 4:
            yield from _of_function(path[3] or "", [constant_of(p) for p in params])
        elif path[0] in ("data", "input", None) or len(path) == 1:
            yield from self._named(package, path)
        yield from self._found(package, module, params)

    def _named(self, package: str, path: Sequence[str | None]) -> Iterator[Path]:
        """What a reference by its full path reads."""
        known: list[str] = []
        for step in path:
            if step is None:
                break
            known.append(step)
        match known:
            case ["input", *rest]:
                yield tuple(rest)
            case ["data", "fumehood", "call", name, *rest] if name in _CALL:
                yield from ((*base, *(rest if len(_CALL[name]) == 1 else ())) for base in _CALL[name])
            case ["data", "policies", name, rule, *_]:
                yield from self._rule(f"policies.{name}", rule)
            case ["data"] | ["data", "fumehood" | "policies", *_] | []:
                yield _EVERYTHING
            case [name, *_] if name != "data":
                yield from self._rule(package, name)

    def _rule(self, package: str, name: str) -> frozenset[Path]:
        """What the rule of this name may read; a local variable reads nothing."""
        key = (package, name)
        if key not in self._rules:
            self._rules[key] = frozenset()  # the gate refuses recursion
            defined = self._context.packages[package].rules.get(name, ()) if self._has(package) else ()
            parts = (self.definition(package, module, rule) for module, rule in defined)
            self._rules[key] = frozenset().union(*parts) if self._has(package) else frozenset({_EVERYTHING})
        return self._rules[key]

    def _has(self, package: str) -> bool:
        return package in self._context.packages


def touched(read: Iterable[Path], missing: frozenset[Path]) -> frozenset[Path]:
    """Those of *missing* that are part of, or hold, something that is read."""
    paths = tuple(read)
    return frozenset(m for m in missing if any(m[: len(r)] == r[: len(m)] for r in paths))


def _of_function(name: str, given: Sequence[JSON]) -> Iterator[Path]:
    first = given[0] if given else None
    if name == "arg" and given:
        yield (*_ARGS, first) if isinstance(first, str) else _ARGS
    elif name in _FORMS:
        for place in _FORMS[name]:
            yield ("context", "normalised", place, *([first] if isinstance(first, str) else []))
    elif name in ("trusted", "origin"):
        yield ("context", "provenance")
        yield (*_ARGS, *_steps(first)) if isinstance(first, str) else _ARGS
    else:
        yield _EVERYTHING


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _may_apply(module: Module, body: Body, tool: str) -> bool:
    """False if the body begins with a condition that only other tools meet."""
    for statement in body.statements[:1]:
        kind, literal = kind_of(cast("Node", statement["literal"]))
        named = _tools(module, cast("Node", literal["expr"])) if kind == "Expr" else None
        if named is not None and tool not in named:
            return False
    return True


def _tools(module: Module, expression: Node) -> frozenset[str] | None:
    """The tools that `call.tool == "x"` or `call.tool in {…}` names."""
    kind, body = kind_of(expression)
    if kind == "BoolExpr" and body["op"] == "Eq":
        sides = [cast("Node", body["lhs"]), cast("Node", body["rhs"])]
        other = [s for s in sides if not _is_tool(module, s)]
        value = constant_of(other[0]) if len(other) == 1 else None
        return frozenset({value}) if isinstance(value, str) else None
    if kind == "Membership" and not body["key"] and _is_tool(module, cast("Node", body["value"])):
        value = constant_of(cast("Node", body["collection"]))
        is_names = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return frozenset(cast("list[str]", value)) if is_names else None
    return None


def _is_tool(module: Module, node: Node) -> bool:
    ref = ref_of(node)
    return ref is not None and path_of(module, ref.root, ref.parts) == ("data", "fumehood", "call", "tool")
