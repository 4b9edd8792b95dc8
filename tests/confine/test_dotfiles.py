"""What a job may not change in a folder that it may write: what the caller's own tools would obey later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fumehood import confine


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_link_that_an_earlier_job_left_opens_nothing(
    work: Path, tmp_path: Path, tier: str, target: str
) -> None:
    """`.git` is opened by us to be covered: through a link that would be the caller's own secret."""
    secret = tmp_path / "secret"
    (secret if target == "file" else secret / "key").parent.mkdir(exist_ok=True)
    (secret if target == "file" else secret / "key").write_text("in-the-secret")
    made = confine.python(f"import os; os.symlink({str(secret)!r}, '.git')", workdir=work, tier=tier)
    assert made.exit.code == 0
    for path in (".git", ".git/key"):
        outcome = confine.run(["/bin/cat", path], profile="shell", workdir=work, tier=tier)
        assert b"in-the-secret" not in outcome.stdout
        assert outcome.exit.code == 1
    if os.geteuid() == 0 and tier == "no-userns":
        return  # the copy: links do not come home
    assert (work / ".git").is_symlink()
