"""docs/parsed-arguments.md: its policy passes the gate and decides, and every field is described."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pdp.documents import asked
from pdp.policies import folder_of

from fumehood.canonical import JSON
from fumehood.model import PARSED_PLACES, SQL_DIALECTS, Effect
from fumehood.normalise import normalised
from fumehood.parsed.grammar import CONTROL_FLOW, EXPANSIONS, GROUPS, OPERATORS
from fumehood.parsed.sql import KINDS
from fumehood.pdp import load_bundle, open_pdp
from fumehood.pdp.gate.context import CALL_FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "parsed-arguments.md").read_text()
(POLICY,) = re.findall(r"```rego\n(.*?)```", PAGE, re.DOTALL)

CALLS = [
    ("read_file", {"path": "/srv/data/a"}, True),
    ("read_file", {"path": "/srv/data/../../etc/shadow"}, False),
    ("shell", {"command": "ls -l | grep x"}, True),
    ("shell", {"command": "ls; rm -rf /"}, False),
    ("shell", {"command": ""}, False),
    ("query", {"query": "select a from b"}, True),
    ("query", {"query": "select a from b; delete from b"}, False),
    ("query", {"query": ""}, False),
]


@pytest.mark.parametrize(("tool", "args", "is_permitted"), CALLS)
def test_policy_of_the_page_decides_as_it_says(
    tool: str, args: dict[str, JSON], is_permitted: bool, tmp_path: Path
) -> None:
    text = f"package policies.x\n\nimport data.fumehood.call\n\n{POLICY}"
    pdp = open_pdp(load_bundle([folder_of(tmp_path / "p", x=text)]), isolation="thread")
    decision = pdp.evaluate(asked(tool, args, normalised=normalised(args)))  # type: ignore[arg-type]
    assert (decision.effect is Effect.PERMIT) is is_permitted


def test_every_function_field_use_and_kind_is_described() -> None:
    for function in (*PARSED_PLACES, "inside"):
        assert f"`call.{function}(" in PAGE
    fields = {field for fields in CALL_FIELDS.values() for field in fields}
    uses = {
        name for table in (GROUPS, CONTROL_FLOW, OPERATORS, EXPANSIONS) for name in table.values() if name
    }
    words = set(re.findall(r"[a-z_0-9]+", PAGE))
    assert (fields | uses | set(KINDS.values())) - words == set()
    assert {"postgres", "mysql", "sqlite", "tsql"} <= SQL_DIALECTS & words
