"""Parameters of packs: defaults, the author's own before them, and what the schema does not allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdp.documents import asked
from pdp.policies import HEAD, folder_of

import fumehood_policies
from fumehood.canonical import JSON
from fumehood.errors import ConfigError
from fumehood.model import Effect
from fumehood.pdp import check, load_bundle, open_pdp, sources
from fumehood.pdp.schemas import complaints

WITH_PARAMETERS = sorted(path.parent.name for path in fumehood_policies.PACKS.glob("*/data.json"))
URL = {"scheme": "https", "host": "api.example.com", "port": 443, "path": "/"}


def own(tmp_path: Path, document: object, **files: str) -> Path:
    text = document if isinstance(document, str) else json.dumps(document, indent=2)
    return folder_of(tmp_path / "mine", x=HEAD, data_dot_json=text, **files)


def is_fetched(*given: Any) -> bool:
    call = asked("fetch", {"url": "https://api.example.com/"}, normalised={"urls": {"/url": URL}})  # type: ignore[dict-item]
    return open_pdp(load_bundle(given), isolation="thread").evaluate(call).effect is Effect.PERMIT


def test_own_parameter_goes_before_the_packs_and_the_others_stay(tmp_path: Path) -> None:
    folder = own(tmp_path, {"baseline": {"egress_hosts": ["api.example.com"]}, "other": 1})
    assert not is_fetched("baseline")
    assert is_fetched("baseline", folder)
    assert is_fetched(folder, "baseline")
    data = json.loads(load_bundle(["baseline", folder]).data)
    assert data["other"] == 1
    assert data["baseline"]["egress_ports"] == [443]


def test_revision_tells_parameters_apart(tmp_path: Path) -> None:
    one = load_bundle(["baseline", own(tmp_path / "a", {"baseline": {"egress_hosts": ["a.example"]}})])
    two = load_bundle(["baseline", own(tmp_path / "b", {"baseline": {"egress_hosts": ["b.example"]}})])
    assert one.revision != two.revision


def test_folder_may_stand_for_the_packs_name(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "mine", x=HEAD, baseline__data_dot_json='{"egress_hosts": ["api.example.com"]}'
    )
    assert is_fetched("baseline", folder)


def test_two_own_values_are_still_a_problem(tmp_path: Path) -> None:
    document = {"baseline": {"egress_hosts": ["a.example"]}}
    folders = [own(tmp_path / "a", document), own(tmp_path / "b", document)]
    (folders[1] / "x.rego").write_text(HEAD.replace("policies.x", "policies.y"))
    (problem,) = check(["baseline", *folders])
    assert "has two values" in problem.message


WRONG = [
    (
        {"baseline": {"egress_host": ["a"]}},
        'baseline.egress_host`: there is no such parameter; did you mean "egress_hosts"?',
    ),
    (
        {"baseline": {"egress_hosts": "a.example"}},
        "baseline.egress_hosts`: expected a list, found 'a.example'",
    ),
    ({"baseline": {"egress_hosts": ["a.example", 3]}}, "baseline.egress_hosts.1`: expected a text, found 3"),
    ({"baseline": {"egress_hosts": ["*"]}}, "baseline.egress_hosts.0`: expected a text of the form"),
    (
        {"baseline": {"egress_hosts": ["EXAMPLE.com"]}},
        "baseline.egress_hosts.0`: expected a text of the form",
    ),
    ({"baseline": {"egress_ports": [0]}}, "baseline.egress_ports.0`: expected at least 1, found 0"),
    (
        {"baseline": {"egress_ports": [443.5]}},
        "baseline.egress_ports.0`: expected a whole number, found 443.5",
    ),
    ({"baseline": {"egress_ports": [True]}}, "baseline.egress_ports.0`: expected a whole number, found True"),
    ({"baseline": {"sql_kinds": ["select", "select"]}}, "baseline.sql_kinds`: an item stands in it twice"),
    ({"baseline": None}, "baseline`: expected an object, found None"),
    ({"baseline": []}, "baseline`: expected an object, found []"),
    (
        {"limits": {"each_tool": {"max": "5", "per_s": 60}}},
        "limits.each_tool.max`: expected a number, found '5'",
    ),
    (
        {"limits": {"each_tool": {"max": 0, "per_s": 60}}},
        "limits.each_tool.max`: expected more than 0, found 0",
    ),
    ({"limits": {"tools": {"x": {"max": 1}}}}, "limits.tools.x`: per_s is missing"),
    ({"hours_and_roles": {"days": ["Funday"]}}, "hours_and_roles.days.0`: expected a text of the form"),
    ({"hours_and_roles": {"to_hour": 25}}, "hours_and_roles.to_hour`: expected at most 24, found 25"),
    (
        {"inventory": {"definitions": {"x": "sha256:1"}}},
        "inventory.definitions.x`: expected a text of the form",
    ),
]


@pytest.mark.parametrize(("document", "message"), WRONG)
def test_parameter_that_is_not_allowed_is_refused_where_it_stands(
    document: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (pack,) = document
    with pytest.raises(ConfigError) as caught:
        load_bundle(["baseline", pack, own(tmp_path, document)])
    (problem,) = caught.value.problems
    assert problem.message.removeprefix("parameter `").startswith(message)
    assert problem.file == str(tmp_path / "mine" / "data.json")
    assert problem.line >= 2
    assert problem.source_line.strip().startswith('"')


def test_copy_of_a_pack_keeps_its_schema(tmp_path: Path) -> None:
    folder = tmp_path / "baseline"
    folder.mkdir()
    for path in (fumehood_policies.PACKS / "baseline").iterdir():
        (folder / path.name).write_text(path.read_text())
    assert check([folder]) == []
    text = (folder / "data.json").read_text()
    (folder / "data.json").write_text(text.replace("[443]", '["443"]'))
    (problem,) = check([folder])
    assert "egress_ports.0" in problem.message
    assert '["443"]' in problem.source_line


@pytest.mark.parametrize("pack", WITH_PARAMETERS)
def test_defaults_are_what_the_schema_allows_and_each_is_described(pack: str) -> None:
    folder = fumehood_policies.PACKS / pack
    schema = json.loads((folder / "parameters.jsonschema").read_text())
    data = json.loads((folder / "data.json").read_text())
    assert list(complaints(schema, data)) == []
    (described,) = schema["properties"].values()
    assert set(described["properties"]) == set(described["required"]) == set(data[pack])
    assert all(rule["description"].endswith(".") for rule in described["properties"].values())
    assert [
        c for rule in described["properties"].values() for c in complaints({"type": "object"}, rule)
    ] == []


def test_packs_that_read_data_have_a_schema() -> None:
    for pack in sources.pack_names():
        folder = fumehood_policies.PACKS / pack
        reads = any("data." + pack in path.read_text() for path in folder.glob("*.rego"))
        assert reads == (folder / "data.json").exists() == (folder / "parameters.jsonschema").exists(), pack


def test_word_that_no_schema_may_use_is_an_error() -> None:
    with pytest.raises(ValueError, match="oneOf"):
        list(complaints({"oneOf": []}, 1))


SCHEMAS = [
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc"], ["a", "abcd", 3, None]),
    ({"type": "array", "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3], "a"]),
    ({"enum": [1, "a", None]}, [1, "a", None], [2, "b", True]),
    ({"type": "boolean"}, [True, False], [0, "true", None]),
    ({"type": "number", "minimum": 0, "maximum": 1}, [0, 0.5, 1], [-1, 2, True, "0"]),
    ({"type": "integer"}, [1, 1.0], [1.5, True, "1"]),
    ({"type": "object", "additionalProperties": {"type": "null"}}, [{}, {"a": None}], [{"a": 1}, []]),
    ({"type": "object", "properties": {"a": {"type": "null"}}}, [{}, {"a": None, "b": 1}], [{"a": 1}]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), SCHEMAS)
def test_schema_allows_what_json_schema_allows(
    schema: dict[str, JSON], good: list[JSON], bad: list[JSON]
) -> None:
    assert [value for value in good if list(complaints(schema, value))] == []
    assert [value for value in bad if not list(complaints(schema, value))] == []


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["egress_hosts", "x"]), inner)
    ),
    max_leaves=6,
)


@given(value=JSONS)
def test_any_value_is_allowed_or_complained_about(value: JSON) -> None:
    schema = json.loads((fumehood_policies.PACKS / "baseline" / "parameters.jsonschema").read_text())
    found = list(complaints(schema, {"baseline": value}))
    assert found, "no generated value has all parameters"
