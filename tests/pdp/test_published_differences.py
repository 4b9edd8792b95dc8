"""docs/engine-differences.md is true: the engines differ where it says so, and the gate does as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from host import require
from pdp.documents import as_input, document
from pdp.engines import LISTED, differences, request
from pdp.opa_server import running_opa
from pdp.policies import folder_of

from fumehood.canonical import JSON
from fumehood.errors import PdpError
from fumehood.pdp import check, load_bundle, sources
from fumehood.pdp.engine import Engine, EngineError
from fumehood.pdp.expand import expanded
from fumehood.pdp.sources import PolicyFile
from fumehood.pdp.syntax import Module, module_of

PAGE = Path(__file__).parents[2] / "docs" / "engine-differences.md"
HEAD = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "pay"\n\n'
ARGS: Mapping[str, JSON] = {
    "o": {"a": 1},
    "n": 1234567.5,
    "t": "é",
    "l": ["a"],
    "big": "é😀",
    "two": {"k": 1, "z": 2},
}

# id → a rule `_v` that the engines answer differently, and what the gate says of it
STOPPED = {
    "not-undefined": ('_v if not startswith(call.args.nope, "a")', "which may be undefined"),
    "in-as-value": ('_v := "a" in call.args.nope', "is used as a value"),
    "every-match": ("_v if { every e in [1] { e = 2 } }", "of `every` is matched"),
    "object-pattern": ('_v if { {"k": x} = call.args.two; x == 1 }', "wants exactly these keys"),
    "given-twice": ("_v := [v | some v, v in call.args.l]", "is given twice"),
    "object-set-order": ("_v if call.args.o < {1}", "a set is less than an object"),
    "printed-text": ('_v := sprintf("%v", [call.args.n])', "must decide nothing"),
    "format": ('_v := sprintf("%d", [call.args.n])', "constant format of %v"),
    "character-class": ("_v if regex.match(`^\\w+$`, call.args.t)", "ASCII in one"),
    "class-in-class": ('_v if regex.match(`^[a[b]]+$`, "b")', "set operation"),
    "outside": ("_v := opa.runtime().env", "`opa.runtime` is refused"),
    "built-in": ('_v := strings.count(call.args.t, "")', "`strings.count` is refused"),
    "dead-pattern": ('_v if { [x, y] = {"a"}; x == y }', "can never match"),
}  # fmt: skip
# id → the same rule means one thing, because the embedded engine is given other words
WRITTEN_OUT = {
    "count-of-text": ("_v := count(call.args.big)", 2),
    "lower-case": ('_v := lower("İ")', "i"),
    "some-in-a-value": ("_v := count([x | some x in call.args.t])", 0),
}


def here(rule: str, asked: str, *, as_written: bool) -> JSON:
    """What regorus says of `_v`, or "error" or "undefined"."""
    file = PolicyFile("x.rego", "x.rego", HEAD + rule + "\n", "x")
    module = module_of(file)
    assert isinstance(module, Module), module
    library = [(f.name, f.text) for f in (*sources.library(), *sources.embedded_library())]
    text = file.text if as_written else expanded(module)
    try:
        engine = Engine([*library, ("x.rego", text)], is_gated=True)
        return json.loads(engine.evaluate("data.policies.x._v", asked))  # type: ignore[no-any-return]
    except PdpError as error:
        return error.code.removeprefix("pdp_")
    except EngineError:
        return "error"


def there(url: str, rule: str, asked: str) -> JSON:
    """What OPA says of it."""
    for name, text in (("lib", sources.library()[0].text), ("x", HEAD + rule + "\n")):
        status, answer = request(url, "PUT", f"/v1/policies/{quote(name)}", text.encode())
        if status != 200:
            return "error"
    path = "/v1/data/policies/x/_v?strict-builtin-errors=true"
    status, answer = request(url, "POST", path, b'{"input":' + asked.encode() + b"}")
    for name in ("x", "lib"):  # what lies there would join other tests' policies
        request(url, "DELETE", f"/v1/policies/{name}")
    assert isinstance(answer, dict)
    return "error" if status != 200 else answer.get("result", "undefined")


@pytest.fixture(scope="module")
def bare_url() -> Iterator[str]:
    """A server of its own: what other tests left on theirs would join."""
    require("opa")
    with running_opa() as url:
        yield url


@pytest.fixture
def asked() -> str:
    return json.dumps(document("pay", ARGS))


@pytest.mark.parametrize("name", STOPPED)
def test_engines_differ_and_the_gate_says_no(name: str, tmp_path: Path, bare_url: str, asked: str) -> None:
    rule, says = STOPPED[name]
    one, other = here(rule, asked, as_written=False), there(bare_url, rule, asked)
    assert one != other, "the engines agree by now: the rule of the gate may go"
    problems = check([folder_of(tmp_path, x=HEAD + rule + "\n")])
    assert any(says in problem.message for problem in problems), problems


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_embedded_engine_is_given_other_words(name: str, tmp_path: Path, bare_url: str, asked: str) -> None:
    rule, value = WRITTEN_OUT[name]
    assert here(rule, asked, as_written=True) != value, "regorus does it like OPA by now"
    assert here(rule, asked, as_written=False) == there(bare_url, rule, asked) == value
    assert check([folder_of(tmp_path, x=HEAD + rule + "\n")]) == []


LEFT = {
    "built-in-error": ('deny contains "x" if call.args.l[_] == abs(call.args.n)', {"l": None, "n": None}),
    "printed-values": (
        'deny contains {"reason": "x", "detail": sprintf("%v", [n])} if n := call.args.n',
        {"n": 1234567.5},
    ),
    "opa-compiler": ('deny contains "x" if { call.tool == "never"; abs("text") == 1 }', {}),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_difference_that_is_left_is_real(name: str, tmp_path: Path, opa_url: str) -> None:
    text, args = LEFT[name]
    bundle = load_bundle([folder_of(tmp_path / "policies", x=f"{HEAD}{text}\n")])
    found = differences(bundle, opa_url, [as_input(document("pay", args))])  # type: ignore[arg-type]
    assert [difference.id for difference in found] == [name], found


def test_page_lists_what_is_tested() -> None:
    stopped, written, left = (set(re.findall(r"^\| `([a-z-]+)`", part, re.M)) for part in parts())
    assert stopped == set(STOPPED)
    assert written == set(WRITTEN_OUT)
    assert left == set(LEFT) == LISTED


def parts() -> list[str]:
    found = PAGE.read_text().split("\n## ")
    assert len(found) == 5, "an introduction and four sections"
    return found[1:4]
