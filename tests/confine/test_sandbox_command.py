"""`fumehood sandbox run`, `explain` and `doctor`, through the command line that a user has."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from host import require

from fumehood.cli.root import root
from fumehood.cli.sandbox import sandbox
from fumehood.cli.sandbox_run import Passing, status_of
from fumehood.confine import Exit
from fumehood.confine.facts import Facts
from fumehood.confine.profile import names
from fumehood.display import inert
from fumehood.errors import ConfinementError

COMMAND = (sys.executable, "-c", "import sys, fumehood.cli as c; c.main(sys.argv[1:])", "sandbox")


def invoke(*words: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(sandbox, list(words), input=stdin)


def shell(*words: str, tier: str = "full", options: tuple[str, ...] = ()) -> Result:
    return invoke("run", "--tier", tier, "--profile", "shell", *options, "/bin/sh", "-c", *words)


# --- run -------------------------------------------------------------------------------------------------


def test_run_passes_the_output_through(tier: str) -> None:
    done = shell("echo out; echo err >&2", tier=tier)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_bytes_reach_a_file_as_they_are_and_a_terminal_spelt_out() -> None:
    """A terminal obeys what it is sent: title, clipboard, cursor. A file and a pipe do not."""
    words = ("run", "--profile", "shell", "printf", r"\033]0;owned\007\377\302\235\n")
    assert invoke(*words).stdout_bytes == b"\x1b]0;owned\x07\xff\xc2\x9d\n"
    shown = at_a_terminal(*words)
    assert "⟨U+001B⟩]0;owned⟨U+0007⟩\\xff⟨U+009D⟩" in shown.decode()
    assert not set(shown) & {0x1B, 0x07, 0xFF}
    assert b"\x1b]0;owned\x07\xff" in at_a_terminal("run", "--raw", *words[1:])


def at_a_terminal(*words: str) -> bytes:
    """What the command writes to a terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen([*COMMAND, *words], stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    process.wait(30)
    return shown


@pytest.mark.parametrize("goes_to", ["a pipe", "a terminal"])
def test_output_is_shown_as_it_comes(goes_to: str, tmp_path: Path) -> None:
    """The command ends only when the file is there, which is made once its first words were read."""
    ours, its = os.pipe() if goes_to == "a pipe" else pty.openpty()
    script = "printf 'fir\\303'; while [ ! -e go ]; do sleep 0.05; done; printf '\\251t\\033'"
    words = (
        "run",
        "--profile",
        "shell",
        "--workdir",
        str(tmp_path),
        "--timeout",
        "20",
        "/bin/sh",
        "-c",
        script,
    )
    process = subprocess.Popen([*COMMAND, *words], stdout=its, stderr=subprocess.DEVNULL)
    os.close(its)
    shown = b""
    while not shown.startswith(b"fir"):
        shown += os.read(ours, 100)
    assert process.poll() is None
    (tmp_path / "go").touch()
    with contextlib.suppress(OSError):
        while part := os.read(ours, 100):
            shown += part
    os.close(ours)
    assert process.wait(30) == 0
    assert shown == (b"fir\xc3\xa9t\x1b" if goes_to == "a pipe" else "firét⟨U+001B⟩".encode())


def test_a_terminal_is_shown_the_same_however_output_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    body = ("é a" + "\u0301" * 9 + "\n\x1b[31m\u202e😀\t").encode() + b"\xff\xc3"
    whole = inert(body.decode(errors="backslashreplace"), multiline=True)
    assert whole.count("U+0301") == 5
    for size in (1, 2, 3, 5):
        screen = io.StringIO()
        monkeypatch.setattr(screen, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdout", screen)
        passing = Passing()
        for start in range(0, len(body), size):
            passing("stdout", body[start : start + size])
        passing.end()
        assert screen.getvalue() == whole


def test_a_command_whose_reader_is_gone_is_ended() -> None:
    words = (
        "run",
        "--profile",
        "shell",
        "--timeout",
        "20",
        "/bin/sh",
        "-c",
        "while echo x; do sleep 0.02; done",
    )
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert process.returncode not in (0, 124)
    assert b"Traceback" not in errors


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (Exit("exited", 0), 0),
        (Exit("exited", 3), 3),
        (Exit("exited", 255), 255),
        (Exit("deadline"), 124),
        (Exit("not_started", 13), 126),
        (Exit("not_started", 8), 126),
        (Exit("not_started", 2), 127),
        (Exit("signal", 15), 143),
        (Exit("filter", 31), 159),
        (Exit("cpu", 24), 152),
        (Exit("memory"), 137),
        (Exit("output"), 137),
        (Exit("processes"), 137),
        (Exit("disk"), 137),
        (Exit("stopped"), 137),
        (Exit("spawner"), 137),
    ],
)
def test_every_way_to_end_has_its_status(ended: Exit, status: int) -> None:
    assert status_of(ended) == status


def test_run_answers_with_the_status_of_what_ran(tier: str) -> None:
    assert shell("exit 7", tier=tier).exit_code == 7
    assert shell("kill -TERM $$", tier=tier).exit_code == 143
    assert invoke("run", "--tier", tier, "no-such-program").exit_code == 127
    late = invoke("run", "--tier", tier, "--timeout", "0.2", "--profile", "shell", "sleep", "60")
    assert late.exit_code == 124
    assert "it ended by: deadline" in late.stderr
    loud = shell("while :; do echo xxxxxxxxxx; done", tier=tier, options=("--limit", "output_bytes=1k"))
    assert (loud.exit_code, len(loud.stdout)) == (137, 1024)
    assert "it ended by: output" in loud.stderr


def test_words_after_the_command_are_the_commands() -> None:
    done = invoke("run", "--profile", "shell", "echo", "--json", "--profile", "x", "-h")
    assert (done.exit_code, done.stdout) == (0, "--json --profile x -h\n")
    assert invoke("run", "--", "true", "--nope").exit_code == 0
    assert invoke("run", "--nope", "true").exit_code == 2


def test_run_shows_what_was_tried(tier: str) -> None:
    source = "try: open('/etc/passwd')\nexcept OSError: pass"
    done = invoke("run", "--tier", tier, "--profile", "model-loader", "--", "python3", "-c", source)
    assert "refused: open /etc/passwd" in done.stderr


def test_run_as_json(tier: str) -> None:
    words = ("--json", "--tier", tier, "--profile", "shell,strictest", "--profile", "python-offline")
    done = invoke("run", *words, "--", "/bin/echo", "\x1b[2J")
    document = json.loads(done.stdout)
    assert document["exit"] == {"kind": "exited", "code": 0}
    assert document["status"] == 0
    assert document["stdout"] == "\x1b[2J\n"
    assert document["profile"] == "shell+strictest+python-offline"
    assert "\x1b" not in done.stdout
    assert json.loads(invoke("run", "--json", "--", "false").stdout)["status"] == 1


def test_a_variable_is_given_or_taken_and_nothing_else_of_the_environment_goes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAKEN", "taken=x")
    monkeypatch.setenv("SECRET", "hunter2")
    done = invoke(
        "run", "--profile", "shell", "--env", "TAKEN", "--env", "GIVEN=a=b", "--env", "NONE=", "env"
    )
    lines = done.stdout.splitlines()
    assert {"TAKEN=taken=x", "GIVEN=a=b", "NONE="} <= set(lines)
    assert "hunter2" not in done.stdout
    missing = invoke("run", "--env", "NOT_SET_HERE", "true")
    assert (missing.exit_code, "not set" in missing.stderr) == (2, True)
    assert invoke("run", "--env", "=x", "true").exit_code == 2


def test_standard_input_is_empty_unless_it_is_given(tmp_path: Path) -> None:
    assert invoke("run", "--profile", "shell", "cat", stdin=b"mine").stdout == ""
    given = invoke("run", "--profile", "shell", "--stdin", "-", "cat", stdin=b"mine\0\xff")
    assert given.stdout_bytes == b"mine\0\xff"
    (tmp_path / "in").write_text("of a file")
    assert invoke("run", "--profile", "shell", "--stdin", str(tmp_path / "in"), "cat").stdout == "of a file"


def test_folders_are_read_or_written_as_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("read", "write", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "read/x").write_text("to read\n")
    monkeypatch.chdir(tmp_path)
    line = f"cat {tmp_path}/read/x; echo w > {tmp_path}/write/w; pwd > p; touch {tmp_path}/read/y || echo no"
    done = shell(line, options=("--read", "read", "--write", "write", "--workdir", "work"))
    assert done.stdout == "to read\nno\n"
    assert (tmp_path / "write/w").read_text() == "w\n"
    assert (tmp_path / "work/p").read_text() == f"{tmp_path}/work\n"
    assert not (tmp_path / "read/y").exists()


def test_limits_are_named_and_have_units() -> None:
    count = "ulimit -n; ulimit -v"
    done = shell(count, options=("--limit", "open_files=32", "--limit", "memory_bytes=64m"))
    assert done.stdout.splitlines() == ["32", str((8 * 64 << 10) + (4 << 20))]
    for wrong in (
        "nope=1",
        "processes=x",
        "processes=1k",
        "processes=1.5",
        "processes",
        "memory_bytes=1q",
        "processes=0",
    ):
        answer = invoke("run", "--limit", wrong, "true")
        assert (answer.exit_code, "--limit" in answer.stderr) == (2, True), wrong


def test_files_come_out_into_a_new_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = "mkdir d; echo a > a.txt; echo b > d/b.txt; echo c > c.bin; ln -s /etc/passwd l.txt"
    done = shell(line, options=("--artifact", "*.txt", "--out", str(out)))
    assert done.exit_code == 0, done.stderr
    found = {p.relative_to(out).as_posix(): p.read_text() for p in out.rglob("*") if p.is_file()}
    assert found == {"a.txt": "a\n", "d/b.txt": "b\n"}
    again = shell("echo evil > a.txt", options=("--artifact", "*", "--out", str(out)))
    assert (again.exit_code, (out / "a.txt").read_text()) == (2, "a\n")
    assert shell("true", options=("--artifact", "*")).exit_code == 2


def test_files_never_leave_the_folder_they_come_out_to(tmp_path: Path) -> None:
    from fumehood.cli.sandbox_run import write_artifacts
    from fumehood.confine import Artifact

    out, away = tmp_path / "out", tmp_path / "away"
    out.mkdir()
    away.mkdir()
    (out / "link").symlink_to(away)
    for path in ("../away/x", "/away/x", "a//x", "./x", "link/x"):
        with pytest.raises((ConfinementError, OSError)):
            write_artifacts([Artifact(path, b"x")], out)
    assert list(away.iterdir()) == []


def test_a_folder_of_the_system_is_the_hosts_refusal(tmp_path: Path) -> None:
    done = invoke("run", "--workdir", "/etc", "--", "true")
    assert isinstance(done.exception, ConfinementError)  # the command's shell makes it exit 4


def test_ctrl_c_ends_the_job_and_the_command() -> None:
    words = ("run", "--profile", "shell", "sleep", "600")
    process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    from confine.test_lifetime import all_below, sleeps_below, wait_until

    assert wait_until(lambda: sleeps_below(process.pid))
    below = all_below(process.pid)
    os.kill(process.pid, 2)
    assert process.wait(30) == 130
    assert wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in below))
    process.communicate()


# --- doctor ----------------------------------------------------------------------------------------------


def test_doctor_finds_every_layer() -> None:
    require("userns")
    require("landlock")
    done = invoke("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 0, document
    assert set(document["tiers"]) == {"full", "no-userns"}
    states = {layer["state"] for tier in document["tiers"].values() for layer in tier["layers"]}
    assert states <= {"ok", "weaker"}
    text = invoke("doctor").stdout
    assert "full: works" in text
    assert "ok       seccomp" in text


@pytest.mark.parametrize(
    ("failed", "status", "able"),
    [
        ({"user-ns": 1}, 1, {"full": False, "no-userns": True}),
        ({"landlock": 38}, 4, {"full": False, "no-userns": False}),
    ],
)
def test_doctor_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, failed: dict[str, int], status: int, able: dict[str, bool]
) -> None:
    from fumehood.confine import doctor, probes

    tried = {**dict.fromkeys(["fork", *probes._PROBES], 0), **failed}
    facts = Facts(distribution="debian", kernel="5.10.1\x1b[2J", version="11", tried=tried)
    monkeypatch.setattr(doctor, "gather", lambda: facts)
    monkeypatch.setattr(doctor, "trial", lambda tier: {})
    done = invoke("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == status
    assert {tier: found["works"] for tier, found in document["tiers"].items()} == able
    (name,) = failed
    (layer,) = [found for found in document["tiers"]["full"]["layers"] if found["layer"] == name]
    assert (layer["state"], bool(layer["detail"]), bool(layer["remedy"])) == ("missing", True, True)
    text = invoke("doctor").stdout
    assert f"MISSING  {name}" in text
    assert "\x1b" not in text


def test_doctor_says_so_where_it_cannot_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    from fumehood.confine import doctor

    monkeypatch.setattr(doctor, "_BOOT", "raise SystemExit('nothing works here')")
    done = invoke("doctor")
    assert isinstance(done.exception, ConfinementError)
    assert "nothing works here" in str(done.exception)


# --- completion, help ------------------------------------------------------------------------------------


def completed(*words: str, incomplete: str) -> list[str]:
    shell_ = ShellComplete(root, {}, "fumehood", "_FUMEHOOD_COMPLETE")
    return [item.value for item in shell_.get_completions(["sandbox", *words], incomplete)]


def test_profiles_and_limits_are_completed() -> None:
    assert completed("run", "--profile", incomplete="pyth") == [n for n in names() if n.startswith("pyth")]
    assert completed("run", "--profile", incomplete="shell,stri") == ["shell,strictest"]
    assert completed("explain", incomplete="mod") == ["model-loader"]
    assert completed("shell", "--limit", incomplete="mem") == ["memory_bytes="]
    assert set(completed("run", "--tier", incomplete="")) == {"full", "no-userns"}


def test_every_option_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    for name, command in sandbox.commands.items():
        assert f"`fumehood sandbox {name}" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(f"`{option}" in text for option in parameter.opts), parameter.opts
