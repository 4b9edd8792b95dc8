"""Nothing of a result passes unseen: odd values, keys, exceptions behind exceptions, bodies that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fumehood import Denied, FumehoodError, Guard, Withheld
from fumehood.canonical import at
from fumehood.functions import jsonable
from fumehood.model import Redact
from fumehood.release import redact
from fumehood.testing import guarded

POLICY = """
package policies.results

import data.fumehood.call

permit if call.tool in {"look", "outer", "inner"}

withhold contains "it holds a password" if call.result.password

withhold contains "it names a password" if {
	is_string(call.result)
	contains(call.result, "hunter2")
}
"""


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "results.rego").write_text(POLICY)
    with guarded(folder, folder=tmp_path) as made:
        yield made


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else "deep"


@pytest.mark.parametrize(
    "odd", [2**60, float("nan"), float("inf"), 1e300, "\ud800", b"\xff", object(), nested(80), {1: 2}, 1 + 2j]
)
def test_odd_value_beside_it_does_not_hide_a_field_from_policy(guard: Guard, odd: Any) -> None:
    with guard.session(agent="bot"), pytest.raises(Withheld):
        guard.call("look", {}, run=lambda: {"password": "hunter2", "odd": odd})


def test_view_keeps_the_shape_and_writes_what_json_cannot_hold_as_text() -> None:
    assert jsonable({"a": 2**60, "b": [float("nan")], "c": (1, b"x")}) == (
        {"a": str(2**60), "b": ["nan"], "c": [1, "x"]},
        False,
    )
    assert jsonable([10**400, float("-inf")])[0] == [f"1{'0' * 400}", "-inf"]
    assert jsonable(10**5000)[0] == hex(10**5000)  # Python writes no more than 4300 digits
    assert jsonable({"a": [1, 2.5, None, "x"]}) == ({"a": [1, 2.5, None, "x"]}, True)


def with_cause() -> None:
    try:
        raise KeyError("hunter2")
    except KeyError as error:
        raise ValueError("it failed") from error


def with_note() -> None:
    error = ValueError("it failed")
    error.add_note("hunter2")
    raise error


def with_group() -> None:
    raise ExceptionGroup("it failed", [ValueError("hunter2")])


def with_other_repr() -> None:
    class Quiet(Exception):
        def __str__(self) -> str:
            return "it failed"

    raise Quiet("hunter2")


@pytest.mark.parametrize("body", [with_cause, with_note, with_group, with_other_repr])
def test_what_stands_behind_an_exception_is_judged_too(guard: Guard, body: Any) -> None:
    with guard.session(agent="bot"), pytest.raises(Withheld) as withheld:
        guard.call("look", {}, run=body)
    assert withheld.value.__context__ is None and withheld.value.__cause__ is None


def test_withheld_carries_nothing_that_leads_to_the_result(guard: Guard) -> None:
    with guard.session(agent="bot"), pytest.raises(Withheld) as withheld:
        guard.call("look", {}, run=lambda: {"password": "hunter2"})
    frames = withheld.value.__traceback__
    while frames is not None:
        if frames.tb_frame.f_code.co_filename.endswith(("flow.py", "shell.py", "functions.py")):
            assert "hunter2" not in repr(frames.tb_frame.f_locals)
        frames = frames.tb_next


async def _stream(ran: list[str]) -> AsyncIterator[str]:
    ran.append("began")
    yield "hunter2"


async def test_asynchronous_generator_is_never_handed_out_unread(guard: Guard) -> None:
    ran: list[str] = []
    async with guard.session(agent="bot"):
        with pytest.raises(FumehoodError, match="await"):
            guard.call("look", {}, run=lambda: _stream(ran))
        with pytest.raises(FumehoodError, match="await"):
            await guard.acall("look", {}, run=lambda: _stream(ran))
    assert ran == []


async def test_object_that_is_awaited_when_called_is_a_coroutine_function(guard: Guard) -> None:
    class Look:
        async def __call__(self) -> str:
            return "seen"

    async with guard.session(agent="bot"):
        assert await guard.acall("look", {}, run=Look()) == "seen"


def test_pattern_takes_matches_out_of_keys_too() -> None:
    shown = redact({"4111": {"n": 1}, "x4111y": 2}, [Redact(pattern="[0-9]{4}")]).value
    assert shown == {"[redacted]": {"n": 1}, "x[redacted]y": 2}


def test_keys_that_would_become_one_are_not_shown_at_all() -> None:
    assert redact({"a": {"1": "x", "2": "y"}}, [Redact(pattern="[0-9]")]).value == {"a": "[redacted]"}


@pytest.mark.parametrize("pointer", ["/01", "/١", "/-0", "/+1", "/1_0"])
def test_list_index_in_another_form_points_at_nothing(pointer: str) -> None:
    with pytest.raises(KeyError):
        at(["a", "b"], pointer)


def test_refusal_inside_a_tool_repeats_no_value_of_the_inner_call(guard: Guard) -> None:
    @guard.tool
    def inner(n: int) -> int:
        return n

    with guard.session(agent="bot"), pytest.raises(Withheld) as withheld:
        guard.call("outer", {}, run=lambda: inner(hunter2=1))  # type: ignore[call-arg]
    assert withheld.value.code == "inner_call_refused" and "hunter2" not in str(withheld.value)


def test_refusal_of_arguments_shows_hostile_names_inert_and_short(guard: Guard) -> None:
    @guard.tool
    def look(n: int, **more: Any) -> int:
        return n

    with guard.session(agent="bot"), pytest.raises(Denied) as denied:
        look(1, **{"\x1b[31m" + "x" * 10_000: float("nan")})
    assert denied.value.code == "bad_arguments" and len(str(denied.value)) < 1000
    assert "\x1b" not in str(denied.value) and denied.value.__cause__ is None
