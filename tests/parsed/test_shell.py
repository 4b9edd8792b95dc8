"""A shell's text as its commands: what is known is right, and what is not known is said to be so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parsed.shells import run_by_bash

from fumehood.parsed.shell import MAX_COMMAND_BYTES, shell_of
from fumehood.parsed.words import Unparseable

UNKNOWN = "unparseable"


def parsed(text: str) -> dict[str, Any]:
    return cast("dict[str, Any]", shell_of(text))


def words(text: str) -> list[list[str]]:
    return [command["words"] for command in parsed(text)["commands"]]


AND_LIST_PIPE = ["and", "list", "pipe"]
HERE = ["heredoc", "list", "pipe", "redirect", "substitution"]
LOOP = ["control", "list", "substitution", "variable"]

COMMANDS = [
    ("ls -l '/a b'", [["ls", "-l", "/a b"]], []),
    ("cat a | grep 'x|y' && rm z; ls", [["cat", "a"], ["grep", "x|y"], ["rm", "z"], ["ls"]], AND_LIST_PIPE),
    ("(a; b) & { c; }", [["a"], ["b"], ["c"]], ["background", "group", "list", "subshell"]),
    ("X=1 Y=2 ls", [["ls"]], ["assignment"]),
    ("export A=b", [["export", "A=b"]], ["assignment"]),
    ("! a || b", [["a"], ["b"]], ["not", "or"]),
    ("echo $X ${Y:-z}", [["echo", UNKNOWN, UNKNOWN]], ["variable"]),
    ("echo \"$(id -u)\" `w`", [["id", "-u"], ["w"], ["echo", UNKNOWN, UNKNOWN]], ["substitution"]),
    ("cat <(ls)", [["ls"], ["cat", UNKNOWN]], ["substitution"]),
    ("rm *.c ~/x {a,b} a[1]", [["rm", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]], ["brace", "glob", "tilde"]),
    ("find . -exec rm {} \\;", [["find", ".", "-exec", "rm", "{}", ";"]], []),
    ("a > f 2>&1 < g", [["a"]], ["redirect"]),
    ("cat <<E | sort\nx $(id)\nE\nls", [["cat"], ["sort"], ["id"], ["ls"]], HERE),
    ("cat <<'E'\n$(id)\nE", [["cat"]], ["heredoc", "redirect"]),
    ("for x in a $(b); do rm $x; done", [["b"], ["rm", UNKNOWN]], LOOP),
    ("f() { rm x; }", [["rm", "x"]], ["function", "group", "list"]),
    ("a\\\n b # c", [["a", "b"]], []),
    ("echo a\\ b \"c\\$d\" 'e'f", [["echo", "a b", "c$d", "ef"]], []),
    ("[ -f x ] && a", [["[", UNKNOWN], ["a"]], ["and", "test"]),
    ("echo $'a\\n'", [["echo", UNKNOWN]], ["ansi_c"]),
    ("echo $((1+1))", [["echo", UNKNOWN]], ["arithmetic"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected", "uses"), COMMANDS)
def test_each_command_is_named_with_its_words(text: str, expected: list[list[str]], uses: list[str]) -> None:
    found = parsed(text)
    assert sorted(words(text)) == sorted(expected)
    assert found["uses"] == uses
    assert all(command["program"] == command["words"][0] for command in found["commands"])
    assert [c["is_static"] for c in found["commands"]] == [
        UNKNOWN not in c["words"] for c in found["commands"]
    ]


def test_redirections_are_named_with_their_targets() -> None:
    assert parsed("a >f 2>>'g h' <$X")["redirects"] == [
        {"operator": ">", "target": "f"},
        {"operator": ">>", "target": "g h"},
        {"operator": "<", "target": UNKNOWN},
    ]
    assert parsed("X=1 a")["commands"][0]["sets"] == ["X"]


STATIC = [("ls", True), ("a | b > f", True), ("a $X", False), ("a *", False), ("if a; then b; fi", False)]


@pytest.mark.parametrize(("text", "is_static"), STATIC)
def test_text_is_static_if_all_of_it_is_known(text: str, is_static: bool) -> None:
    assert parsed(text)["is_static"] is is_static


UNREAD = (
    "", "  \n", "# only words", "X=1", "> f", "'open", "a |", "a;;b", "if a; then", "time rm x", "((x++))",
    "a=(1 2)", "echo > f a b", "cat <<A <<B\nx\nA\ny\nB", "cat <<A\nx", "a \\ b", "a\x00b", "a\rb", "a\x1bb",
    "!\\\nb",
    "a | cat <<'E'#| E\nE\n", "a\\\n#b", "a -2>&1", "a\xa0b |", "cat <<E\\\nF\nx\nEF", "x" * 9000, "(" * 100,
    "$(" * 60 + "a" + ")" * 60,
)  # fmt: skip


@pytest.mark.parametrize("text", UNREAD)
def test_text_that_is_not_read_is_unparseable(text: str) -> None:
    with pytest.raises(Unparseable):
        print(parsed(text))


BITS = (
    *["a", "b", "bc", "A=1", " ", " ", " ", "\t", "\n", '"', "'", "\\", "|", "||", "&", "&&", ";", "(", ")"],
    *["{ ", "}", "#", "=", "$a", "$(", "`", ">f", "2>&1", "<<E\n", "\nE\n", "<<'E'", "$", "!", "*", "?", "~"],
    *[
        "é",
        "\xa0",
        "if ",
        "then ",
        "fi",
        "for a in ",
        "do ",
        "done",
        "<<-E",
        "${a}",
        "$((",
        "))",
        "$'",
        "[[ ",
    ],
    *["]]", "{a,b}", "-x", "\\\n", "\\ ", "case a in ", "esac", ";;", "f()", "<(", ">&2", "&>f", "<<<", "+="],
    *["> ", ">|h", "\r", "\v", "1", "/x", "@", "%", "^", ","],
)


def is_covered(ran: tuple[str, ...], known: list[str]) -> bool:
    """Whether *ran* is *known*, where an unknown word may have become any number of words."""
    if not known:
        return not ran
    if known[0] == UNKNOWN:
        return any(is_covered(ran[skip:], known[1:]) for skip in range(len(ran) + 1))
    return bool(ran) and ran[0] == known[0] and is_covered(ran[1:], known[1:])


def check_against_bash(text: str, folder: Path) -> bool:
    """Every command that bash comes to run, and every file it makes, was named. False: not parsed."""
    try:
        found = parsed(text)
    except Unparseable:
        return False
    ran = run_by_bash(text, folder)
    known = [command["words"] for command in found["commands"]]
    for one in ran or ():
        assert any(is_covered(one, each) for each in known), (text, one, known)
    made = {path.name for path in folder.iterdir()} - {"told"}
    targets = {redirect["target"] for redirect in found["redirects"]}
    assert made <= targets or UNKNOWN in targets, (text, made, targets)
    return True


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(bits=st.lists(st.sampled_from(BITS), min_size=1, max_size=9))
def test_bash_runs_no_command_that_was_not_named(
    bits: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_against_bash("".join(bits), tmp_path_factory.mktemp("shell"))


@pytest.mark.parametrize(("text", "expected", "uses"), COMMANDS)
def test_bash_runs_what_the_examples_say(text: str, expected: object, uses: object, tmp_path: Path) -> None:
    assert check_against_bash(text, tmp_path)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(bits=st.lists(st.sampled_from(BITS), min_size=1, max_size=14))
def test_bash_runs_no_command_that_was_not_named_at_length(
    bits: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_against_bash("".join(bits), tmp_path_factory.mktemp("shell"))


HOSTILE = (
    "(",
    "$(",
    "`",
    '"$("',
    "{ ",
    "a=(",
    "<",
    "if ",
    "f() ",
    "[[ a =~ ((",
    "<<A ",
    "for ((;;",
    "a|",
)


@pytest.mark.parametrize("bit", HOSTILE)
def test_hostile_text_ends_soon(bit: str) -> None:
    text = (bit * MAX_COMMAND_BYTES)[:MAX_COMMAND_BYTES]
    begun = time.process_time()
    with pytest.raises(Unparseable):
        parsed(text)
    assert time.process_time() - begun < 3  # typically under 0.3
