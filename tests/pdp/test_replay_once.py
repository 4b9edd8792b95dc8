"""Inputs that differ only in what no rule reads are decided once, and as if each were asked about."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pdp.documents import document
from pdp.generated import ARGS, DATA, NORMALISED, policy

from fumehood.canonical import JSON
from fumehood.errors import ConfigError
from fumehood.ledger import Event
from fumehood.ledger.rows import decision_json
from fumehood.model import Decision, Effect, Phase, PolicyFacts, PolicyInput
from fumehood.pdp import open_pdp
from fumehood.redaction import MARK
from fumehood.workbench.loading import load_parsed
from fumehood.workbench.projection import Kept, Projection, is_plain
from fumehood.workbench.reads import Reads
from fumehood.workbench.replay import Replayer

PERMIT = f"{{{decision_json(Decision(Effect.PERMIT, revision='sha256:1'))}}}".encode()


class Counting:
    """An engine, and how often it was asked."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.asked = inner, 0

    @property
    def facts(self) -> PolicyFacts:
        return self.inner.facts  # type: ignore[no-any-return]

    def evaluate(self, asked: PolicyInput, /) -> Decision:
        self.asked += 1
        return self.inner.evaluate(asked)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.inner.close()


def _folder(path: Path, text: str) -> list[str]:
    path.mkdir()
    (path / "p.rego").write_text(text)
    (path / "data.json").write_text(DATA)
    return [f"{path}/"]


def _pair(given: list[str]) -> tuple[Replayer, Replayer, Counting]:
    bundle, modules = load_parsed(given)
    reads, pdp = Reads(modules), Counting(open_pdp(bundle, isolation="thread"))
    return Replayer(pdp, reads), Replayer(pdp, reads, is_each=True), pdp


def _recorded(asked: Any, tool: str = "pay") -> tuple[Event, bytes]:
    event = Event(1, 0.0, "decision", "s", "bot", tool, "a", "permit", "", PERMIT)
    return event, json.dumps(asked, ensure_ascii=False).encode()


def _variants(args: dict[str, JSON], dice: random.Random) -> Iterator[Any]:
    """The same call with other things around it, and one where an argument is another one."""
    asked: Any = document("pay", args, normalised=NORMALISED, counters={}, history=[])  # type: ignore[arg-type]
    yield asked
    changes: list[tuple[tuple[str, ...], JSON]] = [
        (("context", "time"), "2027-01-01T00:00:00.000Z"),
        (("action", "properties", "digest"), "hmac-sha256:1"),
        (("subject", "id"), "abc"),
        (("context", "provenance", "args"), {"/a": [{"origin": "user", "source": "user"}]}),
        (("context", "normalised"), {"unparseable": {"path": {"/p": "odd"}}, "paths": {}}),
        (
            ("action", "properties", "args", dice.choice("ablonpuc")),
            dice.choice(["abc", 3, MARK, [], True, 1.0]),
        ),
    ]
    for steps, value in changes:
        other = copy.deepcopy(asked)
        here = other
        for step in steps[:-1]:
            here = here[step]
        here[steps[-1]] = value
        yield other


@pytest.mark.parametrize("seed", [3])
def test_inputs_that_are_decided_once_are_decided_as_if_each_were_asked(tmp_path: Path, seed: int) -> None:
    dice, asked, spared = random.Random(seed), 0, 0
    for n in range(80):
        given = _folder(tmp_path / f"{n}", policy(dice))
        try:
            once, each, pdp = _pair(given)
        except ConfigError:
            continue
        for args in ARGS:
            for variant in _variants(args, dice):
                before = pdp.asked
                found = once.decide(*_recorded(variant))
                spared += pdp.asked == before
                asked += 1
                assert found == each.decide(*_recorded(variant)), (given, variant)
    assert asked > 600
    assert asked / 3 < spared < asked


READ: list[tuple[str, str, JSON]] = [
    ('call.trusted("/a")', "/context/provenance/args", {"/a": [{"origin": "user", "source": "user"}]}),
    ('call.origin("/a") == "system"', "/context/provenance/args", {"/a": [{"origin": "system"}]}),
    ('input.context.time < "2026-06"', "/context/time", "2027-01-01T00:00:00.000Z"),
    ('input.subject.id == "bot"', "/subject/id", "abc"),
    ('call.path("/p") == "/x"', "/context/normalised/paths", {}),
    ('call.url("/u").host == "abc"', "/context/normalised/urls", {}),
    ('call.argv("/c")[0] == "ls"', "/context/normalised/argv", {"/c": ["rm"]}),
    ('call.inside("/p", "/x")', "/context/normalised/files", {"/p": {"leads_to": "/etc"}}),
    ('startswith(call.sql("/q").why, "there")', "/context/normalised/unparseable", {"sql": {"/q": "odd"}}),
    ('call.kind == "read"', "/resource/properties/annotations", {"kind": "read"}),
    ('call.runs == "confined"', "/resource/properties/runs", "confined"),
    ("count(call.targets) == 1", "/resource/properties/annotations", {"target": ["a"]}),
    ("count(call.targets) == 1", "/action/properties/args", {}),
    ('call.arg("n", 0) == 3', "/action/properties/args", {"n": 4}),
    ("call.args.b.c == 3", "/action/properties/args/b", {"c": 4}),
    ('call.args.l[0] == "a"', "/action/properties/args/l", ["b"]),
    ("some x in call.args.l\n\tx == 7", "/action/properties/args/l", [7]),
    ("count(input.context.history) == 0", "/context/history", [{"tool": "x"}]),
    ("not input.context.counters.windows", "/context/counters", {"windows": {}}),
    ("_helped(call.args.n)", "/action/properties/args/n", 4),
    ("_table[call.args.a]", "/action/properties/args/a", "other"),
]
HELPERS = """
_helped(x) if x == 3

_table := {"abc": true}
"""


@pytest.mark.parametrize(("condition", "pointer", "value"), READ)
def test_change_to_what_a_rule_reads_is_decided_anew(
    tmp_path: Path, condition: str, pointer: str, value: JSON
) -> None:
    head = "package policies.x\n\nimport data.fumehood.call\n\n"
    rule = f'permit if {{\n\tcall.tool == "pay"\n\t{condition}\n}}\n'
    once, each, _ = _pair(_folder(tmp_path / "p", head + rule + HELPERS))
    normal: JSON = {**NORMALISED, "files": {"/p": {"leads_to": "/x"}}, "sql": {}, "shell": {}}
    one: Any = document("pay", ARGS[1], normalised=normal, counters={}, history=[])
    if "targets" in condition and "args" in pointer:
        one["resource"]["properties"]["annotations"] = {"target": ["a"]}
    other = copy.deepcopy(one)
    *steps, last = pointer.split("/")[1:]
    here = other
    for step in steps:
        here = here[step]
    here[last] = value
    found = [once.decide(*_recorded(asked)) for asked in (one, other)]
    assert found == [each.decide(*_recorded(asked)) for asked in (one, other)]
    levels = {answer.after.level for answer in found if answer is not None}
    assert len(levels) == 2


RULES = """package policies.x

import data.fumehood.call

permit if {
	call.tool == "pay"
	call.args.n == 1
}
"""


def test_what_no_rule_reads_is_not_asked_about_again(tmp_path: Path) -> None:
    once, _, pdp = _pair(_folder(tmp_path / "p", RULES))
    for note in range(50):
        found = once.decide(*_recorded(document("pay", {"n": 1, "note": note}, history=[], counters={})))
        assert found is not None
        assert found.after.level == "permit"
    assert pdp.asked == 1


@pytest.mark.parametrize("other", [True, 1.0, "1", [1], {"1": 1}, None, 2])
def test_values_of_other_types_are_not_taken_for_one_another(other: JSON) -> None:
    key = Projection([("action", "properties", "args", "n")]).key
    assert key(document("pay", {"n": 1})) != key(document("pay", {"n": other}))


def test_argument_that_is_missing_differs_from_any_that_is_there() -> None:
    key = Projection([("action", "properties", "args", "n"), ("action", "properties", "args", "m")]).key
    shapes: list[JSON] = [{}, {"n": None}, {"m": None}, {"n": []}, {"n": {}}, [], None, "n"]
    asked: list[Any] = [document("pay", {}) for _ in shapes]
    for one, args in zip(asked, shapes, strict=True):
        one["action"]["properties"]["args"] = args
    assert len({key(one) for one in asked}) == len(shapes)


def test_rule_that_reads_everything_has_the_whole_input_in_its_key() -> None:
    key = Projection([()]).key
    one, other = document("pay", {}), document("pay", {})
    other["context"]["time"] = "2027-01-01T00:00:00.000Z"  # type: ignore[index,call-overload]
    assert key(one) != key(other)
    assert key(document("pay", {"text": "x" * 20_000})) is None


def test_reason_why_something_was_not_parsed_belongs_to_what_is_read() -> None:
    projection = Projection([("context", "normalised", "urls", "/u")])
    one = document("pay", {}, normalised={"unparseable": {"url": {"/u": "no scheme"}}})
    other = document("pay", {}, normalised={"unparseable": {"url": {"/u": "no host"}}})
    assert projection.has_forms
    assert projection.key(one) != projection.key(other)


DEEP: Any = 1
for _ in range(150):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": "\\ud800"}', json.dumps({"a": DEEP}), json.dumps({"a": "x" * (1 << 20)})]
)
def test_document_that_the_engine_would_refuse_is_asked_about_each_time(tmp_path: Path, text: str) -> None:
    assert not is_plain(text.encode(), json.loads(text))
    once, each, pdp = _pair(_folder(tmp_path / "p", RULES))
    good = document("pay", {"n": 1, "note": {}}, history=[], counters={})
    assert once.decide(*_recorded(good)) is not None
    bad = json.dumps(good).replace('"note": {}', f'"note": {text}').encode()
    event, before = _recorded(good)[0], pdp.asked
    found = once.decide(event, bad)
    assert pdp.asked == before + 1
    assert found == each.decide(event, bad)
    assert found is not None
    assert found.after.level == "deny"


def test_wide_document_is_plain() -> None:
    wide: JSON = [[n] for n in range(200)]
    assert is_plain(json.dumps(wide).encode(), wide)


def test_record_whose_tool_is_not_that_of_its_input_is_asked_about(tmp_path: Path) -> None:
    once, each, pdp = _pair(_folder(tmp_path / "p", RULES))
    asked = document("pay", {"n": 1}, history=[], counters={})
    for _ in range(2):
        before = pdp.asked
        assert once.decide(*_recorded(asked, "read")) == each.decide(*_recorded(asked, "read"))
        assert pdp.asked == before + 2


def test_only_so_many_answers_are_kept() -> None:
    kept: Kept[int] = Kept(2)
    for n in range(3):
        assert kept.put(b"%d" % n, n) == n
    assert [kept.get(b"%d" % n) for n in range(3)] == [None, 1, 2]


def test_phases_do_not_share_answers(tmp_path: Path) -> None:
    once, each, _ = _pair(_folder(tmp_path / "p", RULES))
    for phase in Phase:
        asked = document("pay", {"n": 1}, phase=phase, history=[], counters={})
        assert once.decide(*_recorded(asked)) == each.decide(*_recorded(asked))
