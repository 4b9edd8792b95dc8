"""The embedded engine's join and lib/main.rego give one answer, whatever the packages say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fumehood.pdp import combine, sources
from fumehood.pdp.combine import PHASES, PUBLIC
from fumehood.pdp.decision import decision_from
from fumehood.pdp.engine import Engine
from fumehood.pdp.index import Split, entry_module

ITEMS = st.sampled_from(
    [
        '"never"',
        '{"reason": "a"}',
        '{"reason": "a", "risk": "low"}',
        '{"reason": "a", "surprise": 1}',
        '{"profile": "shell"}',
        '{"key": "k", "max": 1, "per_s": 1}',
        '{"path": "/a"}',
        "3",
        "null",
    ]
)
SETS = st.lists(ITEMS, max_size=3, unique=True).map(
    lambda items: f"{{{', '.join(items)}}}" if items else "set()"
)
ODD = st.sampled_from(["true", "false", "null", "3", '"x"', '["x"]', '{"x": 1}', "{1}"])
VALUES = st.one_of(st.just("true"), st.just("false"), SETS, ODD)
PACKAGES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.dictionaries(st.sampled_from(sorted(PUBLIC)), VALUES, max_size=5),
    max_size=3,
)
PHASE = st.sampled_from([*PHASES, "nonsense"])


def module(name: str, rules: Mapping[str, str]) -> tuple[str, str]:
    lines = [f"package policies.{name}", *(f"{rule} := {value}" for rule, value in rules.items())]
    return f"{name}.rego", "\n\n".join(lines) + "\n"


def entry_of(packages: Mapping[str, Iterable[str]]) -> str:
    return entry_module(Split((), {}, {name: tuple(rules) for name, rules in packages.items()}))[0]


@given(packages=PACKAGES, phase=PHASE)
def test_join_is_equal_to_main(packages: dict[str, dict[str, str]], phase: str) -> None:
    files = [(f.name, f.text) for f in sources.library()]
    files += [module(name, rules) for name, rules in packages.items()]
    files += [("entry.rego", entry_of(packages))]
    engine = Engine(files)
    document = json.dumps({"action": {"name": phase}})
    main = decision_from(json.loads(engine.evaluate("data.fumehood.main.decision", document)))
    said = {}
    if phase in PHASES:
        said = json.loads(engine.evaluate(f"data.{combine.ENTRY}.{phase}", document))[1]
    assert decision_from(combine.combine(phase, said)) == main  # type: ignore[arg-type]


def test_main_asks_for_every_public_rule() -> None:
    (main,) = (f.text for f in sources.library() if f.name == "lib/main.rego")
    for phase, rules in PHASES.items():
        for rule in rules:
            assert f'_said contains [name, "{rule}", value] if {{\n\t_phase == "{phase}"' in main
    assert main.count("_said contains") == len(PUBLIC)


@pytest.mark.parametrize("phase", PHASES)
def test_entry_point_has_a_value_where_no_rule_has_one(phase: str) -> None:
    packages = {"a": sorted(PUBLIC), "b": ["deny"]}
    library = [(f.name, f.text) for f in sources.library()]
    engine = Engine([*library, ("entry.rego", entry_of(packages)), module("a", {}), module("b", {})])
    _, said, _ = json.loads(engine.evaluate(f"data.{combine.ENTRY}.{phase}", "{}"))
    assert set(said) == ({"a", "b"} if phase == "execute_tool" else {"a"})
    assert not any(said["a"].values())
