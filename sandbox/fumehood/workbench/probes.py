"""Small rules that ask, beside the policies, which condition of a body holds and what its parts are.

For each body of a rule and each of its conditions k there is a rule that is `{1}` if the first k hold
together, and one for each part of condition k that says its values where the first k − 1 hold. They
stand in the rule's own package, so that every name in them means what it means there. A body of a
function gets functions with its parameters. Conditions are taken in the order of the text as far
as each has what it needs, as an engine may evaluate them in any such order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from fumehood.pdp.engine import Engine, EngineError
from fumehood.pdp.expand import Replacement, edits
from fumehood.pdp.gate.context import Context
from fumehood.pdp.gate.scope import bound_by, evaluation_order, free, globals_of, pattern_names
from fumehood.pdp.syntax import Body, Module, Node, Rule, constant_of, kind_of, ref_of, walk
from fumehood.workbench.unparse import Writer

__all__ = ["BodyProbe", "ConditionProbe", "Part", "RuleProbe", "module_texts", "probes_of", "readable"]

_MAX_PARTS = 8
_MAX_CONDITIONS = 64  # of a body: what is asked grows with their square
_LINES = 4000  # probes in one file
_COMPREHENSIONS = frozenset({"ArrayCompr", "SetCompr", "ObjectCompr"})


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a condition whose value says something; `text` as the author wrote it.

    `name` is the rule that says its values before the condition, `held` those with which it holds.
    """

    text: str
    name: str
    held: str
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class ConditionProbe:
    """One condition: `holds` names the rule that is empty unless all up to here hold."""

    statement: Node
    text: str
    start: int
    holds: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class BodyProbe:
    conditions: tuple[ConditionProbe, ...]
    is_else: bool


@dataclass(frozen=True, slots=True)
class RuleProbe:
    """One definition of a rule. `alone` names a copy of it, "" for a function; `why_not`: no probes."""

    module: Module
    rule: Rule
    alone: str
    bodies: tuple[BodyProbe, ...] = ()
    why_not: str = ""
    lines: tuple[str, ...] = ()


def probes_of(context: Context) -> dict[str, dict[str, list[RuleProbe]]]:
    """Package → rule → its definitions."""
    found: dict[str, dict[str, list[RuleProbe]]] = {}
    changes = {module.file.name: edits(module) for module in context.modules}
    for n, (module, rule) in enumerate(context.each_rule()):
        if rule.shape in ("value", "set", "function"):
            probe = _Maker(context, module, rule, f"__fh{n}", changes[module.file.name]).probe()
            found.setdefault(module.name, {}).setdefault(rule.name, []).append(probe)
    return found


def module_texts(probes: dict[str, dict[str, list[RuleProbe]]]) -> Iterator[tuple[str, str]]:
    """Modules with all probes: (name, text). Several for a package with many, as a file has a limit."""
    for package, rules in probes.items():
        lines = [line for definitions in rules.values() for probe in definitions for line in probe.lines]
        for n, start in enumerate(range(0, len(lines), _LINES)):
            text = "\n".join([f"package {package}", *lines[start : start + _LINES]]) + "\n"
            yield f"fumehood/explain/{package}.{n}.rego", text


def readable(package: str, probe: RuleProbe) -> RuleProbe:
    """*probe*, without what the engine cannot read (a line too long, say): its rule is not looked into."""
    for lines in (probe.lines, probe.lines[: bool(probe.alone)], ()):
        try:
            Engine([("p.rego", "\n".join([f"package {package}", *lines]) + "\n")], is_gated=True)
        except EngineError:
            continue
        if lines == probe.lines:
            return probe
        alone = probe.alone if lines else ""
        return RuleProbe(
            probe.module, probe.rule, alone, why_not="it is too long to be looked into", lines=lines
        )
    raise EngineError(f"the engine reads nothing at all in package {package}")


@dataclass(frozen=True, slots=True)
class _Written:
    """A statement as text; the variables that it only declares (`some x`), and all that it uses."""

    text: str
    declares: frozenset[str]
    uses: frozenset[str]


class _Maker:
    def __init__(
        self, context: Context, module: Module, rule: Rule, name: str, changes: Collection[Replacement]
    ) -> None:
        self._module, self._rule, self._name, self._changes = module, rule, name, changes
        self._writer = Writer(module)
        self._known = globals_of(context, module) | {n for arg in rule.args for n, _ in pattern_names(arg)}
        self._lines: list[str] = []
        self._statements: dict[int, _Written] = {}

    def probe(self) -> RuleProbe:
        alone = "" if self._rule.shape == "function" else self._copy()
        why = f"it has more than {_MAX_CONDITIONS} conditions, which is not looked into"
        try:
            if all(len(body.statements) <= _MAX_CONDITIONS for body in self._rule.bodies):
                bodies = tuple(self._body(i, body) for i, body in enumerate(self._rule.bodies))
                why = ""
        except KeyError as error:
            why = f"it uses {error.args[0]!r}, which is not looked into"
        if why:
            return RuleProbe(self._module, self._rule, alone, why_not=why, lines=tuple(self._lines[:1]))
        return RuleProbe(self._module, self._rule, alone, bodies, lines=tuple(self._lines))

    def _copy(self) -> str:
        """A copy of the definition alone, under another name."""
        name = f"{self._name}_alone"
        start, whole = _whole(self._module, self._rule.start, self._rule.end)
        end = start + len(whole.encode())
        at = self._rule.ref.start
        inside = [e for e in self._changes if start <= e[0] and e[1] <= end]
        text = self._module.encoded[start:end]
        for first, last, instead in sorted([*inside, (at, at + len(self._rule.name), name)], reverse=True):
            text = text[: first - start] + instead.encode() + text[last - start :]
        self._lines.append(text.decode())
        return name

    def _body(self, n: int, body: Body) -> BodyProbe:
        ordered = evaluation_order(body.statements, self._known)
        name = f"{self._name}_{n}"
        conditions = [self._condition(f"{name}_{k}", ordered[:k], s) for k, s in enumerate(ordered)]
        return BodyProbe(tuple(conditions), body.is_else)

    def _condition(self, name: str, before: Sequence[Node], statement: Node) -> ConditionProbe:
        self._rule_for(f"{name}_holds", f"{{1 | {self._query([*before, statement])}}}")
        bound = self._known | bound_by(before, self._known)
        nodes = [node for node in _parts(statement) if not list(free(node, bound))]
        by_text = {self._shown(node): node for node in reversed(nodes)}
        parts = []
        for i, (shown, node) in enumerate(list(reversed(by_text.items()))[:_MAX_PARTS]):
            value = f"__fhv := {self._writer.expression(node)}"
            self._values_for(f"{name}_v{i}", before, value)
            self._values_for(f"{name}_w{i}", [*before, statement], value)
            parts.append(Part(shown, f"{name}_v{i}", f"{name}_w{i}", node))
        parts += self._failing(name, before, statement)
        parts += self._origin(name, before, statement)
        span = cast("dict[str, int]", statement["span"])
        start, text = _whole(self._module, span["start"], span["end"])
        return ConditionProbe(statement, text, start, f"{name}_holds", tuple(parts))

    def _failing(self, name: str, before: Sequence[Node], statement: Node) -> list[Part]:
        """For `every`: the elements for which its body does not hold."""
        kind, body = kind_of(cast("Node", statement["literal"]))
        if kind != "Every":
            return []
        value = self._writer.name_at(body["value"])
        names = f"{self._writer.name_at(body['key'])}, {value}" if body["key"] else value
        inner = self._writer.statements(cast("list[Node]", cast("Node", body["query"])["stmts"]))
        domain = self._writer.collection(cast("Node", body["domain"]))
        found = f"some {names} in {domain}; {{1 | {inner}}} == set(); __fhv := {value}"
        self._values_for(f"{name}_e", before, found)
        return [Part(f"what fails it as {value}", f"{name}_e", f"{name}_e")]

    def _origin(self, name: str, before: Sequence[Node], statement: Node) -> list[Part]:
        """For `call.trusted(…)`: where the argument was found."""
        kind, body = kind_of(cast("Node", statement["literal"]))
        node = cast("Node", body.get("expr", {}))
        if kind not in ("Expr", "NotExpr") or kind_of(node)[0] != "Call":
            return []
        text = self._writer.expression(node)
        if not text.startswith("data.fumehood.call.trusted("):
            return []
        asked = text.replace(".trusted(", ".origin(", 1)
        self._values_for(f"{name}_o", before, f"__fhv := {asked}")
        return [Part(asked.removeprefix("data.fumehood."), f"{name}_o", f"{name}_o", node)]

    def _query(self, statements: Sequence[Node]) -> str:
        """*statements*, without declarations of variables that nothing here uses."""
        written = [self._written(s) for s in statements]
        if any(one.declares for one in written):
            used = frozenset().union(*(one.uses for one in written))
            written = [one for one in written if one.declares <= used]
        return "; ".join(one.text for one in written) or "true"

    def _written(self, statement: Node) -> _Written:
        """Each statement is written once, and used in many probes."""
        found = self._statements.get(id(statement))
        if found is None:
            kind, body = kind_of(cast("Node", statement["literal"]))
            names = cast("list[object]", body["vars"]) if kind == "SomeVars" else []
            found = self._statements[id(statement)] = _Written(
                self._writer.statement(statement),
                frozenset(map(self._writer.name_at, names)),
                frozenset(str(body["value"]) for kind, body in walk(statement) if kind == "Var"),
            )
        return found

    def _values_for(self, name: str, statements: Sequence[Node], found: str) -> None:
        """A rule that says every `__fhv` that *found* gives after *statements*, with its type."""
        self._rule_for(name, f"{{[type_name(__fhv), __fhv] | {self._query(statements)}; {found}}}")

    def _rule_for(self, name: str, value: str) -> None:
        args = ", ".join(map(self._writer.expression, self._rule.args))
        head = f"{name}({args})" if self._rule.shape == "function" else name
        self._lines.append(f"{head} := {value}")

    def _shown(self, node: Node) -> str:
        start, end = self._module.span_of(node)
        return self._module.encoded[start:end].decode(errors="replace")


def _whole(module: Module, start: int, end: int) -> tuple[int, str]:
    """Where a statement begins, and its text: spans leave the quotes of a text at either end out."""
    text = module.encoded
    start -= text[start - 1 : start] in (b'"', b"`")
    end += text[end : end + 1] in (b'"', b"`")
    return start, text[start:end].decode(errors="replace")


def _parts(statement: Node) -> list[Node]:
    """The operands of a condition, and the references in them, that are not written out."""
    kind, body = kind_of(cast("Node", statement["literal"]))
    if kind in ("SomeIn", "Every"):
        tops = [cast("Node", body["collection" if kind == "SomeIn" else "domain"])]
    elif kind in ("Expr", "NotExpr"):
        tops = _operands(cast("Node", body["expr"]))
    else:
        tops = []
    tops += [node for top in tops for node in _references(top) if node is not top]
    return [node for node in tops if constant_of(node) is None and kind_of(node)[0] not in ("Null", "Object")]


def _operands(expression: Node) -> list[Node]:
    kind, body = kind_of(expression)
    sides: tuple[str, ...]
    if kind == "AssignExpr":
        sides = ("rhs",) if body["op"] == "ColEq" else ("lhs", "rhs")
    else:
        sides = {"BoolExpr": ("lhs", "rhs"), "Membership": ("key", "value", "collection")}.get(kind, ())
    if kind == "Call":
        return [*cast("list[Node]", body["params"])]
    return [cast("Node", body[side]) for side in sides if body.get(side)] or [expression]


def _references(node: Node) -> Iterator[Node]:
    """The longest references in an expression, and the parameters of calls, but not inside comprehensions."""
    kind, body = kind_of(node)
    if kind in _COMPREHENSIONS:
        return
    if kind == "Call":
        for parameter in cast("list[Node]", body["params"]):
            yield from _references(parameter)
    elif ref_of(node) is not None:
        yield node
    else:
        for key, item in body.items():
            if key in ("lhs", "rhs", "expr", "refr", "index", "value", "collection", "key"):
                if isinstance(item, dict) and "start" not in item:
                    yield from _references(item)
            elif key == "items":
                for one in cast("list[Node]", item):
                    yield from _references(one)
            elif key == "fields":
                for _, _, one in cast("list[tuple[object, Node, Node]]", item):
                    yield from _references(one)
