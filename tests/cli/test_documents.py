"""docs/commands.md says what the commands do: every command, option, exit code and error code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from fumehood.cli import approvals, failures, root, stop, trace
from fumehood.ledger import files, names, sqlite, store

TEXT = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
LEDGER_TEXT = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
SHARED = {"--ledger", "--json", "--help"}


def commands() -> list[tuple[str, click.Command]]:
    groups = [("approvals", approvals.approvals), ("trace", trace.trace)]
    inside = [(f"{name} {sub}", c) for name, group in groups for sub, c in group.commands.items()]
    return [*inside, ("stop", stop.stop)]


@pytest.mark.parametrize(("name", "command"), commands(), ids=[n for n, _ in commands()])
def test_every_option_is_documented(name: str, command: click.Command) -> None:
    assert f"`fumehood {name}" in TEXT
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not SHARED & set(parameter.opts):
            assert all(f"`{option}" in TEXT for option in parameter.opts), parameter.opts


def test_every_command_is_listed() -> None:
    for name in root._COMMANDS:
        assert f"| `fumehood {name}" in TEXT


def test_exit_codes_are_those_of_the_program() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    in_code = {int(code) for code in re.findall(r"^\| (\d+) \|", root.__doc__ or "", re.MULTILINE)}
    assert listed == in_code == {0, failures.NO, failures.USAGE, failures.CONFIGURATION, 4, 5, 130, 141}


def test_error_codes_exist() -> None:
    source = "".join(Path(m.__file__ or "").read_text() for m in (failures, root, sqlite, store, files))
    source += Path(sqlite.__file__).with_name("approvals.py").read_text()
    for code in re.findall(r"^\| `([a-z_]+)` \| \d", TEXT, re.MULTILINE):
        assert f'"{code}"' in source, code


def test_attribute_names_are_those_of_the_ledger() -> None:
    known = {getattr(names, n) for n in names.__all__}
    used = set(re.findall(r"`((?:gen_ai|fumehood|error)\.[a-z_.]+)`", LEDGER_TEXT)) - {"fumehood.db"}
    assert used
    assert used <= known
