"""What a bundle says of itself: manifest, roots, data in YAML, our library inside; and what we build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdp.documents import asked
from pdp.policies import HEAD, folder_of

from fumehood.errors import ConfigError
from fumehood.pdp import Bundle, load_bundle, open_pdp, pack
from fumehood.pdp.archive import read_archive, write_archive
from fumehood.pdp.yamldata import YamlError, read_yaml


def archive_of(where: Path, files: dict[str, str], name: str = "bundle") -> Path:
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"{name}.tar.gz"
    path.write_bytes(write_archive({name: text.encode() for name, text in files.items()}))
    return path


def permitted(bundle: Bundle, *tools: str) -> list[str]:
    pdp = open_pdp(bundle, isolation="thread")
    return [tool for tool in tools if pdp.evaluate(asked(tool)).is_permit]


def refusal(where: Path, files: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as raised:
        load_bundle([archive_of(where, files)])
    assert all(problem.remedy for problem in raised.value.problems)
    return str(raised.value)


MANIFESTS = [
    ("{", "not valid JSON"),
    ("[]", "not an object"),
    ('{"revisoin": "1"}', "`revisoin` is not known"),
    ('{"revision": 3}', "`revision` is not a text"),
    ('{"revision": "a", "revision": "b"}', "stands twice"),
    ('{"metadata": 3}', "`metadata` is not an object"),
    ('{"roots": "policies"}', "`roots` is not a list of texts"),
    ('{"roots": [3]}', "`roots` is not a list of texts"),
    ('{"roots": ["policies", "policies/x"]}', "overlap"),
    ('{"roots": ["", "policies"]}', "overlap"),
    ('{"roots": ["policies", "/policies/"]}', "overlap"),
    ('{"roots": ["other"]}', "the package policies.x is not in the roots of the bundle: other"),
    ('{"roots": []}', "the package policies.x is not in the roots"),
    ('{"roots": ["policies/xy"]}', "the package policies.x is not in the roots"),
    ('{"roots": ["policies"]}', "the data at limits is not in the roots"),
    ('{"roots": ["policies", "limits/b"]}', "the data at limits.a is not in the roots"),
    ('{"wasm": [{"module": "/policy.wasm"}]}', "WebAssembly is not run here"),
    ('{"rego_version": 0}', "a version of Rego other than 1"),
    ('{"rego_version": true}', "a version of Rego other than 1"),
    ('{"rego_version": 1, "file_rego_versions": {"*/x.rego": 0}}', "a version of Rego other than 1"),
    ('{"file_rego_versions": 3}', "a version of Rego other than 1"),
]


@pytest.mark.parametrize(("text", "says"), MANIFESTS)
def test_manifest_that_does_not_hold_is_refused(text: str, says: str, tmp_path: Path) -> None:
    files = {"x.rego": HEAD, "limits/data.json": '{"a": 1, "b": {"c": 2}}', ".manifest": text}
    said = refusal(tmp_path, files)
    assert says in said
    assert "bundle.tar.gz:.manifest:1:1" in said


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"roots": [""]}',
        '{"roots": null}',
        '{"roots": ["policies/x", "limits/a", "limits/b/c"]}',
        '{"revision": "1", "roots": ["/policies/", "limits"], "rego_version": 1, "metadata": {"a": [1]}}',
        '{"wasm": [], "file_rego_versions": {"x": 1}, "metadata": null}',
    ],
)
def test_manifest_that_holds_is_loaded(text: str, tmp_path: Path) -> None:
    files = {"x.rego": HEAD, "limits/data.json": '{"a": 1, "b": {"c": 2}}', ".manifest": text}
    assert load_bundle([archive_of(tmp_path, files)]).packages == ("policies.x",)


def test_roots_of_a_folder_hold_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", x=HEAD)
    (folder / ".manifest").write_text('{"roots": ["other"]}')
    with pytest.raises(ConfigError, match=r"policies\.x is not in the roots"):
        load_bundle([folder])


def test_hidden_files_and_links_are_no_matter_in_a_folder_that_is_not_signed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", x=HEAD)
    (folder / ".manifest").write_text('{"roots": ["policies"]}')
    (folder / ".git").mkdir()
    (folder / ".git" / "y.rego").write_text("not Rego")
    (folder / "x.rego").rename(tmp_path / "elsewhere.rego")
    (folder / "x.rego").symlink_to(tmp_path / "elsewhere.rego")
    assert load_bundle([folder]).packages == ("policies.x",)


def test_data_lies_where_its_folder_is(tmp_path: Path) -> None:
    text = HEAD + "permit if call.tool in data.a.b.tools\n\npermit if call.tool == data.top\n"
    files = {"x.rego": text, "a/b/data.yaml": "tools: [one, 'yes']\n", "data.json": '{"top": "two"}'}
    assert permitted(load_bundle([archive_of(tmp_path, files)]), "one", "yes", "two", "x") == [
        "one",
        "yes",
        "two",
    ]


def test_data_that_could_grant_is_refused_in_a_bundle(tmp_path: Path) -> None:
    for files in (
        {"policies/data.json": '{"evil": {"permit": true}}'},
        {"data.json": '{"policies": {"evil": {"permit": true}}}'},
        {"fumehood/main/data.yaml": "decision: {effect: permit}"},
        {"system/data.json": "{}"},
    ):
        assert "data under `" in refusal(tmp_path, {"x.rego": HEAD, **files})


def test_policy_in_our_package_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    for text in (
        'package fumehood.main\n\ndecision := {"effect": "permit"}\n',
        "package   fumehood.call\n",
        'package fumehood.bundle\n\nrevision := "mine"\n',
        'package fumehood["main"]\n',
    ):
        said = refusal(tmp_path, {"x.rego": HEAD, "lib/main.rego": text})
        assert "is not the library of this version of Fumehood" in said


def test_bundle_that_was_changed_after_it_was_built_is_refused(tmp_path: Path) -> None:
    built = read_archive(pack(load_bundle([folder_of(tmp_path / "policies", x=HEAD)])))
    texts = {name: content.decode() for name, content in built.items()}
    assert load_bundle([archive_of(tmp_path, texts)]).packages == ("policies.x",)
    for change in (
        {"policies/x.rego": texts["policies/x.rego"] + '\npermit if call.tool == "x"\n'},
        {"policies/y.rego": 'package policies.y\n\ndeny contains "x" if input.a == 1\n'},
        {"data.json": '{"a": 1}', ".manifest": "{}"},
    ):
        assert "has the files of another revision" in refusal(tmp_path, {**texts, **change})


def test_two_bundles_whose_files_have_one_name_are_both_loaded(tmp_path: Path) -> None:
    def policy(name: str, tool: str) -> str:
        return HEAD.replace("policies.x", f"policies.{name}").replace("read", tool)

    one = archive_of(tmp_path / "a", {"main.rego": HEAD, "lib/main.rego": policy("l", "look")})
    two = archive_of(tmp_path / "b", {"main.rego": policy("y", "write")})
    folder = folder_of(tmp_path / "lib", main=policy("z", "list"))
    bundle = load_bundle([one, two, folder])
    assert len(dict(bundle.files)) == len(bundle.files)
    assert permitted(bundle, "read", "look", "write", "x", "list") == ["read", "look", "write", "list"]


def test_built_bundle_of_many_sources_holds_them_all(tmp_path: Path) -> None:
    tests = "package x_test\n\ntest_a if true\n"
    folder = folder_of(tmp_path / "policies", x=HEAD, x_test=tests, data_dot_json='{"n": 1.50}')
    bundle = load_bundle([folder, "refund"])
    packed = pack(bundle, revision="v1", metadata={"git": "abc"})
    (tmp_path / "all.tar.gz").write_bytes(packed)
    again = load_bundle([tmp_path / "all.tar.gz"])
    assert (again.revision, again.packages, again.data) == (bundle.revision, bundle.packages, bundle.data)
    files = read_archive(packed)
    manifest = json.loads(files[".manifest"])
    assert manifest["revision"] == "v1"
    assert manifest["roots"] == ["fumehood", "n", "policies"]
    assert manifest["metadata"]["git"] == "abc"
    assert manifest["metadata"]["fumehood"]["revision"] == bundle.revision
    assert not any("_test" in name for name in files)


def test_name_that_cannot_stand_in_an_archive_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p\u202e", x=HEAD)
    with pytest.raises(ConfigError, match="nobody can see or type"):
        pack(load_bundle([folder]))


# --- YAML

AMBIGUOUS = ["yes", "NO", "On", "off", "y", "N", "True", "TRUE", "Null", "017", "0o17", "0x1F", "0b1"]
AMBIGUOUS += ["1_000", "+1", "1.", ".5", "12:30", "1:2:3", "2001-01-01", "2001-1-1 10:00:00", ".inf"]
AMBIGUOUS += ["-.Inf", ".NaN", "<<", "="]
CLEAR = {"true": True, "false": False, "null": None, "~": None, "12": 12, "-1": -1, "1.50": 1.5}
CLEAR |= {"1e3": 1000.0, "-0": 0, "2001": 2001}
TEXTS = ["10.0.0.0/8", "1.2.3", "a:b", "yes please", "v1", "1st", "text", "it's", "http://a/b#c", "0x"]


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_word_that_readers_of_yaml_disagree_about_is_refused(text: str) -> None:
    for document in (f"a: {text}", f"- {text}", f"{text}: 1", f"[{text}]"):
        with pytest.raises(YamlError) as raised:
            read_yaml(document)
        assert raised.value.remedy
    assert read_yaml(f"a: '{text}'") == {"a": text}


def test_words_that_all_agree_about_are_read() -> None:
    assert [read_yaml(f"a: {text}") for text in CLEAR] == [{"a": value} for value in CLEAR.values()]
    for text in TEXTS:
        assert read_yaml(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: 1\nb: &x 1\n", 2, 4, "anchor"),
        ("a: &x [1]\nb: *x\n", 1, 4, "anchor"),
        ("a: !!python/object:os.system x\n", 1, 4, "the tag"),
        ("a: 1\na: 2\n", 2, 1, "stands twice"),
        ("1: a\n", 1, 1, "a key that is not a text"),
        ("? [a]\n: b\n", 1, 3, "a key that is not a text"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second document"),
        ("a: [\n", 2, 1, "not valid YAML"),
        ("a: " + "[" * 100 + "]" * 100, 1, 68, "nested deeper than 64"),
        ("a: \x00", 1, 1, "not valid YAML"),
    ],
)
def test_yaml_that_is_not_plain_is_refused(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(YamlError) as raised:
        read_yaml(text)
    assert says in str(raised.value)
    assert (raised.value.line, raised.value.column) == (line, column)


@given(text=st.text(max_size=200))
def test_any_text_is_yaml_or_is_refused(text: str) -> None:
    try:
        read_yaml(text)
    except YamlError as error:
        assert error.remedy


SCALARS = st.none() | st.booleans() | st.integers(-9999, 9999) | st.text("ab 1:-'\"", max_size=5)
KEYS = st.text("ab", min_size=1)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(KEYS, v), max_leaves=8)


@given(value=VALUES)
def test_json_is_yaml(value: object) -> None:
    assert read_yaml(json.dumps(value)) == value
