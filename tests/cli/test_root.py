from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from cli.conftest import Shell
from fumehood.cli import root

HEAVY = ("textual", "langchain", "langchain_core", "langgraph", "pydantic", "regorus", "sqlite3", "re2")


def test_help_loads_only_click() -> None:
    source = f"""
import sys
from fumehood.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    print(f"--help took {time.perf_counter() - begin:.3f} s")
    assert done.stderr.strip() == "[]"
    for name in ("demo", "tui", "approvals", "trace", "stop", "policy", "sandbox"):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("command", ["approvals", "trace", "stop"])
def test_each_command_has_help_without_a_ledger(fumehood: Shell, command: str) -> None:
    assert fumehood(command, "--help").code == 0


def test_unknown_command_is_wrong_usage(fumehood: Shell) -> None:
    ran = fumehood("frobnicate\x1b[31m")
    assert ran.code == 2
    assert "\x1b" not in ran.err
    assert "No such command" in ran.err


def test_version(fumehood: Shell) -> None:
    assert fumehood("--version").out.startswith("fumehood 0.")


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [
        ("fumehood ap", 1, "approvals"),
        ("fumehood approvals ap", 2, "approve"),
        ("fumehood trace tail --f", 3, "--follow"),
    ],
)
def test_shell_completion_works(words: str, position: int, expected: str) -> None:
    asked = {"_FUMEHOOD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    done = subprocess.run(
        [sys.executable, "-c", "from fumehood.cli import main; main()"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
    )
    assert f"plain,{expected}" in done.stdout.splitlines()


def test_missing_extra_is_one_clear_line(fumehood: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise ModuleNotFoundError("No module named 'langchain_core'", name="langchain_core.messages")

    monkeypatch.setattr(root, "_from_entry_point", load)
    ran = fumehood("demo")
    assert ran.code == 3
    assert ran.err.strip().endswith("run: pip install 'fumehood[langchain]'")
    assert json.loads(fumehood("demo", "--json").out)["error"]["code"] == "missing_extra"


def test_bug_is_not_taken_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(root, "_from_entry_point", load)
    with pytest.raises(KeyError):
        root.main(["demo"])


def test_missing_ledger_is_exit_5(fumehood: Shell, tmp_path: object) -> None:
    for command in (("approvals", "ls"), ("trace", "tail"), ("stop", "--all")):
        ran = fumehood(*command, "--ledger", f"{tmp_path}/none.db")
        assert ran.code == 5
        assert "there is no ledger at" in ran.err
        assert json.loads(fumehood(*command, "--ledger", f"{tmp_path}/none.db", "--json").out)["error"] == {
            "code": "ledger_missing",
            "message": ran.err.removeprefix("fumehood: ").strip(),
        }
