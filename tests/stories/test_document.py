"""docs/stories.md shows what the demo prints: by the script that writes it, with a state of its own.

`tests/repo/test_documents.py` runs the same page for every change.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from host import require

from stories.conftest import shell

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_what_the_document_shows_is_what_is_printed(home: Path) -> None:
    require("userns")
    ran = shell(sys.executable, str(ROOT / "scripts/documents.py"), str(ROOT / "docs/stories.md"), home=home)
    assert ran.code == 0, ran.out + ran.err
