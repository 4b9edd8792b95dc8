"""Paths, URLs and commands: one meaning, or none."""

from __future__ import annotations

import shlex
from typing import cast

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fumehood.canonical import JSON
from fumehood.model import PARSED_PLACES
from fumehood.normalise import normalised
from fumehood.parsed.simple import path_of, words_of
from fumehood.parsed.urls import url_of

PATHS = [
    ("/a/../b//c/", "/b/c"),
    ("//etc/passwd", "/etc/passwd"),
    ("/..", "/"),
    ("/./a/./b", "/a/b"),
    ("/a/b/../../..", "/"),
    ("a/b", None),
    ("", None),
    ("~/x", None),
    ("~root/x", None),
    ("/a\0b", None),
    ("/" + "a" * 5000, None),
]


@pytest.mark.parametrize(("text", "expected"), PATHS)
def test_path_is_absolute_and_plain_or_absent(text: str, expected: str | None) -> None:
    assert path_of(text) == expected


def test_relative_path_is_taken_from_the_folder_given() -> None:
    assert path_of("../x", cwd="/srv/models") == "/srv/x"
    assert path_of("a", cwd="relative") is None
    assert path_of("http://a/b", cwd="/srv") is None


URLS = [
    ("HTTPS://Example.COM", ("https", "example.com", 443, "/")),
    ("http://a.example:8080/x/%2e%2e/y/./z?q#f", ("http", "a.example", 8080, "/y/z")),
    ("http://a.example/%41%2f%7e", ("http", "a.example", 80, "/A%2F~")),
    ("http://a.example./", ("http", "a.example", 80, "/")),
    ("http://127.0.0.1/", ("http", "127.0.0.1", 80, "/")),
    ("http://[::1]:80/", ("http", "::1", 80, "/")),
    ("http://[::ffff:10.0.0.1]/", ("http", "10.0.0.1", 80, "/")),
    ("gopher://a/", ("gopher", "a", 0, "/")),
    ("http://a.example/a/b/..", ("http", "a.example", 80, "/a/")),
    ("http://exämple.com/", ("http", "xn--exmple-cua.com", 80, "/")),
    ("http://EXÄMPLE.com/", ("http", "xn--exmple-cua.com", 80, "/")),
    ("http://xn--exmple-cua.com", ("http", "xn--exmple-cua.com", 80, "/")),
    ("https://a.example/?b=c@d", ("https", "a.example", 443, "/")),
]


@pytest.mark.parametrize(("text", "parts"), URLS)
def test_url_has_one_form(text: str, parts: tuple[str, str, int, str]) -> None:
    found = cast("dict[str, JSON]", url_of(text))
    assert tuple(found[name] for name in ("scheme", "host", "port", "path")) == parts


AMBIGUOUS = [
    "https://good.example@evil.example/",
    "https://good.example\\@evil.example/",
    "https://good.example:80:90/",
    "http://127.1/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://2130706433/",
    "http://straße.example/",
    "http://g\u180dl.example/",
    "http://a\u034fb.example/",
    "http://ｅvil.example/",
    "http://a。example/",
    "http://xn--a/",
    "http://xn--exmple-cUA-/",
    "http://a\u200db.example/",
    "http://a.example?@b.example/",
    "http://a.example#@b.example/",
    "http://a%2eexample/",
    "http:/a.example/",
    "http:\\\\a.example",
    "file:///etc/passwd",
    "http://\u0301a.example/",
    "http://a.example\n/",
    " http://a.example/",
    "http://a b/",
    "http:///x",
    "http://-a.example/",
    "http://a..b/",
    "http://a.example/%zz",
    "http://a.example/ä",
    "http://a.example:99999/",
    "http://[fe80::1%25eth0]/",
    "http://[127.0.0.1]/",
    "javascript:alert(1)",
    "//a.example/",
    "",
]


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_url_that_two_readers_could_read_differently_is_absent(text: str) -> None:
    assert url_of(text) is None


COMMANDS = [
    ("ls -l /tmp", ["ls", "-l", "/tmp"]),
    ("  ls\t-l ", ["ls", "-l"]),
    ("git commit -m 'a b'", ["git", "commit", "-m", "a b"]),
    ('echo "a b"c', ["echo", "a bc"]),
    ("python3 -c 'import os; os.system(1)'", ["python3", "-c", "import os; os.system(1)"]),
    ("''", [""]),
]


@pytest.mark.parametrize(("text", "words"), COMMANDS)
def test_simple_command_is_its_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words
    assert shlex.split(text) == words


NOT_SIMPLE = (
    "ls; rm -rf /", "ls && rm x", "ls | sh", "ls > /etc/x", "ls < x", "ls &", "(ls)", "{ ls; }",
    "ls\nrm x", "ls\rrm", "echo $HOME", "echo `id`", 'echo "$(id)"', 'echo "`id`"', "ls *", "ls ?",
    "ls [a]", "ls ~", "ls #x", "ls !x", "'open", '"open', "a\\ b", "", "   ", "ls\xa0x", "ls\x00x",
    "x" * 9000,
)  # fmt: skip


@pytest.mark.parametrize("text", NOT_SIMPLE)
def test_command_that_is_more_than_words_is_absent(text: str) -> None:
    assert words_of(text) is None


def test_whole_arguments_are_walked() -> None:
    args: JSON = {"cmd": ["ls", "-l"], "in": {"a/b": "/x/../y"}, "u": "http://A/", "n": 5, "mixed": ["a", 1]}
    found = cast("dict[str, dict[str, JSON]]", normalised(args))
    assert found["paths"] == {"/in/a~1b": "/y"}
    assert cast("dict[str, JSON]", found["urls"]["/u"])["host"] == "a"
    assert found["argv"]["/cmd"] == ["ls", "-l"]
    assert "/mixed" not in found["argv"]
    assert set(cast("dict[str, JSON]", normalised({"n": 1}))) == set(PARSED_PLACES.values())


@given(text=st.text(max_size=40))
def test_words_are_what_a_shell_would_see(text: str) -> None:
    words = words_of(text)
    assert words is None or words == shlex.split(text)


@given(text=st.text(alphabet="/.ab", min_size=1, max_size=30))
def test_path_never_climbs(text: str) -> None:
    found = path_of("/" + text)
    assert found is not None
    assert ".." not in found.split("/")
    assert "//" not in found
    assert path_of(found) == found


@given(text=st.text(max_size=60) | st.from_regex(r"https?://[a-zA-Z0-9.@:%\[\]/\\-]{0,30}", fullmatch=True))
def test_url_is_its_own_normal_form(text: str) -> None:
    found = url_of(text)
    if isinstance(found, dict):
        host = f"[{found['host']}]" if ":" in str(found["host"]) else found["host"]
        again = f"{found['scheme']}://{host}:{found['port']}{found['path']}"
        assert found["port"] == 0 or url_of(again) == found


@pytest.mark.parametrize(
    "text", ["X=1 rm -rf /", " LD_PRELOAD=/tmp/x ls", "X='1' ls", "X+=1 ls", "time rm", "if"]
)
def test_command_that_begins_with_an_assignment_or_a_reserved_word_has_no_words(text: str) -> None:
    assert words_of(text) is None


@pytest.mark.parametrize("text", ["ls X=1", '"X=1" ls', "timeout 1", "'if' a", "env X=1 rm"])
def test_assignment_or_reserved_word_that_a_shell_takes_for_a_plain_word_keeps_its_words(text: str) -> None:
    assert words_of(text) is not None


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("127.0.0.1", "loopback"),
        ("[::1]", "loopback"),
        ("localhost", "loopback"),
        ("a.localhost", "loopback"),
        ("10.1.2.3", "private"),
        ("[::ffff:10.0.0.1]", "private"),
        ("[64:ff9b::10.0.0.1]", "private"),
        ("[2002:7f00:1::]", "loopback"),
        ("169.254.169.254", "link_local"),
        ("[fe80::1]", "link_local"),
        ("0.0.0.0", "reserved"),
        ("224.0.0.1", "reserved"),
        ("8.8.8.8", "public"),
        ("[2606:4700::1111]", "public"),
        ("localhost.example", "name"),
    ],
)
def test_address_says_where_it_leads(host: str, reach: str) -> None:
    assert cast("dict[str, JSON]", url_of(f"http://{host}/"))["reach"] == reach


def test_query_is_kept_as_written() -> None:
    assert cast("dict[str, JSON]", url_of("http://a/?q=%41&r#f"))["query"] == "q=%41&r"


@given(
    label=st.text(alphabet=st.characters(min_codepoint=0xA1, max_codepoint=0x2FFF), min_size=1, max_size=12)
)
def test_name_in_other_letters_is_what_both_standards_make_of_it(label: str) -> None:
    found = url_of(f"http://{label}.example/")
    if found is None:
        return
    host = str(cast("dict[str, JSON]", found)["host"])
    for encode in (lambda text: text.encode("idna"), lambda text: idna.encode(text, uts46=True)):
        try:
            assert encode(f"{label}.example").decode() == host
        except (UnicodeError, idna.IDNAError):  # a stricter reader reaches no host at all
            continue


def test_long_name_is_refused_at_once() -> None:
    assert url_of("http://" + "".join(map(chr, range(0x4E00, 0x4E00 + 8000))) + "/") is None
