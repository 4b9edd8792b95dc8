"""A policy that never ends, or wants all the memory there is, is refused where it is loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pdp.policies import HEAD, folder_of
from pdp.test_reload import command_of

from fumehood import Guard
from fumehood.confine.procs import children
from fumehood.errors import ConfigError, PdpError
from fumehood.pdp import check, load_bundle, open_pdp
from fumehood.pdp.apart import ApartLimits, EngineApart, Question
from fumehood.pdp.engine import EngineError
from fumehood.pdp.reload import ReloadablePdp
from fumehood.testing import guarded

LISTS = "some a in numbers.range(1, 9000); some b in numbers.range(1, 9000); some c in numbers.range(1, 9000)"
ENDLESS = f"_n := [1 | {LISTS}; a + b + c == 0]\n"
QUICK = ApartLimits(cpu_s=0.2, wall_s=20.0, memory_bytes=512 << 20)
CALLS = "".join(f"_f{n}(x) := [_f{n + 1}(x), _f{n + 1}(x)]\n" for n in range(40)) + "_f40(x) := x\n"
DOUBLES = '_s0 := "xxxxxxxx"\n' + "".join(f'_s{n + 1} := concat("", [_s{n}, _s{n}])\n' for n in range(60))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fumehood.pdp.gate.trial.ApartLimits", lambda **_: QUICK)


@pytest.fixture
def apart() -> Iterator[EngineApart]:
    with EngineApart(QUICK) as engine:
        yield engine


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (ENDLESS, 7, "takes too long"),
        (f"permit if {{\n\t{LISTS}\n\ta + b + c == 0\n}}\n", 5, "`policies.x.permit`"),
        (f"permit if _n > 0\n\n_n := count([1 | {LISTS}])\n", 9, "`policies.x._n`"),
        (CALLS + '_n := _f0("x")\n', 48, "`policies.x._n`"),
        (DOUBLES, 7, "`policies.x._s"),
        ("_n := count(numbers.range(1, 9000000000))\n", 7, "ends the policy engine"),
    ],
)
def test_endless_policy_is_refused_with_its_place(text: str, line: int, says: str, tmp_path: Path) -> None:
    begun = time.thread_time()
    problems = check(folder_of(tmp_path / "policies", x=HEAD + text))
    assert time.thread_time() - begun < 2.0  # nothing of it is evaluated here
    (problem,) = problems
    assert says in problem.message
    assert problem.line >= line
    assert "numbers.range" in problem.remedy
    assert problem.file.endswith("x.rego")


@pytest.mark.usefixtures("quick")
def test_nobody_can_load_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "policies", x=HEAD + ENDLESS)
    for load in (load_bundle, Guard, lambda given: ReloadablePdp([given], open_pdp)):
        with pytest.raises(ConfigError, match=r"x\.rego:7:1: .*takes too long"):
            load(folder)


@pytest.mark.usefixtures("quick")
def test_what_else_is_wrong_is_told_instead(tmp_path: Path) -> None:
    problems = check(folder_of(tmp_path / "policies", x=HEAD + ENDLESS + "denny if call.tool\n"))
    assert ["denny" in p.message for p in problems] == [True]


@pytest.mark.slow
def test_reload_refuses_it_and_the_policies_in_use_stay(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "policies", x=HEAD)
    with guarded(folder) as guard, guard.session():
        before = guard.bundle.revision
        folder_of(folder, x=HEAD + ENDLESS)
        with pytest.raises(ConfigError, match="takes too long"):
            guard.reload()
        assert guard.bundle.revision == before
        assert guard.call("read", {}, run=lambda: "ok") == "ok"
        folder_of(folder, x=HEAD + "# better\n")
        assert guard.reload() != before


def test_engine_apart_answers_as_the_engine_does(apart: EngineApart) -> None:
    rules = ("a := input.a", "b if not input", 'c if print("said", 1)', "d := 1 / input.z")
    apart.load([("x.rego", "package x\n\n" + "\n\n".join(rules) + "\n")], '{"k": [1]}')
    apart.loaded()
    assert apart.evaluate_without_input("data.x.b") == "true"
    assert apart.evaluate("data.x.a", '{"a": "é\\u0000"}') == '"é\\u0000"'
    assert json.loads(apart.query("data.k", "{}"))["result"][0]["expressions"][0]["value"] == [1]
    assert apart.evaluate("data.x.c", "{}") == "true"
    assert apart.prints() == ["x.rego:7: said 1"]
    for rule, document, code in (
        ("data.x.a", "{}", "pdp_undefined"),
        ("data.x.a", "{", "pdp_error"),
        ("data.x.d", '{"z": 0}', "pdp_error"),
    ):
        with pytest.raises(PdpError) as raised:
            apart.evaluate(rule, document)
        assert raised.value.code == code
    apart.cover()
    assert apart.evaluate("data.x.a", '{"a": 2}') == "2"
    assert "not_covered" in apart.coverage()


def test_engine_apart_goes_on_after_what_was_endless(apart: EngineApart) -> None:
    apart.load([("x.rego", f"package x\n\none := 1\n\nn := [1 | {LISTS}; a + b + c == 0]\n")])
    for _ in range(2):
        with pytest.raises(PdpError) as raised:
            apart.evaluate("data.x.n", "{}")
        assert raised.value.code == "pdp_timeout"
        assert apart.evaluate("data.x.one", "{}") == "1"
    questions = [Question("data.x.one", "{}"), Question("data.x.n", None), Question("data.x.one", None)]
    first, second = apart.each(questions)
    assert first == "1"
    assert isinstance(second, PdpError)


def test_questions_that_nobody_waits_for_disturb_nobody(apart: EngineApart) -> None:
    apart.load([("x.rego", "package x\n\na := input\n")])
    answers = apart.each([Question("data.x.a", str(n)) for n in range(5000)])
    assert next(answers) == "0"
    answers.close()  # type: ignore[attr-defined]
    assert apart.evaluate("data.x.a", '"mine"') == '"mine"'


def test_process_has_a_limit_for_all_that_it_is_asked(tmp_path: Path) -> None:
    busy = "count([1 | some x in numbers.range(1, 300); some y in numbers.range(1, 300); x == y])"
    with EngineApart(ApartLimits(cpu_s=5.0, all_s=0.5)) as apart:
        apart.load([("x.rego", f"package x\n\nn := {busy}\n")])
        answers = list(apart.each([Question("data.x.n", str(n)) for n in range(500)]))
    assert answers[0] == "300"
    assert isinstance(answers[-1], PdpError)
    assert answers[-1].code == "pdp_timeout"
    assert len(answers) < 400


def test_policies_that_the_engine_refuses_are_an_error_each_time(apart: EngineApart) -> None:
    apart.load([("x.rego", "package x\n\na := {\n")])
    with pytest.raises(EngineError, match=r"x\.rego:4"):
        apart.evaluate("data.x.a", "{}")
    with pytest.raises(EngineError):
        list(apart.each([Question("data.x.a", "{}")]))


def test_killed_process_is_a_crash_and_the_next_question_works(apart: EngineApart) -> None:
    apart.load([("x.rego", "package x\n\na := 1\n")])
    apart.loaded()
    process = apart._process
    assert process is not None
    os.kill(process.process.pid, signal.SIGKILL)
    with pytest.raises(PdpError) as raised:
        apart.evaluate("data.x.a", "{}")
    assert raised.value.code == "pdp_crashed"
    assert apart.evaluate("data.x.a", "{}") == "1"
    apart.close()
    assert apart.evaluate("data.x.a", "{}") == "1"


@pytest.mark.slow
def test_endless_evaluation_ends_soon_after_its_parent() -> None:
    script = (
        f"import os, sys; sys.path[:] = {sys.path!r}\n"
        "from fumehood.pdp.apart import EngineApart, Question\n"
        "apart = EngineApart()\n"
        f"apart.load([('x.rego', 'package x\\n\\nn := [1 | {LISTS}; a + b + c == 0]\\n')])\n"
        "apart.each([Question('data.x.n', '{}')])\n"
        "print(apart._process.process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    pid = int(subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False).stdout)
    until = time.monotonic() + 120.0
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_process_that_is_stopped_is_late_by_the_clock(tmp_path: Path) -> None:
    with EngineApart(ApartLimits(cpu_s=5.0, wall_s=0.2)) as apart:
        apart.load([("x.rego", "package x\n\na := 1\n")])
        apart.loaded()
        process = apart._process
        assert process is not None
        os.kill(process.process.pid, signal.SIGSTOP)
        with pytest.raises(PdpError) as raised:
            apart.evaluate("data.x.a", "{}")
        assert raised.value.code == "pdp_timeout"


def test_checks_by_many_threads_at_once_leave_no_process_behind(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "policies", x=HEAD)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(check(folder)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 6
    assert not any(b"apart_child" in command_of(pid) for pid in children(os.getpid()))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("_x := " + "[" * 25 + "1" + "]" * 25 + "\n", 7),
        ("_x := " + '{"a": ' * 25 + "1" + "}" * 25 + "\n", 7),
        ("_x := [\n" + "\t[[[[[[[[[[1]]]]]]]]]],\n" * 400 + "]\n", 136),
        ("_x := 1" + "\n+ 1" * 15_000 + "\n", 208),
        ("_x := {1} |" + " # on\n\n{1} |" * 15_000 + " {1}\n", 407),
        ("permit if {\n\t1" + "\n\t== 1" * 15_000 + "\n}\n", 209),
        ("permit if {\n\t1" + "\n\tin [1]" * 15_000 + "\n}\n", 209),
    ],
)
def test_what_the_parser_cannot_bear_is_refused_before_it_is_parsed(
    text: str, line: int, tmp_path: Path
) -> None:
    (problem,) = check(folder_of(tmp_path / "policies", x=HEAD + text))
    assert "too many brackets" in problem.message
    assert problem.line == line


@pytest.mark.parametrize(
    "text",
    [
        "_x := " + "[" * 9 + "1" + "]" * 9 + "\n",
        "_x := " + "(" * 30 + "1" + ")" * 30 + "\n",
        "_x := [\n" + ",\n".join(f"\t1 + {n}" for n in range(600)) + "\n]\n",
        "\n".join(f"_x{n} := {n} - 1" for n in range(600)) + "\n",
        '_x := "' + "[+" * 300 + '"\n# ' + "[[" * 300 + "\n_y := `" + "{\n|" * 300 + "`\n",
        "_x := 1" + " + 1" * 150 + "\n",
    ],
)
def test_what_only_looks_deep_is_not_refused(text: str, tmp_path: Path) -> None:
    assert check(folder_of(tmp_path / "policies", x=HEAD + text)) == []


@pytest.mark.parametrize("call", ["", "(x)"])
def test_helpers_that_use_each_other_many_times_are_checked_once(call: str, tmp_path: Path) -> None:
    rules = [f"_h{n}{call} if {{\n\t_h{n + 1}{call}\n\t_h{n + 1}{call}\n}}\n\n" for n in range(40)]
    text = f"permit if _h0{call.replace('x', '1')}\n\n{''.join(rules)}_h40{call} if call.tool\n"
    (problem,) = check(folder_of(tmp_path / "policies", x=HEAD + text))
    assert "negative or always true" in problem.message


def test_long_chains_and_circles_of_helpers_take_no_time(tmp_path: Path) -> None:
    chain = "".join(f"_h{n} := _h{n + 1}\n\n" for n in range(3000))
    problems = check(folder_of(tmp_path / "policies", x=f"{HEAD}{chain}_h3000 := _h2990\n\n_o := _o\n"))
    said = {p.message for p in problems if p.message.startswith("recursion")}
    assert said == {
        "recursion: _o → _o",
        "recursion: " + " → ".join(f"_h{n}" for n in [*range(2990, 3001), 2990]),
    }


def test_rules_too_deep_for_the_checks_are_a_problem_and_no_crash(tmp_path: Path) -> None:
    chain = "".join(f"_h{n} if _h{n + 1}\n\n" for n in range(600))
    problems = check(
        folder_of(tmp_path / "policies", x=f'{HEAD}permit if _h0\n\n{chain}_h600 if call.tool == "a"\n')
    )
    assert ["too deeply to be checked" in p.message for p in problems] == [True]
