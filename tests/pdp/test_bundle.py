"""What is loaded: folders and packs, nothing by accident; and what is known of it without asking."""

from __future__ import annotations

import dataclasses
import gc
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdp.documents import asked
from pdp.policies import HEAD, bundle_of, folder_of

from fumehood.errors import ConfigError, PdpError
from fumehood.model import Effect, Phase, PolicyInput
from fumehood.pdp import Bundle, check, load_bundle, open_pdp, sources


def only_problem(folder: Path) -> str:
    (problem,) = check([folder])
    return str(problem)


def test_name_without_a_slash_is_a_pack_never_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "refund", x=HEAD)
    assert load_bundle("refund").packages == ("policies.refunds",)
    assert load_bundle("./refund").packages == ("policies.x",)
    folder_of(tmp_path / "mine", x=HEAD)
    with pytest.raises(ConfigError, match=r"no pack 'mine'.*write \./mine"):
        load_bundle("mine")


def test_path_object_is_a_folder(tmp_path: Path) -> None:
    assert load_bundle(folder_of(tmp_path / "p", x=HEAD)).packages == ("policies.x",)


@pytest.mark.parametrize("given", [[], ["./nowhere"], ["nowhere"], [Path("/nowhere")], [""]])
def test_what_is_no_source_is_refused(given: list[str]) -> None:
    with pytest.raises(ConfigError):
        load_bundle(given)


def test_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no policy"):
        load_bundle([folder_of(tmp_path / "empty", readme_dot_md="#")])


def test_folder_of_tests_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no policy"):
        load_bundle([folder_of(tmp_path / "p", x_test="package x_test\n\ntest_a if true\n")])


def test_tests_never_decide(tmp_path: Path) -> None:
    evil = "package policies.x\n\npermit if true\n\ntest_a if true\n"
    bundle = load_bundle([folder_of(tmp_path / "p", x=HEAD, x_test=evil)])
    pdp = open_pdp(bundle, isolation="thread")
    assert pdp.evaluate(asked("anything")).effect is Effect.DENY
    assert not any("x_test" in name for name, _ in bundle.files + bundle.embedded)


def test_same_source_twice_is_read_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", x=HEAD)
    assert load_bundle([folder, folder]) == load_bundle([folder])
    assert load_bundle(["refund", "refund"]) == load_bundle(["refund"])


def test_package_of_two_sources_is_refused(tmp_path: Path) -> None:
    one, two = folder_of(tmp_path / "a" / "p", x=HEAD), folder_of(tmp_path / "b" / "p", y=HEAD)
    with pytest.raises(ConfigError, match=r"policies\.x comes from two sources"):
        load_bundle([one, two])


def test_package_of_two_files_of_one_source_joins(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "p", a=HEAD, sub__b='package policies.x\n\npermit if input.resource.id == "b"\n'
    )
    pdp = open_pdp(load_bundle([folder]), isolation="thread")
    assert all(pdp.evaluate(asked(tool)).is_permit for tool in ("read", "b"))


def test_deny_of_one_package_wins_over_permit_of_another(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "p", a=HEAD, b='package policies.b\n\ndeny contains "no" if input.resource.id == "read"\n'
    )
    decision = open_pdp(load_bundle([folder]), isolation="thread").evaluate(asked())
    assert decision.effect is Effect.DENY
    assert decision.rules == ("policies.b.deny",)


def test_revision_depends_on_names_and_texts_alone(tmp_path: Path) -> None:
    first = load_bundle([folder_of(tmp_path / "a" / "p", x=HEAD)])
    assert load_bundle([folder_of(tmp_path / "b" / "p", x=HEAD)]).revision == first.revision
    assert load_bundle([folder_of(tmp_path / "c" / "p", x=HEAD + "\n")]).revision != first.revision
    assert load_bundle([folder_of(tmp_path / "d" / "p", y=HEAD)]).revision != first.revision
    assert (
        load_bundle([folder_of(tmp_path / "e" / "p", x=HEAD, data_dot_json='{"a": {}}')]).revision
        != first.revision
    )
    assert first.revision.startswith("sha256:")
    assert {name for name, _ in first.files} == {"lib/call.rego", "lib/main.rego", "p/x.rego"}


def test_bundle_cannot_be_changed(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, HEAD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        bundle.revision = "x"  # type: ignore[misc]


DATA = [
    ('{"policies": {"evil": {"permit": true}}}', "data_dot_json", "could grant"),
    ('{"fumehood": {"bundle": {}}}', "data_dot_json", "could change how decisions are made"),
    ('{"system": {}}', "data_dot_json", "OPA's own"),
    ('{"evil": {"permit": true}}', "policies__data_dot_json", "could grant"),
    ("[1]", "data_dot_json", "is an object"),
    ("{", "data_dot_json", "not valid JSON"),
    ('{"a": NaN}', "data_dot_json", "not valid JSON"),
    ('{"a": 1, "a": 2}', "data_dot_json", "stands twice"),
    ("{}", "other_dot_json", "must be called data.json"),
    ("a: yes", "data_dot_yaml", "one thing to some readers"),
    ("a: 1", "other_dot_yml", "must be called data.json or data.yaml"),
    ("policies: {x: {permit: true}}", "data_dot_yml", "could grant"),
]


@pytest.mark.parametrize(("text", "name", "says"), DATA)
def test_data_document_that_could_grant_or_is_none_is_refused(
    text: str, name: str, says: str, tmp_path: Path
) -> None:
    said = only_problem(folder_of(tmp_path / "p", x=HEAD, **{name: text}))
    assert says in said
    assert str(tmp_path) in said


def test_data_of_two_files_joins_and_clashes_are_refused(tmp_path: Path) -> None:
    text = HEAD + "permit if call.tool in data.a.b.tools\n"
    folder = folder_of(
        tmp_path / "p", x=text, a__b__data_dot_json='{"tools": ["t"]}', a__data_dot_json='{"c": 1}'
    )
    assert open_pdp(load_bundle([folder]), isolation="thread").evaluate(asked("t")).is_permit
    folder_of(folder, data_dot_json='{"a": {"c": 2}}')
    assert "`data.a.c` has two values" in only_problem(folder)


def test_file_that_is_no_text_or_too_big_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", x=HEAD)
    (folder / "y.rego").write_bytes(b"package policies.y\n\xff")
    assert "cannot be read" in only_problem(folder)
    (folder / "y.rego").write_bytes(b"#" * ((1 << 20) + 1))
    assert "larger than" in only_problem(folder)


def test_hidden_files_and_folders_are_not_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", x=HEAD)
    (folder / ".git").mkdir()
    (folder / ".git" / "y.rego").write_text("nonsense")
    (folder / ".y.rego").write_text("nonsense")
    assert check([folder]) == []


FACTS = [
    ("", False, False),
    ('withhold contains "x" if call.is_error\n', True, False),
    ('redact contains {"path": "/a"} if call.is_error\n', True, False),
    ('label contains "internal" if call.tool == "read"\n', True, False),
    ("_n := count(input.context.history)\n", False, True),
    ('_n := input["context"]["history"]\n', False, True),
    ("_n := input.context[x] if some x in call.args.l\n", False, True),
    ("_n := object.get(input, call.args.l, 3)\n", False, True),
    ("_n := [k | some k, _ in input.context]\n", False, True),
    ("_n := input.context.session\n", False, False),
    ("_n := input.subject.history\n", False, False),
    ("_n := input.action.properties.args.history\n", False, False),
]


@pytest.mark.parametrize(("rule", "has_result_rules", "reads_history"), FACTS)
def test_facts_are_sound(rule: str, has_result_rules: bool, reads_history: bool, tmp_path: Path) -> None:
    facts = bundle_of(tmp_path, HEAD + rule).facts
    assert (facts.has_result_rules, facts.reads_history) == (has_result_rules, reads_history)


@pytest.mark.parametrize("path", ["input", "input.context", "input.context.history"])
def test_import_that_leads_to_the_history_counts_as_reading_it(path: str, tmp_path: Path) -> None:
    text = HEAD.replace("\n\npermit", f"\nimport {path} as it\n\npermit") + "_n := it\n"
    assert bundle_of(tmp_path, text).facts.reads_history


def test_names_of_call_are_those_of_the_library() -> None:
    from fumehood.pdp.gate.context import CALL_FUNCTIONS, CALL_VALUES
    from fumehood.pdp.syntax import Module, module_of

    (call,) = (module_of(f) for f in sources.library() if f.name == "lib/call.rego")
    assert isinstance(call, Module)
    public = [rule for rule in call.rules if not rule.name.startswith("_")]
    assert {r.name for r in public if not r.args} == CALL_VALUES
    assert {r.name: len(r.args) for r in public if r.args} == CALL_FUNCTIONS


def bundle() -> Bundle:
    return load_bundle("refund")


def test_thread_pdp_decides_in_any_number_of_threads() -> None:
    pdp = open_pdp(bundle(), isolation="thread")
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(pdp.evaluate(asked("read_ticket")).is_permit))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_thread_pdp_may_be_dropped_by_another_thread() -> None:
    held = [open_pdp(bundle(), isolation="thread")]
    ready, go = threading.Event(), threading.Event()

    def use() -> None:
        held[0].evaluate(asked("read_ticket"))
        ready.set()
        go.wait()

    thread = threading.Thread(target=use)
    thread.start()
    ready.wait()
    held.clear()
    gc.collect()
    go.set()
    thread.join()
    gc.collect()


def test_closed_thread_pdp_refuses() -> None:
    pdp = open_pdp(bundle(), isolation="thread")
    pdp.close()
    with pytest.raises(PdpError) as raised:
        pdp.evaluate(asked())
    assert raised.value.code == "pdp_unreachable"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'"\\ud800"', b"[" * 200 + b"]" * 200, b"nul", b"{}" * 2]
)
def test_document_that_is_none_is_an_error(body: bytes) -> None:
    pdp = open_pdp(bundle(), isolation="thread")
    with pytest.raises(PdpError) as raised:
        pdp.evaluate(PolicyInput(Phase.EXECUTE_TOOL, "read", body))
    assert raised.value.code == "pdp_error"
    assert pdp.evaluate(asked("read_ticket")).is_permit


def test_too_big_a_document_is_refused() -> None:
    with pytest.raises(PdpError) as raised:
        open_pdp(bundle(), isolation="thread").evaluate(asked("read", {"a": "x" * (1 << 20)}))
    assert raised.value.code == "pdp_input_too_large"


@given(
    body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))
)
def test_any_bytes_are_denied_or_an_error(body: bytes) -> None:
    pdp = open_pdp(bundle(), isolation="thread")
    try:
        decision = pdp.evaluate(PolicyInput(Phase.EXECUTE_TOOL, "read", body))
    except PdpError as error:
        assert error.code == "pdp_error"
    else:
        assert decision.effect is Effect.DENY


@given(text=st.text(max_size=300))
def test_any_text_is_refused_or_loaded_and_never_crashes(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("p")
    (folder / "x.rego").write_text("package policies.x\n\n" + text, errors="replace")
    check([folder])
