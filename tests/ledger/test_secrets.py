"""No secret reaches the file, whichever way a call takes through the guard."""

from __future__ import annotations

from pathlib import Path

import pytest

from fumehood import Denied, Guard

SECRET = {"secret": ["pin"], "kind": "access"}
POLICY = """package policies.t
import data.fumehood.call

permit if call.tool == "log_in"

approve contains {"reason": "a person looks", "risk": "low", "timeout_s": 0.05} if call.tool == "log_in"
"""


def test_annotated_secret_is_nowhere_in_the_ledger(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "t.rego").write_text(POLICY)
    guard = Guard(str(tmp_path / "policies"), ledger=str(tmp_path / "l.db"), isolation="thread")
    with guard.session(agent="bot", prompt="log me in"), pytest.raises(Denied):
        guard.call("log_in", {"pin": "geheim-4711"}, run=lambda pin: pin, annotations=SECRET)
    guard.close()
    assert b"geheim-4711" not in b"".join(p.read_bytes() for p in tmp_path.glob("l.db*") if p.is_file())
    assert "geheim" not in "".join(capfd.readouterr())
