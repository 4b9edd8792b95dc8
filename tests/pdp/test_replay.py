"""Replays: what is wider, tighter, the same, or cannot be told; and that what is told is true."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from pdp.documents import document
from pdp.generated import ARGS, DATA, NORMALISED, policy

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, LedgerError, PdpError
from fumehood.ledger import Event, names
from fumehood.ledger.rows import decision_json
from fumehood.model import Approve, Confine, Decision, Effect, Limit, Phase, PolicyInput, Reason
from fumehood.normalise import normalised
from fumehood.pdp import load_bundle, open_pdp
from fumehood.redaction import MARK
from fumehood.workbench.loading import load_parsed
from fumehood.workbench.reads import Reads, missing_in, pointer_of
from fumehood.workbench.replay import Answer, Change, Level, Replayer, answer_of, compare

PERMIT = Decision(Effect.PERMIT, revision="sha256:1", rules=("policies.x.permit",))
ASK = Decision(Effect.PERMIT, obligations=(Approve("look"),), revision="sha256:1")
DENY = Decision(Effect.DENY, (Reason("denied_by_policy", "no"),), revision="sha256:1")
LIMITED = Decision(Effect.PERMIT, obligations=(Limit("k", 1, 60),), revision="sha256:2")
CONFINED = Decision(Effect.PERMIT, obligations=(Confine("shell"),), revision="sha256:2")
STOPPED = Decision.deny("stopped", "stopped", revision="sha256:1")
FULL = Decision.deny("limit_exceeded", "often", revision="sha256:1")


def answer(decision: Decision, revision: str | None = None) -> Answer:
    said = json.loads(f"{{{decision_json(decision)}}}")
    return answer_of(said | ({names.POLICY_REVISION: revision} if revision else {}))


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (DENY, PERMIT, Change.WIDENED),
        (ASK, PERMIT, Change.WIDENED),
        (DENY, ASK, Change.WIDENED),
        (PERMIT, DENY, Change.TIGHTENED),
        (PERMIT, ASK, Change.TIGHTENED),
        (ASK, DENY, Change.TIGHTENED),
        (DENY, Decision.deny("no_permit", "none"), Change.SAME),
        (PERMIT, PERMIT, Change.SAME),
        (PERMIT, LIMITED, Change.OBLIGATIONS),
        (PERMIT, CONFINED, Change.OBLIGATIONS),
        (CONFINED, PERMIT, Change.OBLIGATIONS),
        (STOPPED, DENY, Change.SAME),
        (STOPPED, PERMIT, Change.UNSURE),
        (FULL, LIMITED, Change.UNSURE),
        (FULL, PERMIT, Change.WIDENED),
        (Decision.deny("pdp_error", "x"), PERMIT, Change.WIDENED),
        (PERMIT, Decision.deny("pdp_error", "x"), Change.TIGHTENED),
    ],
)
def test_two_decisions_compare(before: Decision, after: Decision, change: Change) -> None:
    assert compare(answer(before, "sha256:a"), answer(after, "sha256:b"))[0] is change


def test_what_may_hang_on_a_missing_part_cannot_be_told() -> None:
    unknown = frozenset({("action", "properties", "args", "token")})
    change, why = compare(answer(DENY, "sha256:a"), answer(DENY, "sha256:b"), unknown)
    assert change is Change.UNSURE
    assert "/action/properties/args/token" in why


@pytest.mark.parametrize("before", [DENY, STOPPED, FULL])
def test_same_policies_say_the_same_of_what_is_missing(before: Decision) -> None:
    unknown = frozenset({("context", "history")})
    assert compare(answer(before, "sha256:a"), answer(PERMIT, "sha256:a"), unknown)[0] is Change.SAME


def test_rule_that_moved_changes_nothing() -> None:
    one = Decision(Effect.PERMIT, obligations=(Confine("shell", rule="policies.a.confine"),))
    two = Decision(Effect.PERMIT, obligations=(Confine("shell", rule="policies.b.confine"),))
    assert compare(answer(one), answer(two))[0] is Change.SAME


# --- with an engine


def replayer(tmp_path: Path, text: str) -> Replayer:
    given = _folder(tmp_path / "new", text)
    return Replayer(open_pdp(load_bundle(given), isolation="thread"), Reads(load_parsed(given)[1]))


def _folder(path: Path, text: str, data: str = "{}") -> list[str]:
    path.mkdir(exist_ok=True)
    (path / "p.rego").write_text(text)
    (path / "data.json").write_text(data)
    return [f"{path}/"]


WHOLE: dict[str, JSON] = {"history": [], "counters": {}, "normalised": {}}


def replayed(tool: Replayer, asked: Any, before: Decision = DENY) -> Any:
    event = Event(
        1, 0.0, "decision", "s", "bot", "pay", "a", "deny", "", f"{{{decision_json(before)}}}".encode()
    )
    return tool.decide(event, json.dumps(asked, ensure_ascii=False).encode())


def rego(rules: str) -> str:
    return f"package policies.x\n\nimport data.fumehood.call\n\n{rules}\n"


def test_recorded_time_decides_and_not_the_clock(tmp_path: Path) -> None:
    tool = replayer(
        tmp_path, rego('permit if {\n\tcall.tool == "pay"\n\tstartswith(input.context.time, "2026-01-01")\n}')
    )
    assert replayed(tool, document("pay", {}, **WHOLE)).change is Change.WIDENED


@pytest.mark.parametrize(
    ("condition", "change"),
    [
        ('call.args.token == "x"', Change.UNSURE),
        ("call.args[_] == 3", Change.UNSURE),
        ('call.arg("token", "") == ""', Change.UNSURE),
        ("count(call.targets) == 0", Change.UNSURE),
        ("input.action.properties.args.token", Change.UNSURE),
        ('input["action"].properties == {}', Change.UNSURE),
        ("_reads", Change.UNSURE),
        ("_called(call.args.token)", Change.UNSURE),
        ("some k, v in input", Change.UNSURE),
        ("_table[call.args.token]", Change.UNSURE),
        ("{1 | call.args.token == 3} == set()", Change.UNSURE),
        ('call.trusted("/token")', Change.UNSURE),
        ("call.args.other == 3", Change.WIDENED),
        ('call.trusted("/other")', Change.SAME),
        ('input.subject.id == "bot"', Change.WIDENED),
    ],
)
def test_rule_that_reads_what_was_redacted_cannot_be_told(
    tmp_path: Path, condition: str, change: Change
) -> None:
    use = "\n\tk == k\n\tv == v" if "some" in condition else ""
    helpers = '_table := {"x": 1}\n\n_reads if call.args.token == "x"\n\n_called(x) if x == "x"'
    tool = replayer(
        tmp_path, rego(f'permit if {{\n\tcall.tool == "pay"\n\t{condition}{use}\n}}\n\n{helpers}')
    )
    assert replayed(tool, document("pay", {"token": MARK, "other": 3}, **WHOLE)).change is change


def test_rule_for_another_tool_does_not_matter(tmp_path: Path) -> None:
    other = '\n\ndeny contains "x" if {\n\tcall.tool == "other"\n\tcall.args.token == "x"\n}'
    tool = replayer(tmp_path, rego('permit if call.tool == "pay"' + other))
    assert replayed(tool, document("pay", {"token": MARK}, **WHOLE)).change is Change.WIDENED


def test_history_that_was_not_recorded_cannot_be_told(tmp_path: Path) -> None:
    tool = replayer(
        tmp_path, rego('permit if {\n\tcall.tool == "pay"\n\tcount(input.context.history) < 3\n}')
    )
    asked = document("pay", {}, counters={}, normalised={})
    assert replayed(tool, asked).change is Change.UNSURE
    assert replayed(tool, document("pay", {}, **WHOLE)).change is Change.WIDENED


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        ('call.path("/p") == "/x"', "paths"),
        ('call.url("/p").host == "x"', "urls"),
        ('call.argv("/p")[0] == "x"', "argv"),
        ('call.file("/p").exists', "files"),
        ('call.inside("/p", "/x")', "paths"),
        ('call.inside("/p", "/x")', "files"),
        ('call.shell("/p").is_static', "shell"),
        ('call.sql("/p").parsed', "sql"),
        ('input.context.normalised.sql["/p"].kinds[0] == "select"', "sql"),
    ],
)
def test_parsed_argument_that_no_rule_read_then_cannot_be_told(
    tmp_path: Path, condition: str, place: str
) -> None:
    tool = replayer(tmp_path, rego(f'permit if {{\n\tcall.tool == "pay"\n\t{condition}\n}}'))
    forms = normalised({"p": "ls /x"})
    whole = document("pay", {"p": "ls /x"}, history=[], counters={}, normalised=forms)
    assert replayed(tool, whole).change is not Change.UNSURE
    left = {name: found for name, found in forms.items() if name not in (place, "unparseable")}
    found = replayed(tool, document("pay", {"p": "ls /x"}, history=[], counters={}, normalised=left))
    assert found.change is Change.UNSURE
    assert f"/context/normalised/{place}" in found.why


def test_call_that_cannot_be_confined_stays_denied(tmp_path: Path) -> None:
    tool = replayer(
        tmp_path, rego('permit if call.tool == "pay"\n\nconfine contains "shell" if call.tool == "pay"')
    )
    found = replayed(tool, document("pay", {}, **WHOLE))
    assert (found.change, found.after.codes) == (Change.SAME, ("cannot_confine",))


def test_second_decision_about_a_call_is_left_out(tmp_path: Path) -> None:
    tool = replayer(tmp_path, rego('permit if call.tool == "pay"'))
    assert replayed(tool, document("pay", {}, **WHOLE), Decision.deny("decision_changed", "x")) is None


def test_observed_decision_is_compared_as_if_it_had_been_enforced(tmp_path: Path) -> None:
    tool = replayer(tmp_path, rego('permit if call.tool == "pay"'))
    said = {
        **json.loads(f"{{{decision_json(PERMIT)}}}"),
        names.OBSERVED: json.loads(f"{{{decision_json(DENY)}}}"),
    }
    event = Event(1, 0.0, "decision", "s", "bot", "pay", "a", "permit", "", json.dumps(said).encode())
    asked = document("pay", {}, **WHOLE)
    found = tool.decide(event, json.dumps(asked).encode())
    assert found is not None
    assert (found.before.level, found.change) == (Level.DENY, Change.WIDENED)


@pytest.mark.parametrize(
    "attributes", [b"", b"[]", b"{}", b'{"fumehood.effect":"permit"}', b'{"fumehood.observed":3}']
)
def test_record_that_is_no_decision_is_an_error_of_the_ledger(tmp_path: Path, attributes: bytes) -> None:
    tool = replayer(tmp_path, rego('permit if call.tool == "pay"'))
    event = Event(7, 0.0, "decision", "s", "bot", "pay", "a", "permit", "", attributes)
    with pytest.raises(LedgerError, match="event 7 holds no decision"):
        tool.decide(event, b'{"action":{"name":"execute_tool"}}')


# --- soundness: what does not hang on a part is the same whatever stands there


def _decision(pdp: Any, asked: Any) -> object:
    try:
        return pdp.evaluate(PolicyInput(Phase.EXECUTE_TOOL, "pay", json.dumps(asked).encode()))
    except PdpError as error:
        return error.code


@pytest.mark.parametrize("seed", [7])
def test_decision_does_not_hang_on_what_is_said_not_to_matter(tmp_path: Path, seed: int) -> None:
    dice, told = random.Random(seed), 0
    for n in range(60):
        given = _folder(tmp_path / f"{n}", policy(dice), DATA)
        try:
            pdp = open_pdp(load_bundle(given), isolation="thread")
        except ConfigError:
            continue
        reads = Reads(load_parsed(given)[1])
        for args in ARGS:
            asked: Any = document("pay", args, normalised=NORMALISED, counters={}, history=[])  # type: ignore[arg-type]
            for name in args:
                hidden = copy.deepcopy(asked)
                hidden["action"]["properties"]["args"][name] = MARK
                for kind, pointer in (("paths", "/p"), ("urls", "/u"), ("argv", "/c")):
                    if pointer == f"/{name}":
                        hidden["context"]["normalised"][kind][pointer] = MARK
                missing = missing_in(hidden)
                assert f"/action/properties/args/{name}" in map(pointer_of, missing)
                if not reads.may_matter(Phase.EXECUTE_TOOL, "pay", missing):
                    assert _decision(pdp, hidden) == _decision(pdp, asked), (policy, args, name)
                    told += 1
    assert told > 50
