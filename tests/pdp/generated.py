"""Random rules, of the forms that people write, for comparing the engines. Many are refused by the gate."""

from __future__ import annotations

import random
from collections.abc import Mapping

from fumehood.canonical import JSON

SCALARS = (
    "call.args.a", "call.args.b.c", 'call.args["a"]', "call.args.l[0]", "call.args.o.k", "call.args.n",
    "call.tool", "call.kind", "input.subject.id", "input.nope", 'call.arg("a", "z")',
    'call.arg("nope", 3)', '"abc"', "3", "-1.5", "null", "true", "false", "x", "y", "x.k", "_h", "_d",
    "_m.p", "_e", "_q.r", "call.args.l[_]", "call.args.o[x]", "_m[x]", '_p["a"]', "data.lim.max",
    "data.lim.nope", 'call.trusted("/a")', 'call.origin("/a")', 'call.path("/p")', 'call.url("/u").host',
    'call.argv("/c")[0]', "_f(x)", "_f(call.args.a)", "type_name(x)", "type_name(call.args.a)",
    'sprintf("%v", [call.args.a])', 'object.get(call.args, "a", 0)', 'concat("/", [call.tool, "x"])',
    "is_string(call.args.a)",
)  # fmt: skip

COLLECTIONS = (
    "call.args.l", "call.args.o", "call.args", "call.targets", 'call.argv("/c")', "_s", "_m", "_p",
    "data.lim.list", "[]", "{}", "set()", '{"a"}', '["a", 1]', '{"k": 1}', "[z | some z in call.args.l]",
    '{z | some z in call.args.l; z != "b"}', "{k: v | some k, v in call.args.o}", "call.args.a",
    '[z | z := call.args.l[_]; not z == "a"]', "_g(x)", "call.result",
)  # fmt: skip

HEADS = (
    "permit if", 'deny contains "d" if', 'deny contains {"reason": "d", "detail": x} if',
    "permit_connect if", 'approve contains {"reason": "a", "risk": "low"} if', 'confine contains "p" if',
    'withhold contains "w" if',
    'limit contains {"key": concat("/", ["a", call.tool]), "max": 2, "per_s": 3} if',
    "label contains x if", 'deny contains {"reason": "d", "detail": [x, y]} if',
    'redact contains {"path": "/a"} if',
)  # fmt: skip
HEAD = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "pay"\n\n'
TAIL = """

_h if call.args.a == "abc"

_s contains x if some x in call.args.l

_m := {"p": 1, "a": "abc", "q": [1]}

default _d := false

_d if call.args.n > 2

_f(x) if x == "abc"

_f(x) if x == 3

_g(x) := [x, 1]

_p[k] := w if some k, w in call.args.o

_q.r := 5 if call.args.n > 1

_e := 1 if {
	call.args.n > 100
} else := 2 if {
	call.args.a
} else := 3 if call.tool == "pay"
"""
DATA = '{"lim": {"max": 3, "list": ["a", "abc"]}}'

ARGS: list[dict[str, JSON]] = [
    {},
    {
        "a": "abc",
        "b": {"c": 3},
        "l": ["a", "b"],
        "o": {"k": "v", "a": 1},
        "n": 3,
        "p": "/x",
        "u": "u",
        "c": "ls",
    },
    {"a": 3, "b": "q", "l": {"a": "abc"}, "o": ["k"], "n": "3"},
    {"a": None, "b": None, "l": None, "o": None, "n": None},
    {"a": ["abc", 2], "b": {"c": False}, "l": [], "o": {}, "n": -2.5},
    {"a": False, "b": {"c": "abc"}, "l": [1, 2, "abc", None, ["a"]], "o": {"a": "a", "b": {"k": 1}}, "n": 0},
    {"a": "É漢", "b": {"c": [1]}, "l": "abc", "o": "k", "n": True},
]
NORMALISED: Mapping[str, JSON] = {
    "paths": {"/p": "/x"},
    "urls": {"/u": {"scheme": "https", "host": "abc", "port": 443, "path": "/"}},
    "argv": {"/c": ["ls", "-l"]},
}


def policy(dice: random.Random) -> str:
    """One policy with one or two random rules."""
    rules = (_rule(dice) for _ in range(dice.choice([1, 1, 2])))
    return HEAD + "\n\n".join(rules) + TAIL


def _rule(dice: random.Random) -> str:
    body = "\n\t".join(_statement(dice) for _ in range(dice.choice([1, 2, 3, 4])))
    return f"{dice.choice(HEADS)} {{\n\t{body}\n}}"


def _statement(dice: random.Random, depth: int = 0) -> str:
    def one() -> str:
        return dice.choice(SCALARS)

    def many() -> str:
        return dice.choice(COLLECTIONS)

    forms = [
        lambda: f"{one()} {dice.choice(['==', '!=', '<', '>=', '>', '<='])} {one()}",
        lambda: f"{many()} {dice.choice(['==', '!='])} {many()}",
        lambda: f"x := {one()}",
        lambda: f"y := {many()}",
        lambda: f"some x in {many()}",
        lambda: f"some y, x in {many()}",
        lambda: f"{one()} in {many()}",
        lambda: one(),
        lambda: f"{one()} = {one()}",
        lambda: f"[x, y] = {many()}",
        lambda: f"call.args.l[y] == {one()}",
        lambda: f"call.args.o[y] == {one()}",
        lambda: f"_m[y] == {one()}",
        lambda: "walk(call.args, [x, y])",
        lambda: f"not {one()}",
        lambda: f"not {one()} {dice.choice(['==', '!=', '<'])} {one()}",
        lambda: f"not {one()} in {many()}",
        lambda: f"not _f({one()})",
        lambda: f"not is_string({one()})",
        lambda: f"not startswith({one()}, {one()})",
        lambda: f"startswith({one()}, {one()})",
        lambda: f"count({many()}) > 1",
        lambda: f"lower({one()}) == {one()}",
        lambda: f"regex.match(`^[a-z]+$`, {one()})",
        lambda: (
            f"every w in {many()} {{\n\t\tw != 5\n\t\t{_statement(dice, depth + 1)}\n\t}}"
            if depth == 0
            else one()
        ),
    ]
    return dice.choice(forms)()
