"""Every row of every pack's case table is decided alike by both engines."""

from __future__ import annotations

import pytest
from pdp.documents import as_input
from pdp.engines import differences
from policies.test_cases import PACKS, table, whole
from policies.test_packs import with_permits

from fumehood.pdp import load_bundle


@pytest.mark.parametrize("pack", PACKS)
def test_engines_decide_the_rows_of_a_pack_alike(pack: str, opa_url: str) -> None:
    inputs = [as_input(whole(row["input"])) for row in table(pack)]
    assert differences(load_bundle(with_permits(pack)), opa_url, inputs) == []
