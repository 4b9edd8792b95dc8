"""What of the parsed arguments a policy reads: found soundly, so that nothing that is read is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from pdp.documents import as_input, document
from pdp.engines import differences
from pdp.policies import HEAD, bundle_of, folder_of

from fumehood.canonical import JSON
from fumehood.model import PARSED_KINDS, Effect
from fumehood.parsed import parsed_arguments
from fumehood.pdp import load_bundle, open_pdp

ALL = dict.fromkeys(PARSED_KINDS)
AT = frozenset({"/a"})

READS = [
    ("", {}),
    ('_x if call.args.a == "b"', {}),
    ('_x if call.path("/a") == "/b"', {"path": AT}),
    ('_x if call.path("/a") == call.path("/b")', {"path": AT | {"/b"}}),
    ('_x if call.shell("/a").parsed', {"shell": AT}),
    ('_x := {k | some k in call.sql("/a").kinds}', {"sql": AT}),
    ('_x if call.inside("/a", "/srv")', {"path": AT, "file": AT}),
    ('_x(p) if call.url(p).host == "a"', {"url": None}),
    ('_x if {\n\tsome p in ["/a"]\n\tcall.argv(p)[0] == "ls"\n}', {"argv": None}),
    ('_x if call.path(concat("", ["/a"])) == "/b"', {"path": None}),
    ('_x if input.context.normalised.paths["/a"] == "/b"', {"path": AT}),
    ("_x if input.context.normalised.urls[_].port == 80", {"url": None}),
    ('_x if input.context.normalised.unparseable.url["/a"] == "x"', ALL),
    ("_x if count(input.context.normalised) > 0", ALL),
    ('_x if input.context.time == "a"', {}),
    ("_x if count(input.context) > 0", ALL),
    ("_x if count(input) > 0", ALL),
    ('_x if input["context"].normalised.files["/a"].is_link', {"file": AT}),
    ("_x if { some k; input.context[k] == 1 }", ALL),
]


@pytest.mark.parametrize(("rule", "expected"), READS)
def test_what_is_read_is_found(rule: str, expected: dict[str, frozenset[str] | None], tmp_path: Path) -> None:
    assert dict(bundle_of(tmp_path, HEAD + rule + "\n").facts.reads_parsed) == expected


def test_alias_of_an_import_is_seen_through(tmp_path: Path) -> None:
    text = (
        "package policies.x\n\nimport data.fumehood.call as c\nimport input.context.normalised as n\n\n"
        'permit if c.path("/a") == "/b"\n\n_y if n.sql["/q"].kinds == ["select"]\n'
    )
    assert dict(bundle_of(tmp_path, text).facts.reads_parsed) == {"path": AT, "sql": frozenset({"/q"})}


POLICY = (
    HEAD
    + """
permit if {
	call.tool == "shell"
	every command in call.shell("/a").commands {
		command.program in {"ls", "cat"}
	}
}

permit if {
	call.tool == "sql"
	every kind in call.sql("/a").kinds {
		kind == "select"
	}
}

permit if {
	call.tool == "file"
	call.inside("/a", "/usr")
}

permit if {
	call.tool == "url"
	call.url("/a").reach == "name"
	not call.url("/a").host == "evil.example"
}

deny contains {"reason": "elsewhere"} if {
	call.tool == "file"
	not call.file("/a").parsed == true
}

approve contains {"reason": "not read", "risk": "low", "timeout_s": 5} if {
	call.shell("/a").parsed == false
	call.tool == "shell"
}
"""
)

TEXTS = [
    "ls -l | cat", "rm x", "ls; rm x", "ls $(rm)", "select a from b", "delete from t", "/usr/bin",
    "/usr/../etc",
    "https://a.example/", "https://EVIL.example/", "http://127.0.0.1", "", "\0", "é", "(" * 3000,
    "~/x", "⟨redacted⟩",
]  # fmt: skip


def test_both_engines_see_the_same(tmp_path: Path, opa_url: str) -> None:
    bundle = load_bundle([folder_of(tmp_path / "policies", x=POLICY)])
    odd: list[JSON] = [3, None, ["ls"], {"a": "b"}, True]
    inputs = [
        as_input(
            document(tool, {"a": value}, normalised=parsed_arguments({"a": value}, bundle.facts.reads_parsed))
        )
        for tool in ("shell", "sql", "file", "url")
        for value in (*TEXTS, *odd)
    ]
    inputs += [as_input(document(tool, {})) for tool in ("shell", "sql", "file", "url")]
    assert differences(bundle, opa_url, inputs) == []


PERMITTED = [
    ("shell", "ls -l | cat"),
    ("sql", "select a from b"),
    ("file", "/usr/bin"),
    ("url", "https://a.example/"),
]


@pytest.mark.parametrize(("tool", "text"), PERMITTED)
def test_only_what_is_parsed_and_allowed_is_permitted(tool: str, text: str, tmp_path: Path) -> None:
    bundle = load_bundle([folder_of(tmp_path / "policies", x=POLICY)])
    pdp = open_pdp(bundle, isolation="thread")
    for other in (*TEXTS, 3, None):
        args: dict[str, JSON] = {"a": other}
        call = as_input(document(tool, args, normalised=parsed_arguments(args, bundle.facts.reads_parsed)))
        assert (pdp.evaluate(call).effect is Effect.PERMIT) is (other == text), other
    assert pdp.evaluate(as_input(document(tool, {"a": text}))).effect is Effect.DENY
