"""Parsed arguments on the way of a call: computed where read, decided upon, taken out of the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pdp.policies import folder_of

from fumehood import Denied, Guard
from fumehood.binding import annotations_from, as_json
from fumehood.errors import ConfigError

POLICY = """package policies.x

import data.fumehood.call

permit if {
	call.tool == "shell"
	every command in call.shell("/command").commands {
		command.program in {"ls", "cat"}
	}
}

permit if {
	call.tool == "query"
	call.sql("/query").kinds == ["select"]
}

permit if {
	call.tool == "read"
	call.inside("/path", "/usr")
}
"""


@pytest.fixture
def guard(tmp_path: Path) -> Any:
    folder = folder_of(tmp_path / "policies", x=POLICY)
    with Guard(str(folder), ledger=str(tmp_path / "trace.db"), isolation="thread") as guard:
        yield guard


def recorded(guard: Guard) -> dict[str, Any]:
    """The parsed arguments of the last policy input that was recorded."""
    seqs = range(1, 50)
    inputs = []
    for seq in seqs:
        try:
            inputs.append(guard.ledger.policy_input(seq))
        except KeyError:
            continue
    return json.loads(inputs[-1])["context"]["normalised"]  # type: ignore[no-any-return]


def ran(guard: Guard, name: str, **args: str) -> bool:
    def body(**_: str) -> str:
        return "ran"

    try:
        guard.call(name, args, run=FUNCTIONS[name])
    except Denied:
        return False
    return True


def shell(command: str) -> str:
    return command


def query(query: str) -> str:
    return query


def read(path: str) -> str:
    return path


FUNCTIONS = {"shell": shell, "query": query, "read": read}


def test_call_is_decided_by_what_its_arguments_mean(guard: Guard) -> None:
    assert ran(guard, "shell", command="ls -l | cat")
    assert not ran(guard, "shell", command="ls; rm x")
    assert not ran(guard, "shell", command="ls $(rm x)")
    assert not ran(guard, "shell", command="ls '")
    assert ran(guard, "query", query="select a from b")
    assert not ran(guard, "query", query="select a from b; drop table b")
    assert ran(guard, "read", path="/usr/bin")
    assert not ran(guard, "read", path="/usr/../etc/passwd")


def test_only_what_the_policy_reads_is_sent_and_recorded(guard: Guard) -> None:
    ran(guard, "shell", command="ls -l")
    found = recorded(guard)
    assert set(found) == {"paths", "files", "shell", "sql"}
    assert found["paths"] == found["sql"] == {}
    assert found["shell"]["/command"]["commands"][0]["words"] == ["ls", "-l"]


def test_secret_in_a_command_is_taken_out_of_its_words_too(guard: Guard) -> None:
    ran(
        guard,
        "shell",
        command="curl -H 'Authorization: Bearer abcdefgh''ijklmnop12345678' --password=hunter2222",
    )
    text = json.dumps(recorded(guard))
    assert "hunter2222" not in text
    assert "ijklmnop" not in text


def test_link_out_of_the_folder_is_seen(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to("/etc")
    text = (
        "package policies.x\n\nimport data.fumehood.call\n\n"
        f'permit if call.inside("/path", "{(tmp_path / "in").resolve()}")\n'
    )
    folder = folder_of(tmp_path / "policies", x=text)
    with Guard(str(folder), ledger=str(tmp_path / "trace.db"), isolation="thread") as guard:
        assert ran(guard, "read", path=f"{tmp_path}/in/new")
        assert not ran(guard, "read", path=f"{tmp_path}/in/out/passwd")


def test_guard_says_that_a_parser_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fumehood.parsed.assemble.find_spec", lambda name: None)
    folder = folder_of(tmp_path / "policies", x=POLICY)
    Guard(str(folder), ledger=str(tmp_path / "trace.db"), isolation="thread").close()
    said = capsys.readouterr().err
    assert "call.shell" in said
    assert "call.sql" in said
    assert "fumehood[parsers]" in said


def test_dialect_is_an_annotation_of_the_tool(guard: Guard) -> None:
    notes = annotations_from("query", {"kind": "read", "sql_dialect": "mysql"})
    assert as_json(notes) == {"kind": "read", "sql_dialect": "mysql"}
    guard.call("query", {"query": "select `a` from b"}, run=query, annotations={"sql_dialect": "mysql"})
    with pytest.raises(Denied):
        guard.call("query", {"query": "select `a` from b"}, run=query)


@pytest.mark.parametrize("dialect", ["mysqll", "", 3, ["mysql"]])
def test_unknown_dialect_is_refused(dialect: object) -> None:
    with pytest.raises(ConfigError, match="sql_dialect"):
        annotations_from("query", {"sql_dialect": dialect})
