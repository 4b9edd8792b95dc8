"""Explanations: each agrees with the decision, and the condition that it names is what stops the rule."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pdp.documents import document
from pdp.generated import ARGS, DATA, NORMALISED, policy

from fumehood.canonical import JSON
from fumehood.errors import ConfigError
from fumehood.normalise import normalised
from fumehood.pdp import load_bundle
from fumehood.pdp.sources import PolicyFile
from fumehood.pdp.syntax import Module, module_of
from fumehood.workbench.explain import Explainer
from fumehood.workbench.explanation import Condition, Definition
from fumehood.workbench.unparse import Writer

SEED = 5


def folder(path: Path, text: str, data: str = "{}") -> list[str]:
    path.mkdir(exist_ok=True)
    (path / "p.rego").write_text(text)
    (path / "data.json").write_text(data)
    return [f"{path}/"]


@pytest.fixture
def explain(tmp_path: Path) -> Callable[..., list[Definition]]:
    def explained(rules: str, **args: JSON) -> list[Definition]:
        text = f"package policies.x\n\nimport data.fumehood.call\n\n{rules}\n"
        given = folder(tmp_path / "p", text)
        return list(
            Explainer(given)
            .explain(document("pay", args, normalised=normalised(args), counters={}, history=[]))
            .definitions
        )

    return explained


def last(definition: Definition) -> Condition:
    return definition.conditions[-1]


PERMIT = 'permit if {\n\tcall.tool == "pay"\n\tis_number(call.args.n)\n\tcall.args.n <= 10\n}'


def test_first_condition_that_fails_is_named_with_its_value(explain: Any) -> None:
    (found,) = explain(PERMIT, n=50)
    assert (found.outcome, found.passed, found.total) == ("stopped", 2, 3)
    assert (last(found).text, last(found).line, last(found).outcome) == ("call.args.n <= 10", 8, "fails")
    assert [(v.text, v.values) for v in last(found).values] == [("call.args.n", (50,))]
    assert last(found).hint == "call.args.n must be at most 10"


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ('startswith(call.args.s, "/srv/")', 'call.args.s must begin with "/srv/"'),
        ("regex.match(`^[a-z]+$`, call.args.s)", 'call.args.s must match "^[a-z]+$"'),
        ('call.args.s in {"a", "b"}', 'call.args.s must be one of {"a", "b"}'),
        ("is_number(call.args.s)", "call.args.s must be a number"),
        ('"a" == call.args.s', 'call.args.s must be equal to "a"'),
        ('call.path("/s") == "/etc"', 'call.path("/s") must be equal to "/etc": the argument must be an'),
        ('[x, "b"] := [call.args.s, "a"]', '[call.args.s, "a"] must fit [x, "b"]'),
        ("call.args.t.u", "`call.args.t.u` must hold"),
    ],
)
def test_hint_says_what_would_hold(explain: Any, condition: str, words: str) -> None:
    use = "\n\tx == x" if "[x" in condition else ""
    (found,) = explain(f'permit if {{\n\tcall.tool == "pay"\n\t{condition}{use}\n}}', s="/S1", t={})
    assert last(found).hint.startswith(words)


def test_absent_argument_is_said_to_be_undefined(explain: Any) -> None:
    (found,) = explain(PERMIT)
    assert last(found).hint == "`call.args.n` is undefined: there is no such value here"


def test_fired_rule_shows_every_condition(explain: Any) -> None:
    (found,) = explain(PERMIT, n=5)
    assert (found.outcome, found.says, found.passed) == ("fired", True, 3)


def test_local_variables_have_their_values(explain: Any) -> None:
    (found,) = explain("permit if {\n\tlimit := call.args.n * 2\n\tlimit > 10\n}", n=3)
    assert [(v.text, v.values) for v in last(found).values] == [("limit", (6,))]


def test_some_shows_every_value_that_was_tried(explain: Any) -> None:
    (found,) = explain('permit if {\n\tsome x in call.args.l\n\tx == "c"\n}', l=["a", "b"])
    assert (last(found).text, last(found).values[0].values) == ('x == "c"', ("a", "b"))


def test_some_in_nothing_says_so(explain: Any) -> None:
    (found,) = explain('permit if {\n\tsome x in call.args.l\n\tx == "c"\n}', l=[])
    assert last(found).hint == "there must be something in `call.args.l`"


def test_negated_helper_is_explained_by_what_holds_in_it(explain: Any) -> None:
    deny_it = '\n\ndeny contains "x" if {\n\tcall.tool == "pay"\n\tnot _good\n}'
    deny = explain(f"{PERMIT}{deny_it}\n\n_good if call.args.n > 3", n=5)[1]
    assert last(deny).hint == "`_good` must not hold"
    (good,) = last(deny).because
    assert (good.outcome, last(good).text) == ("fired", "call.args.n > 3")


def test_helper_that_fails_is_looked_into(explain: Any) -> None:
    rules = (
        'permit if {\n\tcall.tool == "pay"\n\t_good\n}\n\n_good if {\n\tcall.args.n > 3\n\tcall.args.n < 5\n}'
    )
    (good,) = last(explain(rules, n=9)[0]).because
    assert (good.outcome, last(good).text) == ("stopped", "call.args.n < 5")


def test_function_is_looked_into_with_its_arguments(explain: Any) -> None:
    rules = 'permit if {\n\tcall.tool == "pay"\n\t_near(call.args.n, 3)\n}\n\n'
    rules += "_near(a, b) if {\n\ta > b - 2\n\ta < b + 2\n}"
    (near,) = last(explain(rules, n=9)[0]).because
    assert (last(near).text, last(near).values[0].values) == ("a < b + 2", (9,))


def test_parsed_argument_that_no_rule_read_then_cannot_be_told(tmp_path: Path) -> None:
    text = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.inside("/p", "/srv")\n'
    explainer = Explainer(folder(tmp_path / "p", text))
    for forms in ({}, {"paths": {"/p": "/srv/x"}}, {"paths": {"/p": "/srv/x"}, "files": {}}):
        recorded = document("pay", {"p": "/srv/x"}, normalised=forms, counters={}, history=[])  # type: ignore[arg-type]
        (found,) = explainer.explain(recorded).definitions
        assert found.outcome == "cannot tell"


def test_comprehension_is_a_value(explain: Any) -> None:
    (found,) = explain(
        "permit if {\n\tgood := [x | some x in call.args.l; x > 1]\n\tcount(good) == 3\n}", l=[1, 2]
    )
    assert last(found).values[0] == last(found).values[0].__class__("count(good)", (1,))


def test_every_names_what_fails_it(explain: Any) -> None:
    (found,) = explain(
        'permit if {\n\tcall.tool == "pay"\n\tevery x in call.args.l {\n\t\tx < 3\n\t}\n}', l=[1, 9]
    )
    assert [v.values for v in last(found).values if v.text == "what fails it as x"] == [(9,)]


def test_else_says_which_body_decided(explain: Any) -> None:
    rules = 'permit if {\n\tcall.tool == "pay"\n\t_kind == 2\n}\n\n'
    rules += "_kind := 1 if {\n\tcall.args.n > 5\n} else := 2 if call.args.n > 2"
    assert explain(rules, n=4)[0].outcome == "fired"
    by_name = rules.replace("_kind == 2", "_kind")
    (kind,) = last(explain(by_name, n=4)[0]).because
    assert (kind.outcome, last(kind).text) == ("fired", "call.args.n > 2")
    (kind,) = last(explain(by_name, n=1)[0]).because
    assert (kind.outcome, last(kind).outcome) == ("stopped", "fails")


def test_condition_that_raises_is_an_error_and_not_a_no(explain: Any) -> None:
    (found,) = explain('permit if {\n\tcall.tool == "pay"\n\tcount(call.args.n) > 1\n}', n=4)
    assert (found.outcome, last(found).outcome) == ("error", "error")


def test_what_was_redacted_cannot_be_told(explain: Any) -> None:
    (found,) = explain('permit if {\n\tcall.tool == "pay"\n\tcall.args.token == "x"\n}', token="⟨redacted⟩")
    assert (found.outcome, last(found).outcome) == ("cannot tell", "cannot tell")
    assert "/action/properties/args/token" in last(found).hint


def test_trust_says_where_the_argument_was_found(explain: Any) -> None:
    (found,) = explain('permit if {\n\tcall.tool == "pay"\n\tcall.trusted("/n")\n}', n=4)
    assert ('call.origin("/n")', ("unknown",)) in [(v.text, v.values) for v in last(found).values]


def test_body_with_very_many_conditions_is_not_looked_into(explain: Any) -> None:
    body = "\n\t".join(f"call.args.n > {i}" for i in range(80))
    found, other = explain(f'permit if {{\n\t{body}\n}}\n\npermit if call.tool == "pay"', n=100)
    assert (found.outcome, found.conditions) == ("not explained", ())
    assert "more than 64 conditions" in found.note
    assert other.outcome == "fired"


def test_line_that_the_engine_cannot_read_spoils_only_its_own_rule(explain: Any) -> None:
    body = "\n\t".join([f'call.args.n < "{"x" * 1000}"'] * 64)
    found, other = explain(f'permit if {{\n\t{body}\n}}\n\npermit if call.tool == "pay"', n=1)
    assert (found.outcome, found.note) == ("not explained", "it is too long to be looked into")
    assert other.outcome == "fired"


def _accepted(count: int, path: Path, seed: int) -> Iterator[tuple[list[str], str]]:
    dice = random.Random(seed)
    found = 0
    while found < count:
        text = policy(dice)
        given = folder(path / f"{found}", text, DATA)
        try:
            load_bundle(given)
        except ConfigError:
            continue
        found += 1
        yield given, text


def _agree(given: list[str], text: str) -> int:
    """Every explanation agrees with what is decided; how many rules were explained."""
    explainer, told = Explainer(given), 0
    for args in ARGS:
        asked = document("pay", args, normalised=NORMALISED, counters={}, history=[])  # type: ignore[arg-type]
        said = explainer.explain(asked)
        for d in said.definitions:
            assert d.outcome != "not explained", (text, args, d)
            ends = [c.outcome for c in d.conditions]
            assert ends[:-1] == ["holds"] * (len(ends) - 1), (text, args, d)
            if d.outcome == "stopped":
                assert ends[-1] == "fails", (text, args, d)
            elif d.outcome == "fired":
                assert set(ends) <= {"holds"} and len(ends) == d.total, (text, args, d)
            told += 1
        if said.decision is not None:
            fired = {d.rule for d in said.definitions if d.outcome == "fired"}
            assert set(said.decision.rules) <= fired, (text, args)
    return told


def test_explanations_agree_with_decisions(tmp_path: Path) -> None:
    assert sum(_agree(given, text) for given, text in _accepted(25, tmp_path, SEED)) > 100


@pytest.mark.slow
def test_many_explanations_agree_with_decisions(tmp_path: Path) -> None:
    assert sum(_agree(given, text) for given, text in _accepted(600, tmp_path, SEED + 1)) > 2000


def _plain(value: Any) -> Any:
    """A syntax tree without places."""
    if isinstance(value, dict):
        return {
            k: [v[1]] if k == "field" else _plain(v)
            for k, v in value.items()
            if k not in ("span", "eidx", "sidx", "qidx")
        }
    if isinstance(value, list | tuple):
        return [
            _plain(v)
            for v in value
            if not (isinstance(v, dict) and set(v) == {"line", "col", "start", "end"})
        ]
    return value


EXPRESSIONS = r"""package p

import data.fumehood.call

r if {
	(call.args.n + 2) * 3 == -(call.args.m - 1)
	1 - (2 - 3) > 4 / (5 % 2)
	({1} | {2}) & {3} == set()
	("a" in call.args.l) == (call.args.n > 3)
	"k", "v" in call.args.o
	{"a": {"b": [1, null, true, -1.50e3, 12345678901234567890123]}} != {}
	`raw\d` == "q\"\u00e9\n"
	x := {k: v | some k, v in call.args.o; not k == "z"}
	every k, v in x { v > 1; k != "é" }
	[a, [b, "c"]] = call.args.l
	count([1 | _ = call.args.l[_]]) == a + b
	some i, j
	call.args.l[i][j] == call.args["o"].k[i]
}
"""


def test_what_is_written_back_is_the_same_syntax() -> None:
    dice = random.Random(SEED)
    for text in [EXPRESSIONS, *(policy(dice) for _ in range(60))]:
        module = module_of(PolicyFile("p", "p", text, "p"))
        assert isinstance(module, Module)
        for rule in module.rules:
            for body in rule.bodies:
                written = Writer(module, is_plain=True).statements(body.statements)
                again = module_of(
                    PolicyFile(
                        "q", "q", f"package q\n\nimport data.fumehood.call\n\nr if {{ {written} }}\n", "q"
                    )
                )
                assert isinstance(again, Module), written
                names = ("vars", "key", "value")
                one, two = (
                    [_without(s, names) for s in b.statements] for b in (body, again.rules[0].bodies[0])
                )
                assert one == two, written


def _without(statement: Any, _: Any) -> Any:
    """The names that `some` and `every` declare are places in the text: they are compared by being used."""
    found = _plain(statement)
    kind = next(iter(found["literal"]))
    if kind == "Every":
        found["literal"][kind] = {
            k: v for k, v in found["literal"][kind].items() if k not in ("key", "value")
        }
    return found


def _cut(text: str, first: int, line: int) -> str:
    """*text* with the body that has *line* (from 1) ending right before it; the body begins after *first*."""
    lines = text.split("\n")
    end = next(i for i in range(line - 1, len(lines)) if lines[i] == "}")
    body = lines[first : line - 1]
    return "\n".join([*lines[:first], *(body or ["\ttrue"]), *lines[end:]])


def _fires(path: Path, text: str, asked: Any, rule: str) -> bool | None:
    """Whether *rule* says anything; None where the gate refuses the text."""
    try:
        explainer = Explainer(folder(path, text, DATA))
    except ConfigError:
        return None
    return any(d.rule == rule and d.outcome == "fired" for d in explainer.explain(asked).definitions)


def test_rule_that_ended_before_the_condition_named_would_fire(tmp_path: Path) -> None:
    proven = 0
    for n, (given, text) in enumerate(_accepted(12, tmp_path, SEED + 2)):
        explainer = Explainer(given)
        for i, args in enumerate(ARGS):
            asked = document("pay", args, normalised=NORMALISED, counters={}, history=[])  # type: ignore[arg-type]
            for d in explainer.explain(asked).definitions:
                lines = [c.line for c in d.conditions]
                if d.outcome == "stopped" and len(lines) > 1 and lines == sorted(set(lines)):
                    shorter = _cut(text, d.line, lines[-1])
                    fires = _fires(tmp_path / f"cut{n}_{i}", shorter, asked, d.rule)
                    assert fires is not False, (text, shorter, d)
                    proven += fires is True
    assert proven >= 3


@pytest.mark.parametrize(
    ("condition", "missing"),
    [("call.args.n == 1", ()), ('call.path("/n") == "/a"', ("/context/normalised",))],
)
def test_what_was_not_recorded_is_spoken_of_where_a_rule_reads_it(
    tmp_path: Path, condition: str, missing: tuple[str, ...]
) -> None:
    rule = f'permit if {{\n\tcall.tool == "pay"\n\t{condition}\n}}'
    given = folder(tmp_path / "p", f"package policies.x\n\nimport data.fumehood.call\n\n{rule}\n")
    found = Explainer(given).explain(document("pay", {"n": 1}))
    assert found.missing == missing
