"""A chat model that says what it was told to: agent loops without a key, a network or a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

__all__ = ["ScriptedChatModel", "calls", "say"]

Answer = AIMessage | Callable[[list[BaseMessage]], AIMessage]


class ScriptedChatModel(BaseChatModel):
    """Gives its *responses* one after the other, the last one for ever.

    A response is a message, or a function of the conversation so far: `calls("read_ticket", id=881)`,
    `say("done")`, `lambda messages: say(messages[-1].text)`.
    """

    responses: list[Any]
    _next: int = PrivateAttr(default=0)

    def __init__(self, responses: Sequence[Answer], **fields: Any) -> None:
        super().__init__(**{"responses": list(responses), **fields})

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The script knows its tools: nothing is bound."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self.responses[min(self._next, len(self.responses) - 1)]
        self._next += 1
        message = answer(messages) if callable(answer) else answer.model_copy()
        return ChatResult(generations=[ChatGeneration(message=message)])


def calls(tool: str, /, *, call_id: str | None = "call-1", **arguments: Any) -> AIMessage:
    """A message in which the model calls *tool*."""
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": call_id, "type": "tool_call"}])


def say(text: str) -> AIMessage:
    """A message in which the model just says something."""
    return AIMessage(text)
