"""Guards with one small policy, a ledger of their own and the engine in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fumehood import Guard
from fumehood.testing import Operator, guarded

Open = Callable[..., Guard]

PERMIT = "package policies.test\n\nimport data.fumehood.call\n\npermit if is_string(call.tool)\n"
DENY = 'package policies.test\n\nimport data.fumehood.call\n\npermit if call.tool == "nothing of this name"\n'
ASK = (
    PERMIT
    + """
approve contains {"reason": "a person looks at this", "risk": "medium", "timeout_s": 60}
"""
)


@pytest.fixture
def open_guard(tmp_path: Path) -> Iterator[Open]:
    """`open_guard(rego, operator=…)`: a guard that decides by *rego*, closed when the test ends."""
    with ExitStack() as stack:

        def opened(rego: str = PERMIT, *, operator: Operator = "ignore") -> Guard:
            folder = tmp_path / f"guard-{len(list(tmp_path.iterdir()))}"
            (folder / "policies").mkdir(parents=True)
            (folder / "policies" / "test.rego").write_text(rego)
            return stack.enter_context(guarded(folder / "policies", operator=operator, folder=folder))

        yield opened
