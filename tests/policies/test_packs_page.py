"""docs/packs.md says what the packs say: the tables are written by scripts/packs_table.py."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from fumehood.pdp import sources
from fumehood.pdp.combine import PUBLIC

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "packs.md").read_text()
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "packs_table.py"))


def test_tables_are_what_the_packs_say() -> None:
    assert SCRIPT["written"](PAGE) == PAGE, "run scripts/packs_table.py --write"


def test_each_pack_and_each_of_its_public_rules_has_a_row() -> None:
    rows = [line.split("|")[1:-1] for line in SCRIPT["rules"]()[2:]]
    for pack, text in SCRIPT["policies"]():
        written = re.findall(rf"^({'|'.join(PUBLIC)})\b", text, re.MULTILINE)
        shown = [row[1].strip().strip("`") for row in rows if row[0].strip() == f"`{pack}`"]
        assert sorted(shown) == sorted(written), pack
        assert all(row[2].strip() for row in rows)
    assert {pack for pack, _ in SCRIPT["policies"]()} == set(sources.pack_names())


def test_a_changed_table_is_noticed() -> None:
    assert SCRIPT["written"](PAGE.replace("ASI02", "ASI99")) == PAGE
    assert PAGE.count("| `baseline` |") > 5
