"""The code in docs/langchain.md runs, and the refusal that it shows is what a model gets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fumehood import Guard

PAGE = Path(__file__).parents[2] / "docs" / "langchain.md"


def test_the_page_tells_the_truth(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PAGE.read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    guard, tools = names["guard"], names["tools"]
    assert isinstance(guard, Guard) and isinstance(tools, list)
    with guard:
        assert capsys.readouterr().out == "refunded $40.00 for A-1\n"
        big = {"name": "issue_refund", "args": {"order_id": "A-1", "amount_usd": 5000}, "id": "1"}
        refused = tools[1].invoke({**big, "type": "tool_call"})
    [shown] = re.findall(r"```text\n(.*?)\n```", text, re.DOTALL)
    assert refused.content == shown
