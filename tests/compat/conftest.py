"""Both tiers, as in tests/confine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host import require

from fumehood import confine


@pytest.fixture(params=["full", "no-userns"])
def tier(request: pytest.FixtureRequest) -> str:
    require("userns" if request.param == "full" else "landlock")
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def spawner_ends() -> Iterator[None]:
    yield
    confine.close()
