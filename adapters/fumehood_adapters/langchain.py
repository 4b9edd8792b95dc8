"""Guards LangChain tools and agents.

    tools = guard_tools(tools, guard, annotations={"issue_refund": {"kind": "money", "target": ["order_id"]}})
    agent = create_agent(model, tools, middleware=[GuardMiddleware(guard)])

The tool is the boundary. `GuardMiddleware`, which needs `langchain` and `langgraph`, is loaded when it is
first asked for; the rest needs `langchain-core` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fumehood_adapters._confined_tools import ConfinedTool, PythonTool, ShellTool
from fumehood_adapters._tools import guard_tools

if TYPE_CHECKING:
    from fumehood_adapters._middleware import GuardMiddleware

__all__ = ["ConfinedTool", "GuardMiddleware", "PythonTool", "ShellTool", "guard_tools"]


def __getattr__(name: str) -> object:
    if name == "GuardMiddleware":
        from fumehood_adapters._middleware import GuardMiddleware

        return GuardMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
