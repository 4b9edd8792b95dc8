"""The built-ins that the gate lets through: both engines have them, and agree on values of every type."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from host import require
from pdp.engines import LISTED, request
from pdp.opa_server import running_opa

from fumehood.errors import PdpError
from fumehood.pdp import sources
from fumehood.pdp.engine import Engine, EngineError
from fumehood.pdp.expand import expanded
from fumehood.pdp.gate.builtins import ARITY, banned
from fumehood.pdp.sources import PolicyFile
from fumehood.pdp.syntax import Module, module_of

VALUES = [
    '"abc"',
    '""',
    '"aé漢😀"',
    '"a,b,c"',
    '" a\xa0"',
    '"İΣß"',
    '"YWJj"',
    '"6162"',
    '"1.2.3"',
    '"x/y"',
    "0",
    "1",
    "-3",
    "2.5",
    "255",
    "3.7",
    "-2.5",
    "1000000",
    "null",
    "true",
    "[]",
    "[1,2,3]",
    '["b","a","b"]',
    "[3,1,2.5]",
    '["a","abc"]',
    '[{"a":1},{"b":2}]',
    "[[1],[2]]",
    "{}",
    '{"a":1,"b":{"c":2}}',
    '{"a":"b"}',
    "{1,2}",
    "set()",
    "{{1},{2,3}}",
    '{"a","b"}',
]
PATTERNS = ["^[a-z]+$", "(?i)ABC", "a|b", "[0-9]{1,3}", ".", "a*?b", "(?P<n>a)(b)?", "[[:alpha:]]", "漢"]
PAIRS = {
    "regex.match": [(f'"{p}"', v) for p in PATTERNS for v in VALUES[:10]],
    "regex.find_n": [(f'"{p}"', v, "-1") for p in PATTERNS for v in VALUES[:10]],
    "regex.find_all_string_submatch_n": [(f'"{p}"', v, "2") for p in PATTERNS for v in VALUES[:10]],
    "regex.replace": [(v, f'"{p}"', '"<$0>"') for p in PATTERNS for v in VALUES[:10]],
    "sprintf": [('"%v|"', f"[{v}]") for v in VALUES],
    "glob.match": [
        (f'"{g}"', d, v)
        for g in ("*", "a*", "**", "{a,b}*", "a?c")
        for d in ("[]", '["."]')
        for v in VALUES[:6]
    ],
    "time.add_date": [("1767225600000000000", "1", "-13", "40")],
    "time.clock": [("1767225600123456789",)],
    "time.date": [("1767225600123456789",)],
    "time.weekday": [("1767225600123456789",)],
    "time.diff": [("1767225600000000000", "0")],
    "time.parse_rfc3339_ns": [('"2026-01-02T03:04:05.678Z"',), ('"2026-02-30T03:04:05Z"',)],
    "substring": [(v, a, b) for v in VALUES[:8] for a in ("0", "1", "9", "-1") for b in ("0", "2", "-1")],
    "object.get": [
        ('{"a":{"b":[5]}}', k, '"z"') for k in ('"a"', '["a","b"]', '["a","b",0]', "[]", '["x"]', "1")
    ],
    "array.slice": [("[1,2,3]", a, b) for a in ("0", "-1", "2") for b in ("0", "2", "9")],
    "numbers.range": [("1", "4"), ("4", "1"), ("1", "1"), ("1.5", "3"), ('"a"', "3")],
    "numbers.range_step": [("1", "9", "3"), ("9", "1", "2"), ("1", "9", "0"), ("1", "9", "-1")],
    "json.filter": [('{"a":{"b":1,"c":2}}', p) for p in ('["a/b"]', '[["a","c"]]', "[]", '["x"]')],
    "json.remove": [('{"a":{"b":1,"c":2}}', p) for p in ('["a/b"]', '[["a","c"]]', "[]", '["x"]')],
    "format_int": [(n, b) for n in ("255", "-255", "3.7", "0") for b in ("2", "8", "10", "16", "7")],
    "walk": [(f"[{v}]",) for v in VALUES],
}
# expression → id of docs/engine-differences.md
PUBLISHED = {'sprintf("%v|", [set()])': "printed-values"}
OPERATORS = ["+", "-", "*", "/", "%", "==", "!="]


def cases() -> Iterator[tuple[str, str]]:
    """(built-in, an expression over constants)."""
    for name, arity in ARITY.items():
        rows = PAIRS.get(name) or [
            tuple(VALUES[(i * step + 3 * at) % len(VALUES)] for at, step in enumerate((1, 7, 5, 3)[:arity]))
            for i in range(len(VALUES))
        ]
        for row in rows:
            yield name, f"{name}({', '.join(row)})"
    for operator in OPERATORS:
        for i, left in enumerate(VALUES):
            yield operator, f"{left} {operator} {VALUES[(i * 7 + 3) % len(VALUES)]}"


CASES = list(cases())


def here(expression: str) -> str:
    """What the embedded engine says of the expression, as text that can be compared."""
    file = PolicyFile("x.rego", "x.rego", f"package x\n\nvalue := {expression}\n", "x")
    module = module_of(file)
    assert isinstance(module, Module), (expression, module)
    library = [(f.name, f.text) for f in sources.embedded_library()]
    try:
        engine = Engine([*library, ("x.rego", expanded(module))], is_gated=True)
        return comparable(json.loads(engine.evaluate("data.x.value", "{}")))
    except PdpError as error:
        return error.code
    except EngineError:
        return "pdp_error"


def there(url: str, expression: str) -> str:
    """What OPA says; what it refuses by its types at upload is an error as well."""
    text = f"package x\n\nvalue := {expression}\n".encode()
    if request(url, "PUT", "/v1/policies/x", text)[0] != 200:
        return "pdp_error"
    status, answer = request(url, "POST", "/v1/data/x/value?strict-builtin-errors=true", b"{}")
    assert isinstance(answer, dict)
    if status != 200:
        return "pdp_error"
    return comparable(answer["result"]) if "result" in answer else "pdp_undefined"


def comparable(value: object) -> str:
    """JSON with numbers as numbers: 1 and 1.0 are one number, in Rego as in JSON."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(map(comparable, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {comparable(value[k])}' for k in sorted(value))}}}"
    return json.dumps(value, ensure_ascii=False)


def compare(chosen: list[tuple[str, str]]) -> None:
    require("opa")
    with running_opa() as url:
        found = [(expression, here(expression), there(url, expression)) for _, expression in chosen]
    assert [row for row in found if row[1] != row[2] and row[0] not in PUBLISHED] == []


def test_engines_agree_about_each_built_in() -> None:
    compare(CASES[::7])


@pytest.mark.slow
def test_engines_agree_about_each_built_in_on_all_values() -> None:
    compare(CASES)


def test_published_expressions_are_tried() -> None:
    assert {expression for _, expression in CASES} >= set(PUBLISHED)
    assert set(PUBLISHED.values()) <= LISTED


def test_every_built_in_is_tried() -> None:
    assert {name for name, _ in CASES} >= set(ARITY)


def test_no_built_in_is_both_allowed_and_banned() -> None:
    assert [name for name in ARITY if banned(name)] == []


@pytest.mark.parametrize(
    ("expression", "value"),
    [('count("é😀")', "2"), ('count("")', "0"), ("count([1, 2])", "2"), ('lower("ÀΣİ")', '"àσi"')],
)
def test_what_the_embedded_engine_does_differently_is_done_as_opa_does_it(
    expression: str, value: str
) -> None:
    assert here(expression) == value
