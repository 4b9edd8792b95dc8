"""Syntax trees of Rego files as values that the gate can walk. Knows nothing of what is allowed.

The trees are regorus' own: an expression is an object with one key, its kind. Spans count bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import Problem
from fumehood.pdp.engine import EngineError, syntax_trees
from fumehood.pdp.nesting import too_deep
from fumehood.pdp.sources import PolicyFile
from fumehood.pdp.survey import EXPRESSIONS, PLACES, Node, Survey, survey

__all__ = [
    "PLACES",
    "Body",
    "Import",
    "Module",
    "Node",
    "Ref",
    "Rule",
    "constant_of",
    "inner",
    "kind_of",
    "module_of",
    "ref_of",
    "references",
    "start_of",
    "statements_of",
    "walk",
]

_BRANCHES = frozenset({dict, list, tuple})
_PLACE = re.compile(r"-->\s*(?P<file>[^\n]*):(?P<line>\d+):(?P<column>\d+)")
_CONTAINS = re.compile(rb"\bcontains\s+")
_SAID = re.compile(r"^error: (?P<said>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference such as `input.a[i].b`: its first name, and what follows; None where it is not constant."""

    root: str
    parts: tuple[str | None, ...]
    start: int

    @property
    def constant(self) -> tuple[str, ...]:
        """The parts up to the first one that is not constant, the root first."""
        known: list[str] = [self.root]
        for part in self.parts:
            if part is None:
                break
            known.append(part)
        return tuple(known)


@dataclass(frozen=True, slots=True)
class Import:
    path: tuple[str, ...]
    alias: str
    start: int


@dataclass(frozen=True, slots=True)
class Body:
    """One body of a rule; `value` is what it assigns (`else := …`)."""

    statements: tuple[Node, ...]
    is_else: bool
    value: Node | None
    start: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `shape` is value, set (`contains`), object (a ref head), function or default."""

    name: str
    shape: str
    start: int
    end: int
    ref: Ref
    args: tuple[Node, ...] = ()
    value: Node | None = None
    key: Node | None = None
    bodies: tuple[Body, ...] = ()
    head: tuple[Node, ...] = ()  # what stands in the brackets of a ref head
    key_start: int = 0
    memo: dict[str, object] = field(default_factory=dict, compare=False, repr=False)  # of the walks below

    def survey(self) -> Survey:
        """What stands in the rule."""
        found = self.memo.get("survey")
        if found is None:
            found = self.memo["survey"] = survey(self.parts())
        return cast("Survey", found)

    def expressions(self) -> tuple[tuple[str, Node], ...]:
        """Every expression in the rule, outermost first, as (kind, body)."""
        return self.survey().expressions

    def references(self) -> tuple[tuple[Node, Ref], ...]:
        """The longest reference at each place in the rule where one stands."""
        found = self.memo.get("references")
        if found is None:
            found = self.memo["references"] = tuple(_references(self.expressions()))
        return cast("tuple[tuple[Node, Ref], ...]", found)

    def statements(self) -> tuple[Node, ...]:
        """Every statement in the rule, nested ones too."""
        return self.survey().statements

    def parts(self) -> list[object]:
        """Everything in the rule that is an expression or holds some, for `walk`."""
        bodies = [part for body in self.bodies for part in (body.statements, body.value)]
        return [self.args, self.value, self.key, self.head, *bodies]


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed file."""

    file: PolicyFile
    package: tuple[str, ...]
    package_start: int
    imports: tuple[Import, ...]
    rules: tuple[Rule, ...]
    encoded: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return ".".join(self.package)

    def text_of(self, node: Node) -> str:
        """The source text of an expression."""
        start, end = self.span_of(node)
        return self.encoded[start:end].decode(errors="replace")

    def span_of(self, node: Node) -> tuple[int, int]:
        """Where an expression begins and ends: regorus leaves quotes out, and the last bracket of a head."""
        kind, body = kind_of(node)
        span = cast("dict[str, int]", body["span"])
        if kind == "RefBrack" and self.encoded[span["end"] - 1 : span["end"]] != b"]":
            return span["start"], self.encoded.index(b"]", span["end"]) + 1
        if kind in ("String", "RawString"):
            return span["start"] - 1, span["end"] + 1
        return span["start"], span["end"]

    def problem(self, start: int, message: str, remedy: str) -> Problem:
        """A finding at the byte offset *start*."""
        if self.encoded[start - 1 : start] in (b'"', b"`"):  # a text's span begins behind its quote
            start -= 1
        before = self.encoded[:start]
        line_start = before.rfind(b"\n") + 1
        line = self.encoded[line_start:].split(b"\n", 1)[0].decode(errors="replace").rstrip("\r")
        column = len(before[line_start:].decode(errors="replace")) + 1
        return Problem(
            self.file.path, before.count(b"\n") + 1, column, message, remedy, line.replace("\t", " ")
        )


def module_of(file: PolicyFile) -> Module | Problem:
    """*file* parsed, or where and why it does not parse."""
    deep = too_deep(file.text)
    if deep is not None:
        return _too_deep(file, *deep)
    try:
        tree = cast("Node", syntax_trees(file.path, file.text))
    except EngineError as error:
        return _syntax_problem(file, str(error))
    except RecursionError:
        return _too_deep(file, 1, 1)
    encoded = file.text.encode()
    package = cast("Node", tree["package"])
    ref = ref_of(cast("Node", package["refr"]))
    return Module(
        file=file,
        package=ref.constant if ref and None not in ref.parts else (),
        package_start=start_of(package),
        imports=tuple(_import(node, encoded) for node in cast("list[Node]", tree["imports"])),
        rules=tuple(_rule(node, encoded) for node in cast("list[Node]", tree["rules"])),
        encoded=encoded,
    )


def kind_of(node: Node) -> tuple[str, Node]:
    """The kind of an expression or literal, and its body."""
    for kind in node:  # written for speed: the gate comes here for every node, many times
        return kind, node[kind]  # type: ignore[return-value]
    raise ValueError("an expression without a kind")


def start_of(body: Node) -> int:
    """Where the node with this body begins, in bytes."""
    return cast("int", cast("Node", body["span"])["start"])


def ref_of(node: Node) -> Ref | None:
    """The reference that an expression is, if it is one."""
    parts: list[str | None] = []
    kind, body = kind_of(node)
    while kind in ("RefDot", "RefBrack"):
        if kind == "RefDot":
            parts.append(cast("list[str]", body["field"])[1])
        else:
            index_kind, index = kind_of(cast("Node", body["index"]))
            is_text = index_kind in ("String", "RawString")
            parts.append(cast("str", index["value"]) if is_text else None)
        kind, body = kind_of(cast("Node", body["refr"]))
    if kind != "Var":
        return None
    return Ref(cast("str", body["value"]), tuple(reversed(parts)), start_of(body))


def walk(value: object) -> Iterator[tuple[str, Node]]:
    """Every expression in *value*, outermost first, as (kind, body)."""
    stack = [value]
    while stack:
        here = stack.pop()
        if isinstance(here, dict):
            for key, item in here.items():
                if key in EXPRESSIONS and isinstance(item, dict) and "span" in item:
                    yield key, cast("Node", item)
        stack.extend(reversed(inner(here)))


def inner(value: object) -> list[object]:
    """What may hold further nodes directly inside *value*: places in the text are left out."""
    if isinstance(value, dict):
        return [v for k, v in value.items() if type(v) in _BRANCHES and k not in PLACES]
    if isinstance(value, list | tuple):
        return [v for v in value if type(v) in _BRANCHES]
    return []


def statements_of(value: object) -> Iterator[Node]:
    """Every statement below *value*, nested ones too."""
    stack = [value]
    while stack:
        here = stack.pop()
        if isinstance(here, dict) and "literal" in here:
            yield here
        stack.extend(reversed(inner(here)))


def constant_of(node: Node) -> JSON:
    """The value of an expression that is written out wholly; None if it is not."""
    kind, body = kind_of(node)
    if kind in ("String", "RawString", "Number", "Bool"):
        return cast("JSON", body["value"])
    if kind in ("Array", "Set"):
        items = [constant_of(item) for item in cast("list[Node]", body["items"])]
        return None if None in items else items
    if kind == "Object":
        fields = cast("list[tuple[object, Node, Node]]", body["fields"])
        pairs = {str(constant_of(name)): constant_of(value) for _, name, value in fields}
        return None if None in pairs.values() else pairs
    return None


def parts_of(node: Node) -> Iterator[Node]:
    """The values that a written-out object, list or set holds, nested ones too; of anything else, itself."""
    kind, body = kind_of(node)
    if kind == "Object":
        for _, _, item in cast("list[tuple[object, Node, Node]]", body["fields"]):
            yield from parts_of(item)
    elif kind in ("Array", "Set"):
        for item in cast("list[Node]", body["items"]):
            yield from parts_of(item)
    else:
        yield node


def references(value: object) -> Iterator[tuple[Node, Ref]]:
    """The longest reference at each place below *value* where one stands."""
    return _references(walk(value))


def _references(expressions: Iterable[tuple[str, Node]]) -> Iterator[tuple[Node, Ref]]:
    inside: set[int] = set()
    for kind, body in expressions:
        if kind == "Var":
            if id(body) not in inside:
                yield {kind: body}, Ref(cast("str", body["value"]), (), start_of(body))
        elif kind in ("RefDot", "RefBrack") and id(body) not in inside:
            inside.update(map(id, _steps(kind, body)))
            ref = ref_of({kind: body})
            if ref is not None:
                yield {kind: body}, ref


def _steps(kind: str, body: Node) -> list[Node]:
    """The bodies of the references that this one is built upon."""
    steps = [body]
    while kind in ("RefDot", "RefBrack"):
        kind, body = kind_of(cast("Node", body["refr"]))
        steps.append(body)
    return steps


def _import(node: Node, encoded: bytes) -> Import:
    ref = ref_of(cast("Node", node["refr"]))
    path = ref.constant if ref else ()
    alias = cast("Node | None", node.get("as"))
    name = encoded[start_of({"span": alias}) : cast("int", alias["end"])].decode() if alias else None
    return Import(path, name or (path[-1] if path else ""), start_of(node))


def _rule(node: Node, encoded: bytes) -> Rule:
    kind, body = kind_of(node)
    return _default(body) if kind == "Default" else _spec(body, encoded)


def _default(body: Node) -> Rule:
    ref = _head_ref(cast("Node", body["refr"]))
    args = tuple(cast("list[Node]", body["args"]))
    span = cast("Node", body["span"])
    return Rule(
        ref.root, "default", start_of(body), cast("int", span["end"]), ref, args, cast("Node", body["value"])
    )


def _spec(body: Node, encoded: bytes) -> Rule:
    kind, head = kind_of(cast("Node", body["head"]))
    ref = _head_ref(cast("Node", head["refr"]))
    assign = cast("Node | None", head.get("assign"))
    shape = {"Set": "set", "Func": "function"}.get(kind, "object" if ref.parts else "value")
    return Rule(
        name=ref.root,
        shape="object" if kind == "Set" and ref.parts else shape,
        start=start_of(body),
        end=cast("int", cast("Node", body["span"])["end"]),
        ref=ref,
        args=tuple(cast("list[Node]", head.get("args", []))),
        value=cast("Node", assign["value"]) if assign else None,
        key=cast("Node | None", head.get("key")),
        bodies=tuple(map(_body, cast("list[Node]", body["bodies"]))),
        head=tuple(_brackets(cast("Node", head["refr"]))),
        key_start=_after_contains(encoded, ref.start) if kind == "Set" else 0,
    )


def _after_contains(encoded: bytes, start: int) -> int:
    """Where the item of a `contains` begins: the spans of objects do not say."""
    found = _CONTAINS.search(encoded, start)
    return found.end() if found else start


def _brackets(node: Node) -> Iterator[Node]:
    kind, body = kind_of(node)
    while kind in ("RefDot", "RefBrack"):
        if kind == "RefBrack":
            yield cast("Node", body["index"])
        kind, body = kind_of(cast("Node", body["refr"]))


def _head_ref(node: Node) -> Ref:
    ref = ref_of(node)
    return ref if ref else Ref("", (), 0)


def _body(node: Node) -> Body:
    query = cast("Node", node["query"])
    assign = cast("Node | None", node["assign"])
    return Body(
        tuple(cast("list[Node]", query["stmts"])),
        cast("bool", node["is_else"]),
        cast("Node", assign["value"]) if assign else None,
        start_of(node),
    )


def _too_deep(file: PolicyFile, line: int, column: int) -> Problem:
    return Problem(
        file.path,
        line,
        column,
        "too many brackets inside of each other, or operators one after the other, for the policy engine",
        "Put large values into a data.json beside the policies, or give parts of it names (`_inner := …`).",
        file.text.split("\n")[line - 1].replace("\t", " ")[:200],
    )


def _syntax_problem(file: PolicyFile, said: str) -> Problem:
    place, message = _PLACE.search(said), _SAID.search(said)
    line = int(place["line"]) if place else 1
    lines = file.text.split("\n")
    return Problem(
        file.path,
        line,
        int(place["column"]) if place else 1,
        f"not Rego: {message['said'] if message else said}",
        "See https://www.openpolicyagent.org/docs/latest/policy-language/ for the syntax (Rego v1).",
        lines[line - 1].replace("\t", " ") if line <= len(lines) else "",
    )
