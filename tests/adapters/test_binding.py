"""Bound is what runs: an argument that JSON cannot carry whole is a denial that says what to declare."""

from __future__ import annotations

from typing import Any

import pytest
from adapters.conftest import PERMIT, Open
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, Field, SecretStr, field_validator

from fumehood import Denied
from fumehood.errors import ConfigError
from fumehood_adapters.langchain import guard_tools


class Inner(BaseModel):
    shown: str = ""
    hidden: str = Field(default="", exclude=True)


class Nested(BaseModel):
    inner: Inner


class Masked(BaseModel):
    password: SecretStr


class Number(BaseModel):
    amount: float


class Big(BaseModel):
    number: int


class Shifting(BaseModel):
    amount: int

    @field_validator("amount")
    @classmethod
    def doubled(cls, value: int) -> int:
        return value * 2


class Loose(BaseModel):
    anything: Any


@pytest.mark.parametrize(
    ("schema", "given", "pointer"),
    [
        (Nested, {"inner": {"shown": "a", "hidden": "evil"}}, "/inner/hidden"),
        (Masked, {"password": "hunter2"}, "/password"),
        (Number, {"amount": float("nan")}, "/amount"),
        (Big, {"number": 2**60}, "/number"),
        (Shifting, {"amount": 2}, "/amount"),
        (Loose, {"anything": "\ud800"}, "/anything"),
        (Loose, {"anything": {1: "a"}}, ""),
    ],
)
def test_what_does_not_survive_json_is_denied_and_named(
    open_guard: Open, schema: type[BaseModel], given: dict[str, Any], pointer: str
) -> None:
    ran: list[Any] = []

    def act(**kwargs: Any) -> str:
        ran.append(kwargs)
        return "ran"

    guard = open_guard(PERMIT)
    made = StructuredTool.from_function(act, name="act", description="Act.", args_schema=schema)
    [guarded] = guard_tools([made], guard)
    with guard.session(agent="a"), pytest.raises(Denied) as denied:
        guarded.invoke(given)
    assert denied.value.code == "bad_arguments" and pointer in str(denied.value)
    assert "hunter2" not in str(denied.value)
    assert ran == []


def test_arguments_without_a_json_schema_are_refused_when_wrapped(open_guard: Open) -> None:
    class Handle:
        pass

    class Odd(BaseModel):
        model_config = {"arbitrary_types_allowed": True}

        handle: Handle

    made = StructuredTool.from_function(lambda handle: "", name="odd", description="O.", args_schema=Odd)
    with pytest.raises(ConfigError, match="'odd' have no JSON Schema"):
        guard_tools([made], open_guard(PERMIT))


def test_text_is_decided_as_the_coerced_value_that_runs(open_guard: Open) -> None:
    """Middleware sees "300" where the tool gets 300: policy decides what the tool gets."""
    guard = open_guard(
        "package policies.t\nimport data.fumehood.call\npermit if {\n"
        "\tis_number(call.args.amount)\n\tcall.args.amount <= 100\n}\n"
    )
    made = StructuredTool.from_function(lambda amount: amount, name="n", description="N.", args_schema=Number)
    [guarded] = guard_tools([made], guard)
    with guard.session(agent="a"):
        assert guarded.invoke({"amount": "99"}) == 99.0
        with pytest.raises(Denied):
            guarded.invoke({"amount": "300"})
