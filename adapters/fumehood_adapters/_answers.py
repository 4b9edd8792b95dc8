"""A refusal as a message that a model can act on: what happened, why, what to do, whether to try again."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage

from fumehood.errors import Denied, Withheld

__all__ = ["MARK", "is_final_refusal", "refusal_message"]

MARK = "fumehood"  # the key in a message's additional_kwargs


def refusal_message(
    error: Denied | Withheld, *, name: str, call_id: str, is_return_direct: bool = False
) -> ToolMessage:
    """The tool message (status "error") that stands for *error*."""
    outcome = "withheld" if isinstance(error, Withheld) else "denied"
    mark: dict[str, Any] = {
        "outcome": outcome,
        "code": error.code,
        "retryable": error.retryable,
        "return_direct": is_return_direct,
    }
    return ToolMessage(
        content=_words(error),
        name=name,
        tool_call_id=call_id,
        status="error",
        additional_kwargs={MARK: mark},
    )


def is_final_refusal(message: BaseMessage) -> bool:
    """True for the refusal of a tool whose result would have ended the run (`return_direct`)."""
    mark = message.additional_kwargs.get(MARK) if isinstance(message, ToolMessage) else None
    return isinstance(mark, dict) and mark.get("return_direct") is True


def _words(error: Denied | Withheld) -> str:
    reasons = error.decision.reasons
    if isinstance(error, Withheld):
        head = "The tool ran, but its result is withheld."
        retry = "do not call it again: that would do it twice."
    else:
        head = "This call was refused. Nothing was run."
        retry = _retry(error)
    lines = [head, *(f"Reason: {r.text}" for r in reasons)]
    lines += [f"What to do: {r.remedy}" for r in reasons if r.remedy]
    return "\n".join([*lines, f"Code: {error.code}", f"Try again: {retry}"])


def _retry(error: Denied) -> str:
    if error.code == "bad_arguments":
        return "yes, with arguments that fit the tool's schema."
    if not error.retryable:
        return "no. The same call will be refused again."
    wait_s = max((r.retry_after_s or 0.0 for r in error.decision.reasons), default=0.0)
    return f"yes, in {wait_s:.0f} s." if wait_s else "yes."
