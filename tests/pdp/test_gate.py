"""What may not decide is refused at load: one message with file, line, column and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from pdp.gate_corpus import BAD, GOOD, Bad

from fumehood.errors import ConfigError
from fumehood.pdp import check, load_bundle


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path = path if path.suffix else path.with_suffix(".rego")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_policy_is_refused_with_place_and_remedy(bad: Bad, tmp_path: Path) -> None:
    write(tmp_path, bad=bad.text)
    problems = check([tmp_path])
    found = [p for p in problems if bad.says in p.message]
    assert found, [str(p) for p in problems]
    problem = found[0]
    assert problem.file == str(tmp_path / "bad.rego")
    assert problem.line == bad.line
    assert problem.remedy
    with pytest.raises(ConfigError) as raised:
        load_bundle([tmp_path])
    assert problem in raised.value.problems
    if problem.source_line:
        assert problem.source_line == bad.text.split("\n")[bad.line - 1].replace("\t", " ")
    if bad.column != 1:
        assert problem.column == bad.column


@pytest.mark.parametrize("name", GOOD)
def test_good_policy_passes(name: str, tmp_path: Path) -> None:
    write(tmp_path, good=GOOD[name])
    assert [str(p) for p in check([tmp_path])] == []
    load_bundle([tmp_path])
