"""`fumehood policy check` beyond the load gate: each finding with its place, none in the packs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from host import opa_binary, require
from pdp.generated import DATA, policy
from policies.test_packs import with_permits

from fumehood.parsed import assemble
from fumehood.pdp import sources
from fumehood.pdp.gate import inspect
from fumehood.pdp.gate.context import Context
from fumehood.pdp.sources import pack_names
from fumehood.workbench.completing import completed
from fumehood.workbench.deciding import DecidingLines
from fumehood.workbench.judge import EmbeddedJudge
from fumehood.workbench.lint import check_policies
from fumehood.workbench.lint.check import _ours
from fumehood.workbench.lint.metadata import is_control
from fumehood.workbench.lint.unfinished import MARK
from fumehood.workbench.tools import ToolSchema

HEAD = """# METADATA
# title: x
package policies.x

import data.fumehood.call

# METADATA
# title: x
"""
PERMIT = 'permit if call.tool == "pay"\n'
BOUNDED = 'permit if {\n\tcall.tool == "pay"\n\tis_number(call.args.amount)\n\tcall.args.amount <= 9\n}\n'
TOOLS = (
    ToolSchema(
        "pay", {"properties": {"amount": {"type": "number"}, "to": {"type": "string"}}}, {"kind": "money"}
    ),
    ToolSchema("read", {"properties": {"path": {"type": "string"}}}),
)
DENY = '\n# METADATA\n# title: x\ndeny contains "no" if {\n%s\n}\n'

# (policy behind HEAD, code, severity, line, column)
FOUND = [
    (PERMIT.replace("pay", "pey"), "unknown-tool", "error", 9, 24),
    ('permit if call.tool in {"read", "pey"}\n', "unknown-tool", "error", 9, 33),
    ('permit if input.resource.id == "pey"\n', "unknown-tool", "error", 9, 32),
    (BOUNDED.replace("amount <=", "ammount <="), "unknown-argument", "error", 12, 2),
    (BOUNDED.replace("<= 9", "<= 9\n\tcall.args.path == 1"), "unknown-argument", "error", 13, 2),
    (BOUNDED.replace("<= 9", '<= 9\n\tcall.trusted("/too")'), "unknown-argument", "error", 13, 15),
    (BOUNDED.replace("<= 9", '<= 9\n\tcall.arg("t", "") != ""'), "unknown-argument", "error", 13, 11),
    (BOUNDED.replace("<= 9", "<= 9\n\tinput.action.properties.args.t == 1"), "unknown-argument", "error", 13, 2),  # noqa: E501
    (PERMIT + DENY % '\tinput.subject.idd == "x"', "unknown-field", "error", 14, 2),
    (PERMIT + DENY % "\tinput.subject.properties.team", "unknown-field", "error", 14, 2),
    (PERMIT + DENY % '\tinput.context.history[_].tol == "x"', "unknown-field", "error", 14, 2),
    (PERMIT + DENY % '\tinput.context.counters.session["pay"].call > 1', "unknown-field", "error", 14, 2),
    (PERMIT + DENY % '\tinput["resourse"].id == "x"', "unknown-field", "error", 14, 2),
    (PERMIT + DENY % '\tcall.tool == "pay"\n\tcall.args.amount > 9', "deny-only-bound", "error", 15, 2),
    (PERMIT + DENY % "\tcall.args.amount > 9", "deny-only-bound", "error", 14, 2),
    (PERMIT + DENY % '\tcall.arg("amount", 0) > 9', "deny-only-bound", "error", 14, 11),
    (PERMIT + DENY % '\tobject.get(call.args, ["amount"], 0) > 9', "deny-only-bound", "error", 14, 24),
    (PERMIT + DENY % '\tcall.kind == "money"\n\tcall.args.amount > 9', "deny-only-bound", "error", 15, 2),
    ('permit if call.kind == "money"\n' + DENY % '\tcall.tool == "pay"\n\tcall.args.amount > 9', "deny-only-bound", "error", 15, 2),  # noqa: E501
    (BOUNDED.replace("<= 9", '<= 9\n\tobject.get(call.args, "t", "") != ""'), "unknown-argument", "error", 13, 24),  # noqa: E501
    (PERMIT + DENY % "\tcount(call.args.to) > 9", "deny-only-bound", "error", 14, 8),
    (PERMIT + DENY % "\t_is_large" + "\n_is_large if call.args.amount > 9\n", "deny-only-bound", "error", 17, 14),  # noqa: E501
    (PERMIT.replace("permit", f"# {MARK}: how much?\npermit"), "unfinished", "error", 9, 3),
    (PERMIT + "\n# METADATA\n# title: x\n" + f'deny contains "{MARK} say why" if call.args.to == "x"\n', "unfinished", "error", 13, 16),  # noqa: E501
    (PERMIT + "\n_f(a) := 1\n\n_x if _f(2) == 1\n\n_y if _x\n", "unused-variable", "warning", 11, 4),
    (PERMIT + DENY % "\tn := 1", "unused-variable", "warning", 14, 2),
    (PERMIT + DENY % "\tsome n in [1]", "unused-variable", "warning", 14, 7),
    (PERMIT + DENY % "\tcount([1 | n := 2]) > 3", "unused-variable", "warning", 14, 13),
    (PERMIT + "\n_x if call.kind == 1\n", "unused-rule", "warning", 11, 1),
    (PERMIT + "\n_x if {\n\tcall.kind == 1\n\t_x2\n}\n\n_x2 if call.kind == 2\n", "unused-rule", "warning", 11, 1),  # noqa: E501
    (PERMIT + DENY % "\tcount := 1\n\tcount > 0", "shadowing", "warning", 14, 2),
    (PERMIT + DENY % "\tpermit := 1\n\tpermit > 0", "shadowing", "warning", 14, 2),
    (PERMIT + DENY % "\tn := 1\n\tn == count([m | n := 2; m := n])", "shadowing", "warning", 15, 18),
    (PERMIT + '\ndeny contains "no" if call.args.to == "x"\n', "metadata", "warning", 11, 1),
    (PERMIT + '\n# METADATA\n# title: [x\ndeny contains "no" if call.args.to == "x"\n', "metadata", "warning", 13, 1),  # noqa: E501
    (PERMIT + '\n# METADATA\n# custom:\n#   controls: [ASI99]\ndeny contains "no" if call.args.to == "x"\n', "unknown-control", "warning", 13, 16),  # noqa: E501
    (
        PERMIT + DENY.replace('"no"', '{"reason": "no", "controls": ["ASI1"]}') % '\tcall.args.to == "x"',
        "unknown-control", "warning", 13, 45,
    ),
    (PERMIT + DENY % '\tstartswith(call.args.to, "/srv/")', "raw-text", "warning", 14, 13),
    (PERMIT + DENY % '\tendswith(lower(call.args.url), "x")', "raw-text", "warning", 14, 11),
    (PERMIT + DENY % '\tregex.match("^/srv", call.args.to)', "raw-text", "warning", 14, 23),
]  # fmt: skip


def check(where: Path, text: str, **more: str) -> list[tuple[str, str, int, int]]:
    where.mkdir(exist_ok=True)
    (where / "x.rego").write_text(text)
    for name, other in more.items():
        (where / name.replace("_dot_", ".")).write_text(other)
    found = check_policies([str(where)], tools=TOOLS, opa=None).findings
    return [(f.code, f.severity, f.problem.line, f.problem.column) for f in found if f.code != "opa"]


@pytest.mark.parametrize(
    ("text", "code", "severity", "line", "column"), FOUND, ids=[f"{f[1]}-{i}" for i, f in enumerate(FOUND)]
)
def test_finding_has_its_place(
    tmp_path: Path, text: str, code: str, severity: str, line: int, column: int
) -> None:
    found = check(tmp_path / "p", HEAD + text)
    assert (code, severity, line, column) in found, found


GOOD = [
    'permit if call.kind == "read"\n' + DENY % '\tcall.tool == "pay"\n\tcall.args.amount > 9',
    PERMIT + DENY % '\tcall.kind == "write"\n\tcall.args.amount > 9',
    'permit if call.tool == "read"\n' + DENY % "\tcall.args.amount > 9",  # that tool has no amount
    PERMIT
    + '\n# METADATA\n# title: x\n# scope: document\ndeny contains "a" if call.args.to == "x"\n'
    + '\ndeny contains "b" if call.args.to == "y"\n',
    PERMIT + DENY % "\tnot _is_small" + "\n_is_small if call.args.amount <= 9\n",  # silence denies
    BOUNDED + DENY % '\tcall.tool == "pay"\n\tcall.args.amount > 9',
    PERMIT + DENY % '\tcall.tool == "read"\n\tcount(call.args.path) > 9',  # no permit is about that tool
    'permit if {\n\tcall.tool == "pay"\n\t_fits\n}\n\n_fits if call.args.amount <= 9\n'
    + DENY % "\tcall.args.amount > 9",
    PERMIT + DENY % '\tcall.path("/path") == "/etc"',
    PERMIT + DENY % '\tstartswith(call.path("/path"), "/etc")',
    'permit if {\n\t_is_pay\n\tcall.args.amount <= 9\n}\n\n_is_pay if call.tool in _tools\n\n_tools := {"pay"}\n',  # noqa: E501
    PERMIT + DENY % "\tsome n in [1]\n\tn > 0",
    PERMIT + DENY % '\tinput.context.history[_].tool == "x"\n\tinput.subject.properties.roles[0] == "x"',
    PERMIT + DENY % "\tinput.context.counters.session[call.tool].calls > 1",
    PERMIT + DENY % '\tinput.context.provenance.args["/to"][_].origin == "x"\n\tinput.context.session.prompt',
    PERMIT + DENY % '\tinput.action.properties.args.to.x.y == input.context.normalised.paths["/to"]',
    PERMIT + "\n_input := {1} if call.tool\n" + DENY % "\t_input[1]\n\tinput[call.tool]",
    PERMIT + "\n" + 'label contains "untrusted"\n'.join(["# METADATA\n# title: x\n", ""]),
]


@pytest.mark.parametrize("text", GOOD)
def test_good_policy_has_no_finding(tmp_path: Path, text: str) -> None:
    assert check(tmp_path / "p", HEAD + text) == []


def test_packs_have_no_finding_even_with_other_tools() -> None:
    for pack in pack_names():
        checked = check_policies(with_permits(pack), tools=TOOLS)
        assert not checked.findings, checked.findings


def test_unused_import_and_what_a_test_uses(tmp_path: Path) -> None:
    text = HEAD.replace("call\n", "call\nimport data.limits\n", 1) + PERMIT + "\n_x if call.kind == 1\n"
    tests = "package policies.x_test\n\nimport data.policies.x\n\ntest_a if data.policies.x._x\n"
    found = check(tmp_path / "p", text, data_dot_json='{"limits": 1}', x_test_dot_rego=tests)
    assert found == [("unused-import", "warning", 6, 1), ("unused-import", "warning", 3, 1)]


def test_marks_count_in_tables_tests_and_data_too(tmp_path: Path) -> None:
    table = f"cases: []  # {MARK}\n"
    found = check(tmp_path / "p", HEAD + PERMIT, x_cases_dot_yaml=table, data_dot_json=f'{{"a": "{MARK}"}}')
    assert [f[0] for f in found] == ["unfinished", "unfinished"]


def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    assert check(tmp_path / "p", HEAD + PERMIT, x_cases_dot_yaml="cases: 3\n") == [
        ("case-table", "error", 1, 1)
    ]


def test_gate_problems_come_first_and_alone(tmp_path: Path) -> None:
    found = check(tmp_path / "p", HEAD + PERMIT + 'denny contains "x" if call.tool == "pey"\n')
    assert [f[0] for f in found] == ["load-gate"]


def test_schemas_beside_the_policies_are_found(tmp_path: Path) -> None:
    from fumehood.workbench.tools import tools_to_text

    (tmp_path / "x.rego").write_text(HEAD + PERMIT.replace("pay", "pey"))
    (tmp_path / "tools.json").write_text(tools_to_text(TOOLS))
    assert [f.code for f in check_policies([str(tmp_path)]).findings] == ["unknown-tool"]


def test_a_reason_with_a_computed_key_is_refused_by_the_gate(tmp_path: Path) -> None:
    text = HEAD + PERMIT + DENY.replace('"no"', '{k: call.arg("to", "")}') % '\tk := "reason"'
    assert ("load-gate", "error", 13, 19) in check(tmp_path / "p", text)


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("ASI01", True), ("ASI11", False), ("LLM06:2025", True), ("LLM06", False), ("AML.T0051.001", True),
        ("AML.T51", False), ("acme/SEC-3", True), ("/x", False), ("", False), ("ASI01\n", False),
    ],
)  # fmt: skip
def test_controls_are_known_ids_or_of_a_named_catalogue(name: str, is_known: bool) -> None:
    assert is_control(name) is is_known


def test_opa_finds_types_and_fields_and_its_strict_mode_only_warns(tmp_path: Path) -> None:
    require("opa")
    body = '\tinput.contxt.time == "x"\n\tlower(3) == "a"'
    (tmp_path / "x.rego").write_text(HEAD + PERMIT + DENY % body)
    checked = check_policies([str(tmp_path)], opa=opa_binary())
    assert checked.with_opa
    found = [(f.code, f.severity, f.problem.file, f.problem.line) for f in checked.findings]
    assert found == [
        ("unknown-field", "error", f"{tmp_path}/x.rego", 14),
        ("opa", "error", f"{tmp_path}/x.rego", 15),
    ]
    (tmp_path / "x.rego").write_text(
        HEAD.replace("call\n", "call\nimport data.fumehood.call as c\n", 1) + PERMIT
    )
    assert [(f.code, f.severity) for f in check_policies([str(tmp_path)], opa=opa_binary()).findings] == [
        ("unused-import", "warning")
    ]


def test_any_policy_that_loads_can_be_checked_and_the_lines_behind_its_answers_found(tmp_path: Path) -> None:
    dice = random.Random(7)
    (tmp_path / "data.json").write_text(DATA)
    judged = 0
    for _ in range(80):
        (tmp_path / "x.rego").write_text(policy(dice))
        read = sources.read([str(tmp_path)])
        verdict = inspect(read)
        if verdict.problems:
            continue
        judged += 1
        assert list(
            _ours(Context(verdict.modules, verdict.data), [], TOOLS, frozenset({f"{tmp_path}/x.rego"}))
        )
        document = completed({"tool": "pay", "args": {"a": "abc", "l": ["a"], "n": 3}}, {})
        (answer,) = EmbeddedJudge(verdict).answers([document])
        shown = {one.rule for one in DecidingLines(verdict).behind(document, answer)}
        assert set(answer.rules) <= shown
    assert judged > 15


@pytest.mark.parametrize(("kind", "module"), [("shell", "tree_sitter_bash"), ("sql", "sqlglot")])
def test_parser_that_is_not_installed_is_told_of_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
) -> None:
    text = HEAD + f'permit if {{\n\tcall.tool == "pay"\n\tcall.{kind}("/to").parsed\n}}\n'
    other = HEAD.replace("policies.x", "policies.y") + 'permit if call.path("/to") == "/srv/a"\n'
    where = str(tmp_path)
    (tmp_path / "x.rego").write_text(text)
    (tmp_path / "y.rego").write_text(other)
    assert [f for f in check_policies([where]).findings if f.code == "missing-parser"] == []
    monkeypatch.setattr(assemble, "find_spec", lambda name: None if name == module else name)
    (found,) = [f for f in check_policies([where]).findings if f.code == "missing-parser"]
    assert (found.severity, found.problem.line, found.problem.column) == ("warning", 11, 2)
    assert f"call.{kind}" in found.problem.message
    assert "pip install 'fumehood[parsers]'" in found.problem.remedy
