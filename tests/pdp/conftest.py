"""One OPA server for all the tests that compare the engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host import require
from pdp.opa_server import running_opa


@pytest.fixture(scope="session")
def opa_url() -> Iterator[str]:
    require("opa")
    with running_opa() as url:
        yield url
