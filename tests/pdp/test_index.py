"""The index by tool changes what a decision costs, never what it says: errors included."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pdp.documents import as_input, asked, document
from pdp.engines import said
from pdp.policies import folder_of

from fumehood.errors import ConfigError, PdpError
from fumehood.model import Phase
from fumehood.observe_mode import Mode
from fumehood.pdp import Bundle, load_bundle, open_pdp, sources
from fumehood.pdp.expand import expanded
from fumehood.pdp.gate import inspect
from fumehood.pdp.index import Split, entry_module, split, tools_of
from fumehood.pdp.near import VALUES
from fumehood.pdp.sources import PolicyFile, library
from fumehood.pdp.syntax import Module, module_of

HEAD = "package policies.{name}\n\nimport data.fumehood.call\nimport input.resource.id as tool_id\n\n"
TOOLS = ["a", "b", "pay", 'q"\\é', ""]
ARGS = [{}, {"n": 1}, {"n": "text"}, {"n": 5, "s": "x"}, {"n": None, "s": ["x"]}]

FIRST = {
    'call.tool == "a"': {"a"},
    '"b" == call.tool': {"b"},
    "`a` == call.tool": {"a"},
    'call.tool == "p\\u0061y"': {"pay"},
    'call.tool == "q\\"\\\\\\u00e9"': {'q"\\é'},
    'call.tool in {"a", "b"}': {"a", "b"},
    'call.tool in ["pay"]': {"pay"},
    'input.resource.id == "a"': {"a"},
    'tool_id == "b"': {"b"},
    'data.fumehood.call.tool == "a"': {"a"},
    'call["tool"] == "a"': {"a"},
    'call.tool != "a"': None,
    'not call.tool == "a"': None,
    'call.tool == call.arg("s", "")': None,
    "call.tool in call.args.s": None,
    '{"a": "b"}[_] == call.tool': None,
    'call.tool in {"x": "a"}': None,
    'call.tool in {"a", 1}': None,
    'call.args.s == "x"': None,
    'call.kind == "a"': None,
    "_is_a": None,
    'some t in ["a"]; call.tool == t': None,
    'call.args.tool == "a"': None,
}
REST = [
    "call.args.n > 2",
    "abs(call.args.n) > 2",
    "abs(call.args.n) > 0",
    'call.args.s == "x"',
    "count(call.args.n) > 0",
    'call.tool == "pay"',
]
FORMS = [
    "permit if {{ {first}; {rest} }}",
    "permit if {{ {rest}; {first} }}",
    "permit if {{ {first}; {rest} }} else if {{ {second} }}",
    'permit if {{ {first} }} else := true if {{ {second}; {rest} }}',
    'deny contains "d" if {{ {first}; {rest} }}',
    'deny contains "late" if {{ {rest}; {first} }}',
    'approve contains {{"reason": "late", "risk": "low"}} if {{ {rest}; {first} }}',
    'deny contains {{"reason": "d", "detail": abs(n)}} if {{ {first}; n := call.args.n }}',
    'approve contains {{"reason": "a", "risk": "low"}} if {{ {first}; {second} }}',
    'limit contains {{"key": call.tool, "max": 1, "per_s": 1}} if {{ {first} }}',
    'withhold contains "w" if {{ {first}; {rest} }}',
    "label contains \"internal\" if {{ {first} }}",
    "default permit := false",
]  # fmt: skip
QUESTIONS = [
    asked(tool, args, phase=phase)
    for tool in TOOLS
    for args in ARGS
    for phase in (Phase.EXECUTE_TOOL, Phase.RETURN_RESULT)
]
MARK = "# METADATA\n# custom:\n#   mode: observe\n"
TAIL = '\n\n_is_a if call.tool == "a"\n'


@st.composite
def policies(draw: st.DrawFn) -> list[str]:
    """One or two packages; sometimes one reads a public rule of its own, or of the other."""
    texts = []
    for name in draw(st.sampled_from([["x"], ["x", "y"]])):
        rules = [
            form.format(
                first=draw(st.sampled_from(list(FIRST))),
                second=draw(st.sampled_from(list(FIRST))),
                rest=draw(st.sampled_from(REST)),
            )
            for form in draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=5))
        ]
        more = draw(st.sampled_from(["", "", 'deny contains "no" if { call.tool == "b"; permit }']))
        texts.append(
            HEAD.format(name=name) + 'permit if call.tool == "zz"\n\n' + "\n\n".join([*rules, more]) + TAIL
        )
    if len(texts) == 2 and draw(st.booleans()):
        texts[1] += '\nlabel contains "other" if { call.tool == "a"; not data.policies.x.permit }\n'
    return texts


def unindexed(bundle: Bundle, folder: Path) -> Bundle:
    """The same policies, asked as if nothing could be told of any rule."""
    verdict = inspect(sources.read([folder]))
    library = [(f.name, f.text) for f in (*sources.library(), *sources.embedded_library())]
    entry, index = entry_module(Split((), {}, verdict.rules))
    files = (*library, *((m.file.name, expanded(m)) for m in verdict.modules), ("entry.rego", entry))
    return dataclasses.replace(bundle, embedded=files, index=index)


def both(folder: Path) -> tuple[Bundle, Bundle]:
    bundle = load_bundle([folder])
    return bundle, unindexed(bundle, folder)


@given(texts=policies())
def test_indexed_and_unindexed_answers_are_equal(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = folder_of(tmp_path_factory.mktemp("p"), **{f"f{i}": text for i, text in enumerate(texts)})
    try:
        indexed, plain = (open_pdp(bundle, isolation="thread") for bundle in both(folder))
    except ConfigError:
        reject()  # a permit of negations alone
    for question in QUESTIONS:
        assert said(indexed, question) == said(plain, question), (texts, question)


@settings(max_examples=30)
@given(
    texts=policies(),
    mode=st.sampled_from([Mode.OBSERVE, Mode.OBSERVE_PACKAGES]),
    is_first_marked=st.booleans(),
)
def test_indexed_and_unindexed_answers_are_equal_where_packages_are_only_observed(
    texts: list[str], mode: Mode, is_first_marked: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One of two packages: what it says is split as any other's, and nobody may take it for enforced."""
    marked = (0 if is_first_marked else 1) if len(texts) == 2 else None
    files = {f"f{i}": MARK + text if i == marked else text for i, text in enumerate(texts)}
    folder = folder_of(tmp_path_factory.mktemp("p"), **files)
    try:
        bundle = load_bundle([folder], mode=mode)
    except ConfigError:
        reject()  # a permit of negations alone
    observing = bundle.observing
    assert observing is not None
    assert [observing.watches("x"), observing.watches("y")] == (
        [True, True] if mode is Mode.OBSERVE else [marked == 0, marked == 1]
    )
    indexed, plain = (open_pdp(b, isolation="thread") for b in (bundle, unindexed(bundle, folder)))
    enforcing = open_pdp(dataclasses.replace(bundle, observing=None), isolation="thread")
    for question in QUESTIONS:
        decision = said(indexed, question)
        assert decision == said(plain, question), (texts, question)
        full = said(enforcing, question)
        assert (decision if isinstance(decision, str) else decision.observed) == full, (texts, question)


def module(rule: str) -> Module:
    found = module_of(PolicyFile("x.rego", "x.rego", HEAD.format(name="x") + rule + TAIL, "x"))
    assert isinstance(found, Module), found
    return found


@pytest.mark.parametrize(("first", "tools"), FIRST.items())
def test_only_a_first_statement_that_is_understood_says_which_tools(
    first: str, tools: set[str] | None
) -> None:
    found = module(f"permit if {{ {first}; call.args.n > 1 }}")
    assert tools_of(found, found.rules[0]) == tools
    later = module(f"permit if {{ call.args.n > 1; {first} }}")
    assert tools_of(later, later.rules[0]) is None


def test_every_body_of_a_definition_counts() -> None:
    found = module('permit if { call.tool == "a" } else if { call.tool == "b" }')
    assert tools_of(found, found.rules[0]) == {"a", "b"}
    loose = module('permit if { call.tool == "a" } else if { call.args.n > 1 }')
    assert tools_of(loose, loose.rules[0]) is None


@pytest.mark.parametrize(
    "reader", ["_r if permit", "_r if data.policies.x.permit", "_r := [p | p := data.policies.x.permit]"]
)
def test_rule_that_others_read_stays_whole(reader: str) -> None:
    found = module(f'permit if call.tool == "a"\n\n{reader}\n')
    assert split([found], {"x": ("permit",)}).groups == ()
    assert len(split([module('permit if call.tool == "a"')], {"x": ("permit",)}).groups) == 1


def test_error_behind_another_tools_name_is_not_reached_in_either_engine(
    tmp_path: Path, opa_url: str
) -> None:
    text = (
        HEAD.format(name="x")
        + 'permit if call.tool == "a"\n\ndeny contains "d" if { call.tool == "b"; abs(call.args.n) > 1 }\n'
    )
    bundle, plain = both(folder_of(tmp_path / "p", x=text))
    pdps = [
        open_pdp(bundle, isolation="thread"),
        open_pdp(plain, isolation="thread"),
        open_pdp(bundle, url=opa_url),
    ]
    for tool, expected in (("a", "permit"), ("b", "pdp_error")):
        answers = [said(pdp, asked(tool, {"n": "text"})) for pdp in pdps]
        assert [a if isinstance(a, str) else a.effect.value for a in answers] == [expected] * 3


def test_policies_that_see_another_tool_than_the_guard_said_are_asked_about_that_one(tmp_path: Path) -> None:
    text = HEAD.format(name="x") + 'permit if call.tool == "a"\n\ndeny contains "d" if call.tool == "b"\n'
    bundle, _ = both(folder_of(tmp_path / "p", x=text))
    content = document("b")
    for isolation in ("thread", "worker"):
        pdp = open_pdp(bundle, isolation=isolation)  # type: ignore[arg-type]
        wrong = dataclasses.replace(as_input(content), tool="a")
        assert pdp.evaluate(wrong).rules == ("policies.x.deny",)
        assert pdp.evaluate(dataclasses.replace(as_input(document("a")), tool="b")).is_permit
        pdp.close()


def test_too_many_tools_leave_everything_whole() -> None:
    names = [f'"t{n}"' for n in range(1001)]
    lines = ",\n\t".join(", ".join(names[at : at + 50]) for at in range(0, len(names), 50))
    many = [f'deny contains "d{n}" if call.tool in {{{lines}, "u{n}"}}' for n in range(20)]
    assert split([module("\n".join(many[1:]))], {"x": ("deny",)}).groups
    more = module("\n".join(many))
    whole = split([more], {"x": ("deny",)})
    assert (whole.groups, whole.rules, whole.members) == ((), {"x": ("deny",)}, {})


def test_thousand_rules_for_two_hundred_tools_ask_five_each(tmp_path: Path) -> None:
    rules = "\n".join(f'deny contains "d{n}" if call.tool == "t{n % 200}"' for n in range(1000))
    found = module(rules)
    parts = split([found], {"x": ("deny",)})
    entry, index = entry_module(parts)
    name = index.names[index.number("execute_tool", "t7")].rpartition(".")[2]
    (asking,) = (block for block in entry.split("\n\n") if block.startswith(f"{name} := "))
    assert asking.count("x__deny__") == 1
    assert index.number("execute_tool", "nobody") == index.number("execute_tool", "")
    (_, rest), (_, alone) = parts.texts(found)
    assert "contains" not in rest
    assert alone.count("x__deny__7 contains") == 5
    assert rest.count("\n") == alone.count("\n") == found.file.text.count("\n")


def test_error_names_the_file_and_the_line_where_the_author_wrote_it(tmp_path: Path) -> None:
    rules = (
        '# A remark.\npermit if call.tool == "read"\n\n'
        'deny contains "alone" if {\n\tcall.tool == "a"\n\tabs(call.args.n) > 1\n}\n\n'
        'deny contains "not" if {\n\tcall.tool == "b"\n\t_is_big(call.args.n)\n}\n\n'
        "_is_big(n) if abs(n) > 1\n"
    )
    pdp = open_pdp(
        load_bundle([folder_of(tmp_path / "p", x=HEAD.format(name="x") + rules)]), isolation="thread"
    )
    for tool, line in (("a", 11), ("b", 19)):
        with pytest.raises(PdpError, match=rf"p/x\.rego:{line}:"):
            pdp.evaluate(asked(tool, {"n": "text"}))
    assert pdp.evaluate(asked("read", {"n": "text"})).is_permit


def test_definition_that_means_something_in_its_own_file_only_stays_there(tmp_path: Path) -> None:
    """Aliases of the input, helpers, and a local name that looks like a helper."""
    text = (
        "package policies.{0}\n\nimport data.fumehood.call\nimport input.subject.id as {1}\n\n"
        'permit if {{ call.tool == "{0}"; {1} == "bot"; _ok(call.tool) }}\n\n_ok(x) if x == "{0}"\n'
    )
    folder = folder_of(tmp_path / "p", x=text.format("x", "who"), y=text.format("y", "who"))
    folder_of(
        folder,
        z=text.format("z", "who")
        .replace("input.subject.id", "input.resource.type")
        .replace('"bot"', '"tool"'),
    )
    pdp = open_pdp(load_bundle([folder]), isolation="thread")
    assert [pdp.evaluate(asked(tool)).is_permit for tool in ("x", "y", "z", "q")] == [True, True, True, False]


def test_values_beside_the_entry_points_are_those_of_the_library() -> None:
    (text,) = (file.text for file in library() if file.name.endswith("call.rego"))
    for name, defined in VALUES.items():
        assert f"\n{defined}\n" in text
        assert len(re.findall(rf"^(?:default )?{name}\b", text, re.MULTILINE)) == 2


def test_author_may_use_the_names_that_stand_beside_the_entry_points(tmp_path: Path) -> None:
    rules = (
        'permit if call.tool == "a"\n\n'
        'deny contains "x" if {\n\tcall.tool == "a"\n\tcall__tool := "b"\n\tcall__tool != call.args.t\n}\n'
    )
    bundle = load_bundle([folder_of(tmp_path / "p", x=HEAD.format(name="x") + rules)])
    assert "call___tool == " in dict(bundle.embedded)["p/x.rego"]
    pdp = open_pdp(bundle, isolation="thread")
    assert pdp.evaluate(asked("a", {"t": "b"})).is_permit
    assert not pdp.evaluate(asked("a", {"t": "a"})).is_permit


def test_files_cost_nothing_where_their_rules_stand_alone(tmp_path: Path) -> None:
    """The engine looks at every file where one package names another: no definition that is alone does."""
    texts = {f"x{n}": HEAD.format(name=f"x{n}") + f'permit if call.tool == "t{n}"\n' for n in range(30)}
    bundle = load_bundle([folder_of(tmp_path / "p", **texts)])
    alone = [text for name, text in bundle.embedded if name.startswith("p/")]
    assert len(alone) == 30
    assert not any("data.fumehood" in text for text in alone)
