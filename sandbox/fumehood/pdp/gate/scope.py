"""Which variables a query binds, which it uses, and which of them nothing ever binds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from fumehood.errors import Problem
from fumehood.pdp.gate.builtins import ARITY
from fumehood.pdp.gate.context import Context
from fumehood.pdp.survey import PLACES, Node, plain_names
from fumehood.pdp.syntax import Body, Module, Rule, inner, kind_of, ref_of, start_of, walk

__all__ = [
    "Names",
    "bound_by",
    "check_variables",
    "declared",
    "declares",
    "evaluation_order",
    "function_name",
    "globals_of",
    "has_query",
    "pattern_names",
]

Names = frozenset[str]
Pairs = list[tuple[str, int]]
Statements = Sequence[Node]
_NO_NAMES: Names = frozenset()
_SCALARS = frozenset({"String", "RawString", "Number", "Bool", "Null"})
_COMPREHENSIONS = {"ArrayCompr": ("term",), "SetCompr": ("term",), "ObjectCompr": ("key", "value")}


def globals_of(context: Context, module: Module) -> Names:
    """Names that mean something everywhere in *module*."""
    aliases = {imported.alias for imported in module.imports}
    return frozenset({"input", "data", "_", *aliases, *context.rules_of(module)})


def check_variables(context: Context) -> Iterator[Problem]:
    """Unsafe variables, and local names that hide an import."""
    for module in context.modules:
        aliases = frozenset({"input", "data"} | {i.alias for i in module.imports})
        checker = _Checker(module, globals_of(context, module), aliases)
        for rule in module.rules:
            yield from checker.rule(rule)


def function_name(call: Node) -> str:
    """The dotted name that a call is made by."""
    ref = ref_of(cast("Node", call["fcn"]))
    return ".".join([ref.root, *(part or "?" for part in ref.parts)]) if ref else "?"


def pattern_names(node: Node | None) -> Iterator[tuple[str, int]]:
    """The variables of a pattern such as `[x, {"k": y}]`, with their places."""
    if node is None:
        return
    kind, body = kind_of(node)
    if kind == "Var":
        yield cast("str", body["value"]), start_of(body)
    elif kind == "Array":
        for item in cast("list[Node]", body["items"]):
            yield from pattern_names(item)
    elif kind == "Object":
        for _, _, value in cast("list[tuple[object, Node, Node]]", body["fields"]):
            yield from pattern_names(value)


def bound_by(statements: Statements, known: Names) -> Names:
    """The variables that a query binds at its own level."""
    if all(_is_settled(statement, known) for statement in statements):
        return _NO_NAMES
    return frozenset().union(*map(_bound_by_one, statements)) - known


def _bound_by_one(statement: Node) -> Names:
    """What one statement binds; kept in the statement, because every check asks again."""
    found = statement.get("bound")
    if found is None:
        found = statement["bound"] = frozenset(_bound(statement))
    return cast("Names", found)


def _bound(statement: Node) -> Iterator[str]:
    kind, body = kind_of(cast("Node", statement["literal"]))
    if kind == "SomeIn":
        for part in ("key", "value"):
            yield from (name for name, _ in pattern_names(cast("Node | None", body[part])))
        yield from _indexed(cast("Node", body["collection"]))
    elif kind == "Expr":
        expression = cast("Node", body["expr"])
        yield from _assigned(expression)
        yield from _indexed(expression)
    elif kind == "Every":
        yield from _indexed(cast("Node", body["domain"]))


def _assigned(expression: Node) -> Iterator[str]:
    kind, body = kind_of(expression)
    if kind == "AssignExpr":
        sides = ("lhs",) if body["op"] == "ColEq" else ("lhs", "rhs")
        for side in sides:
            yield from (name for name, _ in pattern_names(cast("Node", body[side])))
    elif kind == "Call":
        params = cast("list[Node]", body["params"])
        if len(params) == ARITY.get(function_name(body), 99) + 1:  # walk(x, [path, value])
            yield from (name for name, _ in pattern_names(params[-1]))


def _indexed(node: Node) -> Iterator[str]:
    """Variables that a reference's brackets bind: `input.list[i]`."""
    for kind, body in _level(node):
        if kind == "RefBrack":
            yield from (name for name, _ in pattern_names(cast("Node", body["index"])))


def _level(node: object) -> Iterator[tuple[str, Node]]:
    """Every expression below *node*, but not inside comprehensions: they are queries of their own."""
    stack = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, dict):
            found = [(k, v) for k, v in here.items() if type(v) in (dict, list) and k not in PLACES]
            for key, item in found:
                if type(item) is dict and key[:1].isupper() and "span" in item:
                    yield key, item
            stack.extend(item for key, item in reversed(found) if key not in _COMPREHENSIONS)
        else:
            stack.extend(reversed(inner(here)))


class _Checker:
    """Walks one rule. A statement can be evaluated once all it needs has a value; then it may give values."""

    def __init__(self, module: Module, known: Names, aliases: Names) -> None:
        self._module = module
        self._known = known
        self._aliases = aliases

    def rule(self, rule: Rule) -> Iterator[Problem]:
        if rule.shape == "default":
            return
        arguments = [pair for arg in rule.args for pair in pattern_names(arg)]
        yield from self._hidden(arguments)
        here = self._known | {name for name, _ in arguments} if arguments else self._known
        for body in rule.bodies or (Body((), is_else=False, value=None, start=rule.start),):
            yield from self._query(body.statements, here)
            bound = bound_by(body.statements, here)
            inside = here | bound if bound else here
            heads = [body.value] if body.is_else else [rule.key, rule.value, body.value, *rule.head]
            for head in heads:
                yield from self._value(head, inside, may_have_queries=rule.survey().has_queries)

    def _query(self, statements: Statements, known: Names) -> Iterator[Problem]:
        if all(_is_settled(statement, known) for statement in statements):
            return
        waiting, bound = list(statements), known
        while ready := [s for s in waiting if next(_needs(s, bound), None) is None]:
            done = set(map(id, ready))
            waiting = [s for s in waiting if id(s) not in done]
            bound |= bound_by(ready, known)
        for statement in waiting:
            yield from (self._unsafe(name, start) for name, start in _needs(statement, bound))
        inside = bound | bound_by(waiting, known)
        yield from self._declared_late(statements, known)
        for statement in statements:
            yield from self._declared(statement, statements)
            if has_query(statement):
                for query, names in nested_queries(statement, self._module):
                    yield from self._query(query, inside | names)

    def _value(self, node: Node | None, known: Names, *, may_have_queries: bool) -> Iterator[Problem]:
        if node is None:
            return
        yield from (self._unsafe(name, start) for name, start in free(node, known))
        if may_have_queries:
            for query, names in nested_queries(node, self._module):
                yield from self._query(query, known | names)

    def _declared(self, statement: Node, among: Statements) -> Iterator[Problem]:
        """Names that a statement declares: none may hide an import, and OPA wants each to be used."""
        kind, body = kind_of(cast("Node", statement["literal"]))
        yield from self._hidden(declares(statement))
        if kind == "SomeVars":
            names = declared(body["vars"], self._module)
            yield from self._hidden(names)
            yield from self._unused(names, [s for s in among if s is not statement])
        elif kind == "Every":
            names = declared([body["key"], body["value"]], self._module)
            yield from self._hidden(names)
            yield from self._unused(names, body["query"])

    def _declared_late(self, statements: Statements, known: Names) -> Iterator[Problem]:
        """OPA refuses a variable that is declared (`:=`, `some`) after its first use, or twice."""
        seen: set[str] = set()
        for statement in statements:
            for name, start in declares(statement):
                if name in seen and name != "_":
                    message = f"`{name}` is declared here and used above"
                    yield self._module.problem(
                        start, message, f"Declare `{name}` first, or name this one otherwise."
                    )
            seen |= {name for name, _ in _needs(statement, known)} | bound_by([statement], known)

    def _unused(self, names: Pairs, where: object) -> Iterator[Problem]:
        used = {body["value"] for kind, body in walk(where) if kind == "Var"}
        for name, start in names:
            if name not in used and name != "_":
                message = f"`{name}` is declared and never used, which OPA refuses"
                yield self._module.problem(start, message, f"Use `{name}`, or write `_`.")

    def _unsafe(self, name: str, start: int) -> Problem:
        return self._module.problem(
            start,
            f"`{name}` is unsafe: nothing gives it a value before it is needed",
            f"Give it one (`{name} := …`, `some {name} in …`), correct its spelling, or quote it.",
        )

    def _hidden(self, pairs: Pairs) -> Iterator[Problem]:
        for name, start in pairs:
            if name in self._aliases:
                message = f"the variable `{name}` hides what `{name}` means in this file"
                yield self._module.problem(start, message, "Give the variable another name.")


def _is_settled(statement: Node, known: Names) -> bool:
    """Whether a statement needs nothing and gives nothing: every variable in it has a value already."""
    names = plain_names(statement)
    return names is not None and names <= known and "_" not in names


def evaluation_order(statements: Statements, known: Names) -> list[Node]:
    """*statements* as they stand, but each after those that give it the variables that it needs."""
    waiting, bound, ordered = list(statements), known, list[Node]()
    while waiting:
        ready = next((s for s in waiting if not list(_needs(s, bound))), waiting[0])
        waiting.remove(ready)
        ordered.append(ready)
        bound |= bound_by([ready], known)
    return ordered


def declares(statement: Node) -> Pairs:
    """The variables that a statement declares, rather than unifies."""
    kind, body = kind_of(cast("Node", statement["literal"]))
    if kind == "SomeIn":
        return [p for part in ("key", "value") for p in pattern_names(cast("Node | None", body[part]))]
    if kind == "Expr":
        inner_kind, inner = kind_of(cast("Node", body["expr"]))
        if inner_kind == "AssignExpr" and inner["op"] == "ColEq":
            return list(pattern_names(cast("Node", inner["lhs"])))
    return []


def declared(spans: object, module: Module) -> Pairs:
    """The names at these spans, where there are any."""
    found = cast("list[dict[str, int] | None]", spans)
    return [(module.encoded[s["start"] : s["end"]].decode(), s["start"]) for s in found if s]


def has_query(statement: Node) -> bool:
    """Whether a query stands inside *statement*; kept in it, because most have none and all are asked."""
    if plain_names(statement) is not None:
        return False
    found = statement.get("has_query")
    if found is None:
        found = statement["has_query"] = any(_queries_in(statement))
    return cast("bool", found)


def _queries_in(node: object) -> Iterator[bool]:
    stack = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, dict) and "stmts" in here:
            yield True
        stack.extend(inner(here))


def nested_queries(node: object, module: Module) -> Iterator[tuple[list[Node], Names]]:
    """The queries of comprehensions and `every` directly below *node*, with the names that `every` gives."""
    if isinstance(node, dict):
        for key, item in node.items():
            if key in _COMPREHENSIONS:
                yield cast("list[Node]", item["query"]["stmts"]), frozenset()
            elif key == "Every":
                names = declared([item["key"], item["value"]], module)
                yield cast("list[Node]", item["query"]["stmts"]), frozenset(name for name, _ in names)
                yield from nested_queries(item["domain"], module)
            elif key != "span" and isinstance(item, dict | list):
                yield from nested_queries(item, module)
    elif isinstance(node, list):
        for item in inner(node):
            yield from nested_queries(item, module)


def _needs(statement: Node, known: Names) -> Iterator[tuple[str, int]]:
    """The variables that must have a value before this statement can be evaluated."""
    kind, body = kind_of(cast("Node", statement["literal"]))
    if kind == "SomeIn":
        yield from free(cast("Node", body["collection"]), known)
    elif kind == "Every":
        yield from free(cast("Node", body["domain"]), known)
    elif kind == "NotExpr":
        yield from free(cast("Node", body["expr"]), known, binds=False)
    elif kind == "Expr":
        yield from _expression_needs(cast("Node", body["expr"]), known)


def _expression_needs(expression: Node, known: Names) -> Iterator[tuple[str, int]]:
    kind, body = kind_of(expression)
    if kind != "AssignExpr":
        yield from free(expression, known)
        return
    left, right = cast("Node", body["lhs"]), cast("Node", body["rhs"])
    if body["op"] == "ColEq":
        new = {name for name, _ in pattern_names(left)}
        yield from free(right, known - new)
        yield from ((name, start_of(right_body)) for name, right_body in _named(right) if name in new)
        return
    open_left = [pair for pair in pattern_names(left) if pair[0] not in known]
    open_right = [pair for pair in pattern_names(right) if pair[0] not in known]
    if open_left and open_right:
        yield from open_left
    elif open_left:
        yield from free(right, known)
    elif open_right:
        yield from free(left, known)
    else:
        yield from free(left, known)
        yield from free(right, known)


def _named(node: Node) -> Iterator[tuple[str, Node]]:
    """The variables in brackets of *node*: what `:=` declares may not stand there."""
    for kind, body in _level(node):
        if kind == "RefBrack":
            index_kind, index = kind_of(cast("Node", body["index"]))
            if index_kind == "Var":
                yield cast("str", index["value"]), index


def free(node: Node, known: Names, *, binds: bool = True) -> Iterator[tuple[str, int]]:
    """The variables in an expression that need a value; with *binds* brackets may give one instead."""
    kind, body = kind_of(node)
    if kind in _SCALARS:
        return
    if kind == "Var":
        if body["value"] not in known or (body["value"] == "_" and not binds):
            yield cast("str", body["value"]), start_of(body)
    elif kind == "RefBrack":
        yield from free(cast("Node", body["refr"]), known, binds=binds)
        index = cast("Node", body["index"])
        if not binds or not list(pattern_names(index)):
            yield from free(index, known, binds=binds)
    elif kind == "Call":
        params = cast("list[Node]", body["params"])
        outputs = 1 if len(params) == ARITY.get(function_name(body), 99) + 1 else 0
        for parameter in params[: len(params) - outputs]:
            yield from free(parameter, known, binds=binds)
    elif kind in _COMPREHENSIONS:
        yield from _free_in_comprehension(kind, body, known)
    else:
        for child in children(body):
            yield from free(child, known, binds=binds)


def _free_in_comprehension(kind: str, body: Node, known: Names) -> Iterator[tuple[str, int]]:
    statements = cast("list[Node]", cast("Node", body["query"])["stmts"])
    inside = known | bound_by(statements, known)
    for statement in statements:
        yield from _needs(statement, inside)
    for part in _COMPREHENSIONS[kind]:
        yield from free(cast("Node", body[part]), inside)


def children(body: Node) -> Iterator[Node]:
    """The expressions directly inside an expression."""
    for key, value in body.items():
        if key in PLACES:
            continue
        if key == "fields":
            for _, name, item in cast("list[tuple[object, Node, Node]]", value):
                yield name
                yield item
        elif key == "items":
            yield from cast("list[Node]", value)
        elif isinstance(value, dict) and "start" not in value:
            yield cast("Node", value)
