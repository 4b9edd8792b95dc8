"""data.fumehood.call answers whatever the input lacks, in both engines alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pdp.documents import document

from fumehood.canonical import JSON
from fumehood.model import PARSED_PLACES
from fumehood.pdp import sources
from fumehood.pdp.engine import Engine
from fumehood.pdp.gate.context import CALL_FIELDS, CALL_FUNCTIONS, CALL_VALUES

NO_URL = dict.fromkeys(("scheme", "host", "path", "query", "reach"), "unparseable") | {
    "port": 0,
    "parsed": False,
    "why": "there is no text at this pointer",
}


def ask(expression: str, content: object) -> JSON:
    """The value of an expression over data.fumehood.call; None if it has none."""
    probe = f"package probe\n\nimport data.fumehood.call\n\nvalue := {expression}\n"
    engine = Engine([*((f.name, f.text) for f in sources.library()), ("probe.rego", probe)])
    answer = json.loads(engine.query("x := data.probe.value", json.dumps(content)))["result"]
    return answer[0]["bindings"]["x"] if answer else None  # type: ignore[no-any-return]


EMPTY: list[object] = [
    {},
    {"resource": None},
    {"resource": {"id": 3}, "action": {"properties": {"args": 3}}},
    [],
]


@pytest.mark.parametrize("content", EMPTY)
def test_each_name_has_a_value_where_the_input_has_none(content: object) -> None:
    for name in CALL_VALUES - {"result"}:
        assert ask(f"call.{name}", content) is not None, name
    assert ask("call.result == null", content) is True
    for name in CALL_FUNCTIONS:
        more = ', "x"' if CALL_FUNCTIONS[name] == 2 else ""
        assert ask(f'call.{name}("/a"{more})', content) is not None, name


def test_values_are_those_of_the_document() -> None:
    content = document("pay", {"to": "x", "deep": {"a/b": [1, 2]}})
    content["resource"]["properties"]["annotations"] = {  # type: ignore[index,call-overload]
        "kind": "money",
        "target": ["to", "missing", "/deep/a~1b/1"],
    }
    assert ask("call.tool", content) == "pay"
    assert ask("call.kind", content) == "money"
    assert ask("call.runs", content) == "in_process"
    assert ask('call.arg("to", "y")', content) == "x"
    assert ask('call.arg("nope", "y")', content) == "y"
    targets = ask("call.targets", content)
    assert sorted(targets, key=str) == [  # type: ignore[arg-type]
        {"pointer": "/deep/a~1b/1", "value": 2},
        {"pointer": "/to", "value": "x"},
    ]


def sourced(args: dict[str, JSON], **found: list[str]) -> dict[str, JSON]:
    content = document("pay", args)
    content["context"]["provenance"] = {  # type: ignore[index,call-overload]
        "args": {
            "/" + at.replace("__", "/"): [{"origin": o} for o in origins] for at, origins in found.items()
        }
    }
    return content


@pytest.mark.parametrize(
    ("found", "trusted", "origin"),
    [
        (["user"], True, "user"),
        (["system"], True, "system"),
        (["internal"], False, "internal"),
        (["delegated"], False, "delegated"),
        (["untrusted"], False, "untrusted"),
        (["unknown"], False, "unknown"),
        (["user", "untrusted"], True, "untrusted"),
        (["nonsense"], False, "unknown"),
        ([], False, "unknown"),
    ],
)
def test_trust_is_positive_and_origin_is_the_most_suspicious(
    found: list[str], trusted: bool, origin: str
) -> None:
    content = sourced({"to": "x"}, to=found)
    assert ask('call.trusted("/to")', content) is trusted
    assert ask('call.origin("/to")', content) == origin


def test_list_is_trusted_only_if_everything_in_it_is() -> None:
    args: dict[str, JSON] = {"to": ["a", "b"], "none": []}
    both = sourced(args, to__0=["user"], to__1=["user"])
    one = sourced(args, to__0=["user"], to__1=["untrusted"])
    half = sourced(args, to__0=["user"])
    assert [ask('call.trusted("/to")', c) for c in (both, one, half)] == [True, False, False]
    assert [ask('call.origin("/to")', c) for c in (both, one, half)] == ["user", "untrusted", "unknown"]
    assert ask('call.trusted("/none")', both) is False
    assert ask('call.trusted("/t")', both) is False


def test_pointer_of_one_argument_is_no_prefix_of_another() -> None:
    content = sourced({"to": ["a"], "tool": "b"}, to__0=["user"], tool=["untrusted"])
    assert ask('call.trusted("/to")', content) is True


def test_what_cannot_be_normalised_answers_what_no_bound_matches() -> None:
    content = document("pay", {"a": "x"}, normalised={"paths": {"/p": "/a"}, "argv": {"/c": ["ls"]}})
    assert ask('call.path("/p")', content) == "/a"
    assert ask('call.argv("/c")[0]', content) == "ls"
    assert ask('call.path("/a")', content) == "unparseable"
    assert ask('call.url("/a")', content) == NO_URL
    assert ask('call.argv("/a")', content) == ["unparseable"]
    for function, fields in CALL_FIELDS.items():
        answer = ask(f'call.{function}("/a")', content)
        assert set(answer) == fields, function  # type: ignore[arg-type]
        assert [name for name, value in answer.items() if value in ("", [], {})] == []  # type: ignore[union-attr]


def test_forms_that_were_taken_out_of_a_record_are_unparseable() -> None:
    gone = {place: {"/a": "⟨redacted⟩"} for place in PARSED_PLACES.values()}
    content = document("pay", {"a": "x"}, normalised=gone)  # type: ignore[dict-item]
    for function in CALL_FIELDS:
        assert ask(f'call.{function}("/a").parsed', content) is False


@pytest.mark.parametrize(
    ("path", "leads_to", "folder", "is_inside"),
    [
        ("/srv/models/a", "/srv/models/a", "/srv/models", True),
        ("/srv/models", "/srv/models", "/srv/models", True),
        ("/srv/models/a", "/srv/models/a", "/srv/models/", True),
        ("/srv/models-evil/a", "/srv/models-evil/a", "/srv/models", False),
        ("/srv/models/a", "/etc/shadow", "/srv/models", False),
        ("/etc/a", "/srv/models/a", "/srv/models", False),
        ("/srv/models/a", "/srv/models/a", "", False),
        ("/srv/models/a", "/srv/models/a", "/", True),
    ],
)
def test_inside_means_as_written_and_where_it_leads(
    path: str, leads_to: str, folder: str, is_inside: bool
) -> None:
    content = document(
        "read", {"p": "x"}, normalised={"paths": {"/p": path}, "files": {"/p": {"leads_to": leads_to}}}
    )
    assert ask(f'call.inside("/p", "{folder}")', content) is is_inside
    assert ask('call.inside("/q", "/srv/models")', content) is False


def test_result_phase_has_the_result() -> None:
    from fumehood.model import Phase

    content = document("read", phase=Phase.RETURN_RESULT, result={"a": 1})
    assert ask("call.result.a", content) == 1
    assert ask("call.is_error", content) is False


def test_library_states_no_test_as_policy() -> None:
    assert [Path(f.name).name for f in sources.library()] == ["call.rego", "main.rego"]
