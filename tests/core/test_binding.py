"""Bound is decided is run: whatever would differ between the three is refused (trap 14)."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator

from fumehood.binding import annotations_from, bind_model, bind_plain, call_digest, define, make_call
from fumehood.canonical import canonical, keyed_digest, parse
from fumehood.errors import BindError, ConfigError
from fumehood.functions import jsonable, tool_of
from fumehood.model import Kind, Origin, Session, Subject


class Inner(BaseModel):
    shown: str
    hidden: str = Field("", exclude=True)


class Excluding(BaseModel):
    inner: Inner


class Masked(BaseModel):
    token: SecretStr


class Numbers(BaseModel):
    x: float = 0.0
    n: int = 0


class Drifting(BaseModel):
    n: int

    @field_serializer("n")
    def more(self, n: int) -> int:
        return n + 1


class Normalising(BaseModel):
    who: str

    @field_validator("who")
    @classmethod
    def lower(cls, who: str) -> str:
        return who.strip().lower()


class When(BaseModel):
    at: datetime
    tags: set[str] = set()


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


def test_defaults_are_filled_in_and_named() -> None:
    bound = bind_model(Numbers, {"n": "3"})
    assert (bound.args, bound.defaults) == (b'{"n":3,"x":0}', ("x",))
    assert bound.value == Numbers(n=3)


class Computed(BaseModel):
    to: str
    copy_to: str = Field(default_factory=lambda data: data["to"])
    room: list[int] = Field(default_factory=list)
    lang: str = "en"


def test_default_that_is_computed_is_not_the_operators() -> None:
    assert bind_model(Computed, {"to": "eve"}).defaults == ("lang",)


def test_what_runs_is_made_from_the_document_that_is_decided() -> None:
    bound = bind_model(Normalising, {"who": "  BOB "})
    assert bound.args == b'{"who":"bob"}'
    assert bound.value == Normalising(who="bob")


def test_dates_and_sets_survive_as_what_json_makes_of_them() -> None:
    bound = bind_model(When, {"at": datetime(2026, 1, 1, tzinfo=UTC), "tags": {"a"}})
    assert bound.args == b'{"at":"2026-01-01T00:00:00Z","tags":["a"]}'


def test_extra_arguments_of_an_open_schema_are_bound_too() -> None:
    assert bind_model(Open, {"a": 1, "b": 2}).args == b'{"a":1,"b":2}'


@pytest.mark.parametrize(
    ("schema", "arguments", "pointer"),
    [
        (Excluding, {"inner": {"shown": "a", "hidden": "evil"}}, "/inner/hidden"),
        (Masked, {"token": "hunter2"}, "/token"),
        (Numbers, {"x": math.nan}, "/x"),
        (Numbers, {"x": math.inf}, "/x"),
        (Numbers, {"n": 2**53}, "/n"),
        (Normalising, {"who": "\ud800"}, "/who"),
        (Drifting, {"n": 1}, "/n"),
        (Numbers, {"n": "three"}, "/n"),
        (Open, {"a": 1, "b": object()}, ""),
        (Open, {"a": 1, "b": {1: 2}}, "/b/1"),
    ],
)
def test_what_does_not_survive_is_refused_by_name(
    schema: type[BaseModel], arguments: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(BindError) as refused:
        bind_model(schema, arguments)
    assert refused.value.pointer == pointer
    assert "hunter2" not in str(refused.value)


def test_words_of_a_refusal_hold_no_value() -> None:
    with pytest.raises(BindError) as refused:
        bind_model(Numbers, {"n": "secret-4711"})
    assert "4711" not in str(refused.value)


def test_excluded_field_left_at_its_default_is_no_obstacle() -> None:
    assert bind_model(Excluding, {"inner": {"shown": "a"}}).args == b'{"inner":{"shown":"a"}}'


def test_plain_arguments_must_be_json_already() -> None:
    assert bind_plain({"b": 1, "a": [None]}).args == b'{"a":[null],"b":1}'
    with pytest.raises(BindError):
        bind_plain({"a": datetime.now(UTC)})


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({"kind": "cash"}, "kinds are"),
        ({"kinds": "money"}, "'kinds' is not known"),
        ({"target": "order_id"}, "list of names"),
        ({"target": ["oder_id"]}, "its arguments are: order_id"),
        ({"result": "fine"}, "fine"),
        ({"target": [1]}, "list of names"),
    ],
)
def test_annotations_that_do_not_fit_are_an_error_that_says_what_does(
    notes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        define("refund", schema={"properties": {"order_id": {}}}, annotations=notes)


def test_annotations_are_read() -> None:
    notes = annotations_from("t", {"kind": "money", "target": ["a"], "result": "internal"})
    assert (notes.kind, notes.target, notes.result) == (Kind.MONEY, ("a",), Origin.INTERNAL)


def test_definition_digest_covers_everything_that_a_model_is_told() -> None:
    base = define("t", description="d", schema={"properties": {"a": {}}})
    others = [
        define("u", description="d", schema={"properties": {"a": {}}}),
        define("t", description="e", schema={"properties": {"a": {}}}),
        define("t", description="d", schema={"properties": {"b": {}}}),
        define("t", description="d", schema={"properties": {"a": {}}}, annotations={"kind": "read"}),
    ]
    assert base.digest not in {d.digest for d in others}
    assert len({d.digest for d in others}) == 4


def test_call_digest_is_keyed_over_tool_definition_arguments_and_subject() -> None:
    tool, session = define("t"), Session("s", Subject("bot", "al", ("r",)))
    call = make_call(tool, session, bind_plain({"n": 1}))
    who = {"id": "bot", "user": "al", "roles": ["r"]}
    material = {"tool": "t", "definition": tool.digest, "args": parse(call.args), "subject": who}
    assert call.digest == keyed_digest(call.key, material)
    assert call_digest(call.key, tool, Session("other", Subject("eve")), call.args) != call.digest
    assert make_call(tool, session, bind_plain({"n": 1})).digest != call.digest


# --- functions as tools ---


def test_signature_is_the_schema() -> None:
    def pay(a: int, b: str = "x", *, c: float, **rest: int) -> str:
        """Pay."""
        return f"{a}{b}{c}{rest}"

    tool = tool_of(pay)
    bound = bind_model(tool.schema, tool.arguments((1,), {"c": 2, "d": 3}))
    assert bound.args == b'{"a":1,"b":"x","c":2,"d":3}'
    assert tool.invoke(bound.value) == "1x2.0{'d': 3}"  # type: ignore[arg-type]
    assert tool.definition.description == "Pay."


def test_positional_only_arguments_reach_the_function() -> None:
    def pay(a: int, /, b: int) -> int:
        return a - b

    tool = tool_of(pay)
    assert tool.invoke(bind_model(tool.schema, {"a": 5, "b": 3}).value) == 2  # type: ignore[arg-type]


def test_unknown_arguments_are_refused() -> None:
    def pay(a: int) -> int:
        return a

    with pytest.raises(BindError):
        bind_model(tool_of(pay).schema, {"a": 1, "b": 2})


def test_signature_without_names_is_no_tool() -> None:
    def pay(*amounts: int) -> int:
        return sum(amounts)

    with pytest.raises(ConfigError, match="take a list instead"):
        tool_of(pay)


@pytest.mark.parametrize(
    ("result", "view", "is_faithful"),
    [
        ("x", "x", True),
        ({"a": [1, None]}, {"a": [1, None]}, True),
        ((1, 2), [1, 2], False),
        (Inner(shown="a"), {"shown": "a"}, False),
        (ValueError("no"), "ValueError: no", False),
        (None, None, True),
        (2**60, str(2**60), False),
    ],
)
def test_results_have_a_json_view_that_says_whether_it_is_the_result(
    result: object, view: object, is_faithful: bool
) -> None:
    assert jsonable(result) == (view, is_faithful)


def test_view_of_hostile_bytes_is_still_json() -> None:
    view, _ = jsonable("\ud800")
    canonical(view)


def test_an_optional_argument_without_an_optional_hint_may_be_left_out() -> None:
    def search(query: str, limit: int = None) -> str:  # type: ignore[assignment]  # noqa: RUF013
        return f"{query} {limit}"

    tool = tool_of(search)
    bound = bind_model(tool.schema, {"query": "a"})
    assert bound.args == b'{"limit":null,"query":"a"}'
    assert bind_model(tool.schema, {"query": "a", "limit": "2"}).args == b'{"limit":2,"query":"a"}'
