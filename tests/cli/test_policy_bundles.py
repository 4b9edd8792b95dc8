"""`fumehood policy build|inspect` in a shell: what they write and print, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pdp.keypairs import key_pair
from pdp.policies import HEAD, folder_of

from fumehood.cli import main
from fumehood.pdp import load_bundle
from fumehood.pdp.archive import write_archive

DOCUMENTED = """# METADATA
# title: Reads
package policies.x

import data.fumehood.call

# METADATA
# title: Reading is fine
# custom:
#   controls: [ASI02]
permit if call.tool == "read"

deny contains "never" if call.tool == data.limits.never
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return folder_of(tmp_path / "policies", x=DOCUMENTED, data_dot_json='{"limits": {"never": "pay"}}')


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["policy", *map(str, arguments)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, object]]:
    code, out, _ = run(capsys, *arguments, "--json")
    return code, json.loads(out)


def test_build_writes_a_bundle_with_the_revision_of_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "build")
    revision = load_bundle([folder]).revision
    assert code == 0
    assert revision in out and "bundle.tar.gz" in out and "not signed" in out
    assert load_bundle(["./bundle.tar.gz"]).revision == revision
    first = Path("bundle.tar.gz").read_bytes()
    os.utime(folder / "x.rego", (1, 1))
    code, said = run_json(capsys, "build", "./policies", "-o", "again.tar.gz")
    assert Path("again.tar.gz").read_bytes() == first
    assert (code, said["ok"], said["revision"], said["size_bytes"]) == (0, True, revision, len(first))
    assert sorted(os.listdir(".")) == ["again.tar.gz", "bundle.tar.gz", "policies"]
    assert Path("again.tar.gz").stat().st_mode & 0o777 == 0o644


def test_signed_bundle_is_built_verified_and_shown(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, other = key_pair(tmp_path / "keys"), key_pair(tmp_path / "keys", name="other")
    options = ("--key-id", "release", "--scope", "write", "--revision", "v7", "--metadata", "git=abc=d")
    assert run(capsys, "build", "--signing-key", key.private, *options)[0] == 0
    code, out, _ = run(capsys, "inspect", "./bundle.tar.gz")
    assert code == 0
    assert "ES256, key release, scope write, 6 files; NOT verified" in out
    assert "revision v7; roots fumehood, limits, policies" in out and "git: abc=d" in out
    assert "Reading is fine" in out and '"never": "pay"' in out
    trusted = ("--verification-key", key.public, "--verification-scope", "write")
    code, said = run_json(capsys, "inspect", "./bundle.tar.gz", *trusted)
    (bundle,) = said["bundles"]  # type: ignore[misc]
    assert (code, bundle["signature"]["is_verified"]) == (0, True)
    for wrong in (("--verification-key", other.public), ("--verification-key", key.public)):
        code, out, err = run(capsys, "inspect", "./bundle.tar.gz", *wrong)
        assert (code, out) == (3, "")
        assert ".signatures.json" in err
    assert run(capsys, "build", "./bundle.tar.gz", "-o", "b.tar.gz", *trusted)[0] == 0
    code, _, err = run(capsys, "build", "./bundle.tar.gz", "-o", "b.tar.gz")
    assert code == 3 and "no key to verify it with" in err


def test_inspect_shows_rules_with_their_metadata(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run_json(capsys, "inspect")
    assert code == 0
    assert said["revision"] == load_bundle([folder]).revision
    assert said["rules"] == [
        {
            "name": "policies.x.permit",
            "file": "policies/x.rego",
            "line": 11,
            "metadata": {"title": "Reading is fine", "custom": {"controls": ["ASI02"]}},
        },
        {"name": "policies.x.deny", "file": "policies/x.rego", "line": 13, "metadata": None},
    ]
    assert said["data"] == {"limits": {"never": "pay"}}
    assert run(capsys, "inspect", "refund")[0] == 0


def test_inspect_shows_what_the_gate_refuses_and_ends_with_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "policies", x=HEAD + 'denny contains "x" if call.tool == "y"\n')
    code, out, err = run(capsys, "inspect")
    assert code == 3
    assert "policies.x.permit" in out and "cannot be used" in out and "denny" in err
    code, said = run_json(capsys, "inspect")
    assert (code, said["ok"], said["revision"], len(said["problems"])) == (3, False, None, 1)  # type: ignore[arg-type]


def test_what_cannot_be_built_writes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.rego").write_text("package policies.y\n\nx if\n")
    assert run(capsys, "build")[0] == 3
    assert run_json(capsys, "build")[1]["ok"] is False
    assert run(capsys, "build", "./nowhere")[0] == 2
    assert run(capsys, "inspect", "./nowhere")[0] == 2
    (folder / "bad.rego").unlink()
    for arguments in (
        ("-o", "x.zip"),
        ("--scope", "x"),
        ("--signing-alg", "ES256"),
        ("--verification-alg", "ES256"),
        ("--metadata", "x"),
        ("--metadata", "fumehood=x"),
        ("--metadata", "a=1", "--metadata", "a=2"),
        ("--signing-key", "missing.pem"),
        ("-o", "missing/x.tar.gz"),
    ):
        assert run(capsys, "build", *arguments)[0] == 2, arguments
    (tmp_path / "text.pem").write_text("hello")
    code, _, err = run(capsys, "build", "--signing-key", "text.pem")
    assert code == 3 and "not the PEM" in err
    code, said = run_json(capsys, "build", "--signing-key", "text.pem")
    assert code == 3 and said["error"]["code"] == "configuration"  # type: ignore[index]
    assert sorted(os.listdir(".")) == ["policies", "text.pem"]


def test_output_that_exists_is_replaced_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bundle.tar.gz").write_text("old")
    Path("link.tar.gz").symlink_to("bundle.tar.gz")
    assert run(capsys, "build", "-o", "link.tar.gz")[0] == 0
    assert Path("bundle.tar.gz").read_text() == "old"
    assert load_bundle(["./link.tar.gz"]).packages == ("policies.x",)


def test_hostile_names_and_texts_are_shown_inert(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[31m\u202e"
    manifest = json.dumps({"revision": evil, "metadata": {evil: evil}}).encode()
    text = DOCUMENTED.replace("Reading is fine", evil).encode()
    data = json.dumps({"limits": {evil: evil}}).encode()
    hostile = {"x.rego": text, ".manifest": manifest, "data.json": data}
    Path("evil.tar.gz").write_bytes(write_archive(hostile))
    for arguments in (("inspect", "./evil.tar.gz"), ("inspect", "./evil.tar.gz", "--json")):
        _, out, err = run(capsys, *arguments)
        assert not set(out + err) & {"\x1b", "\u202e"}


def test_help_does_not_load_cryptography() -> None:
    code = (
        "import sys\nfrom fumehood.cli import main\n"
        "try:\n    main(['policy', 'build', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(m in sys.modules for m in ('jwt', 'cryptography', 'regorus', 'yaml')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
