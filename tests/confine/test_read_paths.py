"""Paths that a job is shown read-only: what it may do with them, and what the observer says of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fumehood import confine
from fumehood.errors import ConfinementError

WRITES = """
import sys
print(open(sys.argv[1]).read())
for path in sys.argv[1:]:
    try: open(path, 'w')
    except OSError as error: print(type(error).__name__)
"""


@pytest.fixture
def shown() -> Iterator[Path]:
    """A folder under the temporary one that any user may read."""
    with tempfile.TemporaryDirectory(prefix="fh-shown-") as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "a.txt").write_text("text")
        yield Path(folder)


def test_a_file_that_is_shown_is_read_and_writing_beside_it_is_recorded(tier: str, shown: Path) -> None:
    there, beside = str(shown / "a.txt"), str(shown / "b.txt")
    job = confine.Spec(
        source=WRITES, args=[there, beside], read=[str(shown)], profile="model-loader", tier=tier
    )  # type: ignore[arg-type]
    outcome = confine.start(job).wait()
    assert outcome.stdout.startswith(b"text\n"), outcome
    assert sorted(os.listdir(shown)) == ["a.txt"]
    assert (shown / "a.txt").read_text() == "text"
    said = {(a.operation, a.target, a.verdict) for a in outcome.refused}
    assert {("open for writing", there, "refused"), ("open for writing", beside, "refused")} <= said


def test_without_namespaces_root_shows_only_what_others_may_read(shown: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives up an identity")
    os.chmod(shown, 0o700)
    job = confine.Spec(source=WRITES, args=[str(shown / "a.txt")], read=[str(shown)], tier="no-userns")
    with pytest.raises(ConfinementError, match=r"chmod o\+rX"):
        confine.start(job)
