# ruff: noqa: E501
"""Random policies with helpers of every shape, and hostile documents, for comparing the engines.

Wider than generated.py: every literal form, positive and under `not`, in rules, comprehensions, `else`,
defaults and arguments of functions. Variables are mostly used where they have a value, so that most
policies pass the gate; the others show that the gate says no.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from pdp.documents import document

from fumehood.canonical import JSON
from fumehood.model import Phase

HEAD = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "pay"\n\n'
DATA = '{"lim": {"max": 3, "list": ["a", "abc"], "by": {"a": 1, "k": null}}}'

LITERALS = (
    '"abc"', '"a"', '""', "`a\\b`", '"\\u00e9\\n\\"/"', "0", "3", "-1.5", "9007199254740991", "0.1", "null", "true", "false",
    "[]", "{}", "set()", "[1, 2]", '["a", ["b", null]]', '{"a", "b"}', "{1, 2, 3}", '{"k": 1}', '{"a": {"b": [1]}}', '{["a"]}',
)  # fmt: skip
REFS = (
    "call.args.a", "call.args.b.c", 'call.args["a"]', "call.args.l[0]", "call.args.o.k", "call.args.n", "call.args.missing",
    "call.tool", "call.kind", "call.runs", "call.args", "call.targets", "call.result", "call.is_error", "call.connect_to.port",
    "input.subject.id", "input.subject.properties.roles", "input.nope.nope", "input.context.time", "input.context.counters",
    "data.lim.max", "data.lim.list", "data.lim.by.k", 'call.arg("a", "z")', 'call.arg("nope", 3)',
    'call.trusted("/a")', 'call.origin("/a")', 'call.path("/p")', 'call.url("/u").host', 'call.argv("/c")',
)  # fmt: skip
ANY = (
    "call.args.a", "call.args.b.c", 'call.args["a"]', "call.args.l[0]", "call.args.l", "call.args.o", "call.args.o.k", "call.args.n",
    "call.args.missing", "input.nope.nope", 'call.arg("a", "z")', 'call.arg("n", 3)', "call.args.k", "input.context.counters",
)  # fmt: skip
COLLECTIONS = (
    "call.args", "call.targets", "data.lim.list", "data.lim.by", '["a", "abc", 3]', '{"a", "b"}', '{"k": 1, "a": "abc"}', "[]",
    'call.argv("/c")', "call.args.l", "call.args.o", "set()",
)  # fmt: skip
TOTAL = (
    "call.tool", "call.kind", "call.args", "call.targets", "call.result", 'call.arg("a", "z")', 'call.origin("/a")',
    'call.url("/u").host', "[w | some w in call.args.l]", "count(call.args)", "type_name(call.result)",
)  # fmt: skip
UNARY = (
    "abs", "count", "lower", "is_string", "is_number", "is_array", "is_object", "is_set", "is_null", "is_boolean", "type_name",
    "sum", "product", "max", "min", "sort", "trim_space", "strings.reverse", "array.reverse", "object.keys", "round",
    "base64.encode", "hex.encode", "union", "intersection", "object.union_n", "base64.decode", "time.clock", "bits.negate",
)  # fmt: skip
BINARY = (
    "startswith", "endswith", "contains", "split", "trim", "trim_left", "trim_prefix", "trim_suffix", "concat",
    "array.concat", "object.remove", "object.filter", "object.union", "json.filter", "json.remove", "numbers.range",
    "strings.any_prefix_match", "format_int", "semver.compare", "bits.and", "bits.or", "graph.reachable",
)  # fmt: skip
TERNARY = ("object.get", "replace", "substring", "array.slice", "glob.match", "numbers.range_step")
COMPARE = ("==", "!=", "<", "<=", ">", ">=")
PUBLIC = (
    "permit if", 'deny contains "d" if', "label contains {text} if", "permit_connect if", 'withhold contains "w" if',
    'deny contains {{"reason": "d", "detail": {value}}} if', 'deny contains {{"reason": "d", "detail": sprintf("%v!", [{value}])}} if', 'approve contains {{"reason": "a", "risk": "low"}} if',
    'confine contains {{"profile": "p", "read": {value}}} if', 'redact contains {{"path": "/a"}} if',
    'limit contains {{"key": call.tool, "max": {value}, "per_s": 3}} if', 'deny_connect contains "c" if',
)  # fmt: skip


class Author:
    """Writes one policy by throwing dice."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._helpers: list[str] = []  # values
        self._functions: list[tuple[str, int]] = []
        self._sets_known: list[str] = []
        self._fresh = 0
        self._is_total = False

    def policy(self) -> str:
        helpers = [self._helper(at) for at in range(self._dice.randint(1, 4))]
        rules = [self._public() for _ in range(self._dice.randint(1, 2))]
        return HEAD + "\n\n".join([*helpers, *rules]) + "\n"

    # --- rules ---

    def _public(self) -> str:
        names: list[str] = []
        body = self._body(names, 0)
        head = self._one(PUBLIC).format(value=self._head_value(names), text=self._head_value(names))
        return f"{head} {{\n\t{body}\n}}"

    def _head_value(self, names: Sequence[str]) -> str:
        return self._one(names) if names and self._chance(0.9) else "call.tool"

    def _helper(self, at: int) -> str:
        shape = self._one((self._value, self._default, self._set, self._object, self._function, self._test))
        return shape(f"_h{at}")

    def _value(self, name: str) -> str:
        names: list[str] = []
        text = f"{name} := {self._term(names, 1)} if {{\n\t{self._body(names, 1)}\n}}"
        for _ in range(self._dice.randint(0, 2)):
            inner: list[str] = []
            text += f" else := {self._term(inner, 1)} if {{\n\t{self._body(inner, 1)}\n}}"
        if self._chance(0.3):
            text += f" else := {self._one(LITERALS)}"
        self._helpers.append(name)
        return text

    def _default(self, name: str) -> str:
        text = f"default {name} := {self._one(LITERALS)}\n\n{name} := {self._one(LITERALS)} if {{\n\t{self._body([], 1)}\n}}"
        self._helpers.append(name)
        return text

    def _test(self, name: str) -> str:
        text = "\n\n".join(
            f"{name} if {{\n\t{self._body([], 1)}\n}}" for _ in range(self._dice.randint(1, 2))
        )
        self._helpers.append(name)
        return text

    def _set(self, name: str) -> str:
        names: list[str] = []
        body = self._body(names, 1)
        self._helpers.append(name)
        self._sets_known.append(name)
        return f"{name} contains {self._head_value(names)} if {{\n\t{body}\n}}"

    def _object(self, name: str) -> str:
        self._helpers.append(name)
        source = self._one(("call.args", "call.args.o", "data.lim.by", "call.args.l"))
        return f"{name}[k] := v if some k, v in {source}"

    def _function(self, name: str) -> str:
        arity = self._dice.randint(1, 2)
        parameters = [f"p{at}" for at in range(arity)]
        patterns = list(parameters)
        if self._chance(0.4):
            patterns[0] = self._one(('"abc"', "3", "[p0, _]", '{"k": p0}', "null", "[p0]"))
            if "p0" not in patterns[0]:
                parameters = parameters[1:]
        names = list(parameters)
        text = f"{name}({', '.join(patterns)}) := {self._term(names, 1)} if {{\n\t{self._body(names, 1)}\n}}"
        if self._chance(0.4):
            text += f" else := {self._one(LITERALS)}"
        if self._chance(0.3):
            text += f"\n\ndefault {name}({', '.join(['_'] * arity)}) := {self._one(LITERALS)}"
        self._functions.append((name, arity))
        return text

    # --- statements ---

    def _body(self, names: list[str], depth: int) -> str:
        return "\n\t".join(self._statement(names, depth) for _ in range(self._dice.randint(1, 4)))

    def _statement(self, names: list[str], depth: int) -> str:
        forms: list[Callable[[list[str], int], str]] = [
            self._comparison, self._comparison, self._assignment, self._assignment, self._iteration, self._membership,
            self._negation, self._negation, self._bare, self._unification, self._boolean_call, self._index,
        ]  # fmt: skip
        if depth < 2:
            forms.append(self._every)
        return self._one(forms)(names, depth)

    def _comparison(self, names: list[str], depth: int) -> str:
        sides = [self._any(names), self._term(names, depth)]
        self._dice.shuffle(sides)
        return f"{sides[0]} {self._one(COMPARE)} {sides[1]}"

    def _assignment(self, names: list[str], depth: int) -> str:
        value = self._term(names, depth)
        return f"{self._name(names)} := {value}"

    def _iteration(self, names: list[str], depth: int) -> str:
        many = self._many(names, depth)
        if self._chance(0.4):
            key = self._name(names)
            return f"some {key}, {self._name(names)} in {many}"
        return f"some {self._name(names)} in {many}"

    def _membership(self, names: list[str], depth: int) -> str:
        return f"{self._term(names, depth)} in {self._many(names, depth)}"

    def _negation(self, names: list[str], depth: int) -> str:
        form = self._one((self._comparison, self._membership, self._bare, self._boolean_call, self._bare))
        self._is_total = self._chance(0.9)
        text = form(names, depth)
        self._is_total = False
        return f"not {text}"

    def _bare(self, names: list[str], depth: int) -> str:
        return self._one([*REFS, *self._helpers, *names])

    def _unification(self, names: list[str], depth: int) -> str:
        value = self._any(names)
        if self._chance(0.5):
            return f"{self._term(names, depth)} = {value}"
        first, second = self._name(names), self._name(names)
        return (
            f"[{first}, {second}] = {value}"
            if self._chance(0.6)
            else f'{{"a": {first}, "k": {second}}} = {value}'
        )

    def _boolean_call(self, names: list[str], depth: int) -> str:
        one = self._one(
            (
                "startswith({0}, {1})",
                "is_string({0})",
                "regex.match(`^[a-z]+$`, {0})",
                "contains({0}, {1})",
                "is_null({1})",
            )
        )
        return one.format(self._any(names), self._any(names))

    def _index(self, names: list[str], depth: int) -> str:
        base = self._one(("call.args.l", "call.args.o", "call.args", "data.lim.by", *self._helpers))
        return f"{base}[{self._name(names)}] == {self._term(names, depth)}"

    def _every(self, names: list[str], depth: int) -> str:
        inner = [*names, "e"]
        many = self._many(names, depth)
        return f"every e in {many} {{\n\t\te != 5\n\t\t{self._statement(inner, 2)}\n\t}}"

    # --- terms ---

    def _term(self, names: Sequence[str], depth: int) -> str:
        if self._is_total:
            return self._one(tuple(names) if names and self._chance(0.6) else (*LITERALS[:14], *TOTAL))
        dice = self._dice.random()
        if depth >= 3 or dice < 0.55:
            return self._leaf(names)
        forms = (
            self._arithmetic, self._sets, self._call, self._call, self._own_call, self._array, self._object_term,
            self._comprehension, self._comprehension, self._nested_ref,
        )  # fmt: skip
        return self._one(forms)(names, depth + 1)

    def _any(self, names: Sequence[str]) -> str:
        """Something that may be of any type, for all that OPA's compiler can tell."""
        if self._is_total:
            return self._one(
                tuple(names) if names and self._chance(0.7) else ('call.arg("a", "z")', "call.result")
            )
        if self._chance(0.08):
            return self._leaf(names)
        return self._one(tuple(names) if names and self._chance(0.5) else ANY)

    def _leaf(self, names: Sequence[str]) -> str:
        pool: Sequence[str] = self._one(
            (LITERALS, REFS, REFS, tuple(names) or REFS, tuple(self._helpers) or REFS)
        )
        return self._one(pool)

    def _many(self, names: Sequence[str], depth: int) -> str:
        """What may be a collection."""
        if self._chance(0.5) or self._is_total:
            return self._any(names)
        return (
            self._one((*COLLECTIONS, *self._helpers))
            if self._chance(0.6)
            else self._comprehension(names, depth + 1)
        )

    def _arithmetic(self, names: Sequence[str], depth: int) -> str:
        return (
            f"({self._any(names)} {self._one(('+', '-', '*', '/', '%'))} "
            f"{self._any(names) if self._chance(0.7) else self._one(('1', '0', '2.5', '-3'))})"
        )

    def _sets(self, names: Sequence[str], depth: int) -> str:
        sets = [*self._sets_known, '{"a", "b"}', "{1, 2, 3}", "call.targets"]
        return f"({self._one(sets)} {self._one(('|', '&', '-'))} {self._one(sets)})"

    def _call(self, names: Sequence[str], depth: int) -> str:
        if self._chance(0.02):
            return f'sprintf("%v-%v", [{self._term(names, depth)}, {self._term(names, depth)}])'
        chosen = self._one((UNARY, UNARY, BINARY, BINARY, TERNARY))
        count = 1 if chosen is UNARY else 2 if chosen is BINARY else 3
        return f"{self._one(chosen)}({', '.join(self._any(names) for _ in range(count))})"

    def _own_call(self, names: Sequence[str], depth: int) -> str:
        if not self._functions:
            return self._leaf(names)
        name, arity = self._one(self._functions)
        return f"{name}({', '.join(self._any(names) for _ in range(arity))})"

    def _array(self, names: Sequence[str], depth: int) -> str:
        items = [self._term(names, depth) for _ in range(self._dice.randint(1, 3))]
        return f"[{', '.join(items)}]" if self._chance(0.6) else f"{{{', '.join(items)}}}"

    def _object_term(self, names: Sequence[str], depth: int) -> str:
        key = self._one(('"a"', '"k"', "1", self._leaf(names)))
        return f"{{{key}: {self._term(names, depth)}}}"

    def _comprehension(self, names: Sequence[str], depth: int) -> str:
        inner = list(names)
        body = "; ".join(
            [self._iteration(inner, 2), *(self._statement(inner, 2) for _ in range(self._dice.randint(0, 2)))]
        )
        if "\n" in body:
            return self._leaf(names)
        term = self._term(inner, 3)
        shape = self._one(("[{0} | {1}]", "{{{0} | {1}}}", "{{{2}: {0} | {1}}}"))
        return shape.format(term, body, self._leaf(inner))

    def _nested_ref(self, names: Sequence[str], depth: int) -> str:
        base = self._one(("call.args.o", "call.args", "call.args.b", "data.lim.by", *self._helpers, *names))
        return f"{base}[{self._leaf(names)}]" if self._chance(0.5) else f"{base}.{self._one(('a', 'k', 'c'))}"

    # --- dice ---

    def _name(self, names: list[str]) -> str:
        """A variable that has a value from here on; mostly a new one."""
        if names and self._chance(0.07):
            return self._one(names)
        self._fresh += 1
        names.append(f"v{self._fresh}")
        return names[-1]

    def _chance(self, of: float) -> bool:
        return self._dice.random() < of

    def _one(self, among: Sequence):  # type: ignore[no-untyped-def, type-arg]
        return self._dice.choice(among)


# --- documents ---------------------------------------------------------------------------------------

HOSTILE: tuple[JSON, ...] = (
    "", "abc", "a", "\x00", "a\x00b", "é", "e\u0301", "\u202e", "😀", "\u2028", "ﬁ", "İ", "Σς", "%v %d", "${x}", "<script>&", "a" * 3000,
    " a ", "../../etc", "1", "1.2.3", "null", 0, 1, -1, 3, 2.5, -0.0, 0.1, 1e-7, 1e21, 1.5e300, 2**53 - 1, -(2**53) + 1, 100000000000,
    True, False, None, [], {}, [[]], [None], {"": ""}, {"a": {"b": {"c": [1, {"k": "v"}]}}}, {"é": 1, "e\u0301": 2},
    ["a", "b", "a"], [1, "1", 1.5, True, None], {"k": "v", "a": "abc"}, {"1": 1}, list(range(300)), {f"k{n}": n for n in range(80)},
)  # fmt: skip
NAMES = ("a", "b", "l", "o", "n", "p", "u", "c", "k", "é", "")


def nested(levels: int, *, dict_of: bool) -> JSON:
    value: JSON = "leaf"
    for _ in range(levels):
        value = {"a": value} if dict_of else [value]
    return value


def some_document(dice: random.Random) -> dict[str, JSON]:
    """One document that a guard could have sent, or one with a part that is of the wrong type or missing."""
    phase = dice.choice([Phase.EXECUTE_TOOL, Phase.EXECUTE_TOOL, Phase.EXECUTE_TOOL, *Phase])
    args = {name: value(dice) for name in dice.sample(NAMES, dice.randint(0, 6))}
    content = document(
        dice.choice(["pay", "pay", "pay", "read", "", "abc"]),
        args,
        phase=phase,
        origins={"/a": dice.choice(["user", "untrusted", "unknown", "odd"])} if dice.random() < 0.5 else None,
        result=value(dice),
        normalised=NORMALISED if dice.random() < 0.5 else {},
    )
    if dice.random() < 0.3:
        content["resource"]["properties"]["annotations"] = {"target": ["a", "/o/k", "/l/0"], "kind": "money"}  # type: ignore[index,call-overload]
    if dice.random() < 0.25:
        _damage(content, dice)
    return content


def value(dice: random.Random) -> JSON:
    if dice.random() < 0.04:
        return nested(dice.randint(10, 90), dict_of=dice.random() < 0.5)
    if dice.random() < 0.15:
        return {dice.choice(["a", "k", "c", "b"]): dice.choice(HOSTILE) for _ in range(3)}
    if dice.random() < 0.15:
        return [dice.choice(HOSTILE) for _ in range(3)]
    return dice.choice(HOSTILE)


def _damage(content: dict[str, JSON], dice: random.Random) -> None:
    """Take one part out, or put something else in its place; the phase stays."""
    here: dict[str, JSON] = content
    for _ in range(dice.randint(0, 2)):
        inner = [part for part in here.values() if isinstance(part, dict) and part]
        if inner:
            here = dice.choice(inner)
    names = [name for name in here if name not in ("name", "action")]
    if not names:
        return
    name = dice.choice(names)
    if dice.random() < 0.5:
        del here[name]
    else:
        here[name] = dice.choice(HOSTILE)


NORMALISED: Mapping[str, JSON] = {
    "paths": {"/p": "/x"},
    "urls": {"/u": {"scheme": "https", "host": "abc", "port": 443, "path": "/"}},
    "argv": {"/c": ["ls", "-l"]},
}
