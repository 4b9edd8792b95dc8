"""The guard in `create_agent`: hears the user, and sees that every tool is a guarded one.

Middleware alone is no boundary: one further in can change the arguments after it, one further out can
call the tool itself. So this decides nothing. It puts the guarded form of a tool, which is the
boundary, in the place of the plain one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from langchain.agents.middleware import AgentMiddleware, AgentState, hook_config
from langchain.agents.middleware.types import ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.runtime import Runtime
from langgraph.types import Command

from fumehood.errors import ConfigError, Denied
from fumehood.guard import Guard
from fumehood.log import logger
from fumehood.model import Decision
from fumehood.sessions import OpenSession
from fumehood.shell import current_call
from fumehood_adapters._answers import is_final_refusal, refusal_message
from fumehood_adapters._spoken import words_of_the_user
from fumehood_adapters._tools import GuardedTool, Notes, guard_tool

__all__ = ["GuardMiddleware"]

MAX_TOOLS = 1024

Result = ToolMessage | Command[Any]


class GuardMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Brings a `create_agent` loop under *guard*. Put it first, and use `guard_tools` beside it.

    - The human messages that the outermost run begins with are the user's own words. Where the session
      was opened with a prompt, that prompt alone is.
    - A tool that is not guarded is replaced by its guarded form; one that the agent does not have is
      refused.
    - Tools that the model's provider runs cannot be guarded: they are reported, in the log and the record.
    - A refused `return_direct` tool goes back to the model instead of ending the run.

    *annotations* are those of `guard_tools`; *session* binds everything to one session.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        annotations: Mapping[str, Notes] | None = None,
        session: OpenSession | None = None,
    ) -> None:
        super().__init__()
        self._guard = guard
        self._notes = dict(annotations or {})
        self._session = session
        self._lock = threading.Lock()
        self._guarded: OrderedDict[int, tuple[BaseTool, GuardedTool]] = OrderedDict()
        self._reported: set[tuple[str, str]] = set()
        self._seen: set[str] = set()  # names of tools

    # --- the user's words ---

    def before_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        self._hear(self._find(), state["messages"])
        return None

    async def abefore_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        self._hear(await self._afind(), state["messages"])
        return None

    def _hear(self, session: OpenSession, messages: list[AnyMessage]) -> None:
        if session.has_prompt or session.session.is_implicit or not _is_outermost(session):
            return
        for text in words_of_the_user(messages):
            session.hear(text)

    # --- tools ---

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]
    ) -> Result:
        self._check_annotations(request)
        if request.tool is None:
            return self._refuse(self._find(), request)
        return handler(self._governed(request, request.tool))

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        self._check_annotations(request)
        if request.tool is None:
            return self._refuse(await self._afind(), request)
        return await handler(self._governed(request, request.tool))

    def _governed(self, request: ToolCallRequest, tool: BaseTool) -> ToolCallRequest:
        """The guarded form of *tool*, called without what the model has no business to give: an injected
        argument is not decided. LangGraph takes out those that it sees in the plain tool."""
        guarded = self._guarded_form(tool)
        call = request.tool_call
        forged = guarded._governed().arguments.injected & set(call["args"]) & _given_by_model(request)
        if forged:
            call = {**call, "args": {n: v for n, v in call["args"].items() if n not in forged}}
        return request.override(tool=guarded, tool_call=call)

    def _guarded_form(self, tool: BaseTool) -> GuardedTool:
        with self._lock:
            known = self._guarded.get(id(tool))
            if known is None:
                notes = self._notes.get(tool.name)
                known = (tool, guard_tool(tool, self._guard, notes=notes, session=self._session))
                self._guarded[id(tool)] = known
                if len(self._guarded) > MAX_TOOLS:
                    self._guarded.popitem(last=False)
            self._guarded.move_to_end(id(tool))
            return known[1]

    def _check_annotations(self, request: ToolCallRequest) -> None:
        """An annotation of a tool that is not there would fall silent.

        Raises:
            ConfigError: none of the tools that this agent was ever seen with has that name.
        """
        tools = [*request.runtime.tools, *([request.tool] if request.tool is not None else [])]
        self._seen.update(_names(tools))
        strange = sorted(set(self._notes) - self._seen)
        if strange:
            known = ", ".join(sorted(self._seen)) or "none"
            raise ConfigError(f"annotations name the tool {strange[0]!r}; the agent's tools are: {known}")

    def _refuse(self, session: OpenSession, request: ToolCallRequest) -> ToolMessage:
        name = request.tool_call["name"]
        text = "the agent has no tool of this name, so nothing can be decided about it"
        refused = Denied(Decision.deny("unknown_tool", text, remedy="Call one of the tools that you have."))
        self._guard.ledger.note(session.session, "refused", f"{name}: {text}", tool=name)
        return refusal_message(refused, name=name, call_id=request.tool_call["id"] or "")

    # --- tools that run elsewhere ---

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        self._seen.update(_names(request.tools))
        provided = _provider_tools(request.tools)
        if provided:
            self._report(self._find(), provided)
        return handler(request)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        self._seen.update(_names(request.tools))
        provided = _provider_tools(request.tools)
        if provided:
            self._report(await self._afind(), provided)
        return await handler(request)

    def _report(self, session: OpenSession, names: list[str]) -> None:
        with self._lock:
            new = [name for name in names if (session.id, name) not in self._reported]
            self._reported.update((session.id, name) for name in new)
        for name in new:
            text = "this tool is run by the model's provider: no policy decides it and nothing records it"
            logger().warning(text, tool=name, session=session.id)
            self._guard.ledger.note(session.session, "ungoverned", f"{name}: {text}", tool=name)

    # --- the end of a run ---

    @hook_config(can_jump_to=["model"])
    def after_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        return {"jump_to": "model"} if _ended_in_refusal(state) else None

    @hook_config(can_jump_to=["model"])
    async def aafter_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        return {"jump_to": "model"} if _ended_in_refusal(state) else None

    # --- sessions ---

    def _find(self) -> OpenSession:
        return self._guard.find_session(bound=self._session, conversation_id=_thread_id())

    async def _afind(self) -> OpenSession:
        return await self._guard.afind_session(bound=self._session, conversation_id=_thread_id())


def _thread_id() -> str | None:
    found = get_config().get("configurable", {}).get("thread_id")
    return None if found is None else str(found)


def _is_outermost(session: OpenSession) -> bool:
    """False for an agent inside a tool or another graph, or while another tool of the session runs."""
    namespace = str(get_config().get("configurable", {}).get("checkpoint_ns", ""))
    is_outermost = session.begin_run()
    session.end_run()
    return is_outermost and current_call() is None and "|" not in namespace


def _given_by_model(request: ToolCallRequest) -> frozenset[str]:
    """The arguments of the call as the model made it, of every call with its id: a model may use one twice.
    All that it has now, if it cannot be found."""
    state, call = request.state, request.tool_call
    messages = state.get("messages") if isinstance(state, dict) else getattr(state, "messages", state)
    said = (m for m in messages if isinstance(m, AIMessage)) if isinstance(messages, list) else ()
    made = [set(other["args"]) for m in said for other in m.tool_calls if other["id"] == call["id"]]
    return frozenset().union(*made) if made else frozenset(call["args"])


def _names(tools: Iterable[BaseTool | dict[str, Any]]) -> list[str]:
    return [tool.name for tool in tools if isinstance(tool, BaseTool)]


def _provider_tools(tools: Iterable[BaseTool | dict[str, Any]]) -> list[str]:
    found = (tool for tool in tools if isinstance(tool, dict))
    return [str(tool.get("name") or tool.get("type") or "unnamed") for tool in found]


def _ended_in_refusal(state: AgentState[Any]) -> bool:
    messages = state["messages"]
    trailing: list[AnyMessage] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        trailing.append(message)
    return state.get("structured_response") is None and any(map(is_final_refusal, trailing))
