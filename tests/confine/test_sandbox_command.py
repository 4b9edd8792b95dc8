"""`fumehood sandbox`, through the command line that a user has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from host import require

from fumehood.cli.sandbox import sandbox
from fumehood.errors import ConfinementError


def invoke(*words: str) -> Result:
    return CliRunner().invoke(sandbox, list(words))


def test_run_passes_the_output_through(tier: str) -> None:
    done = invoke(
        "run", "--tier", tier, "--profile", "shell", "--", "/bin/sh", "-c", "echo out; echo err >&2"
    )
    assert (done.exit_code, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_run_answers_one_where_the_program_failed(tier: str) -> None:
    assert invoke("run", "--tier", tier, "--", "python3", "-c", "raise SystemExit(3)").exit_code == 1
    late = invoke("run", "--tier", tier, "--timeout", "0.2", "--profile", "shell", "--", "sleep", "60")
    assert late.exit_code == 1
    assert "deadline" in late.stderr


def test_run_shows_what_was_tried(tier: str) -> None:
    source = "try: open('/etc/passwd')\nexcept OSError: pass"
    done = invoke("run", "--tier", tier, "--profile", "model-loader", "--", "python3", "-c", source)
    assert "refused: open /etc/passwd" in done.stderr


def test_run_as_json(tier: str) -> None:
    done = invoke(
        "run", "--json", "--tier", tier, "--profile", "shell,strictest", "--", "/bin/echo", "\x1b[2J"
    )
    document = json.loads(done.stdout)
    assert document["exit"] == {"kind": "exited", "code": 0}
    assert document["stdout"] == "\x1b[2J\n"
    assert "\x1b" not in done.stdout


def test_a_folder_of_the_system_is_the_hosts_refusal(tmp_path: Path) -> None:
    done = invoke("run", "--workdir", "/etc", "--", "true")
    assert isinstance(done.exception, ConfinementError)  # the command's shell makes it exit 4


@pytest.mark.parametrize("command", ["run", "explain"])
def test_an_unknown_profile_is_the_users_mistake(command: str) -> None:
    words = ["run", "--profile", "nope", "--", "true"] if command == "run" else ["explain", "nope"]
    done = invoke(*words)
    assert type(done.exception).__name__ == "UnknownIdError"
    assert "python-offline" in str(done.exception)


@pytest.mark.parametrize("profile", ["strictest", "python-offline", "shell", "model-loader", "pdp"])
def test_explain_prints_every_profile(profile: str) -> None:
    done = invoke("explain", profile)
    assert done.exit_code == 0
    assert done.stdout.startswith(profile + ": ")
    document = json.loads(invoke("explain", profile, "--json").stdout)
    assert document["profile"]["name"] == profile
    assert "ptrace" in document["filter"]["refused"]


def test_doctor_finds_every_layer() -> None:
    require("userns")
    require("landlock")
    done = invoke("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 0, document
    assert set(document) == {"full", "no-userns"}
    assert all(layer["works"] for tier in document.values() for layer in tier["layers"])
    assert "ok      seccomp" in invoke("doctor").stdout


def test_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fumehood.confine import doctor

    def refuse(spec: object) -> None:
        raise ConfinementError("no", layer="landlock", remedy="get it")

    monkeypatch.setattr(doctor, "start", refuse)
    done = invoke("doctor", "--json")
    assert done.exit_code == 4
    layers = json.loads(done.stdout)["full"]["layers"]
    assert layers[-1]["layer"] == "landlock"
    assert layers[-1]["works"] is False
    assert layers[-1]["remedy"] == "get it"
    assert all(layer["works"] for layer in layers[:-1])
