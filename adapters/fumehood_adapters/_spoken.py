"""Who said what in a conversation: what a tool puts into it is never the user's word.

A tool may add human messages to the state (a `Command` with an update; it is how images are handed on). They
are marked, so that a later run, which may find them at the end of the conversation, does not hear them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, cast

from langchain_core.messages import AnyMessage, HumanMessage, convert_to_messages

from fumehood_adapters._answers import MARK

__all__ = ["marked", "words_of_the_user"]

_MESSAGES: Final = "messages"  # the channel that is heard
_OVERWRITE: Final = "__overwrite__"
_SOURCE: Final = {"source": "tool"}


def marked(result: object) -> object:
    """*result*, with every human message that it would add to the conversation marked."""
    if isinstance(result, list):
        return [marked(item) for item in result] if any(map(_is_command, result)) else result
    if not _is_command(result):
        return result
    command = cast("Any", result)
    return dataclasses.replace(command, update=_update(command.update))


def words_of_the_user(messages: list[AnyMessage]) -> list[str]:
    """The texts of the human messages at the end, the oldest first; a summary is nobody's words."""
    words: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, HumanMessage):
            break
        if not {"lc_source", MARK} & set(message.additional_kwargs):
            words.append(str(message.text))
    return words[::-1]


def _update(update: object) -> object:
    """As LangGraph reads it: values by channel, pairs of both, a list of messages, or a state object."""
    if isinstance(update, Mapping):
        return {channel: _in_channel(channel, value) for channel, value in update.items()}
    if isinstance(update, list | tuple) and update and all(map(_is_pair, update)):
        return [(channel, _in_channel(channel, value)) for channel, value in update]
    if isinstance(update, list):
        return _messages(update)
    found = getattr(update, _MESSAGES, None)
    for message in found if isinstance(found, list) else [found]:
        if isinstance(message, HumanMessage):
            message.additional_kwargs[MARK] = _SOURCE
    return update


def _in_channel(channel: object, value: object) -> object:
    return _messages(value) if channel == _MESSAGES else value


def _messages(value: object) -> object:
    if isinstance(value, Mapping) and _OVERWRITE in value:
        return {**value, _OVERWRITE: _messages(value[_OVERWRITE])}
    if type(value).__name__ == "Overwrite" and dataclasses.is_dataclass(value):
        return dataclasses.replace(cast("Any", value), value=_messages(cast("Any", value).value))
    return [_mark(message) for message in value] if isinstance(value, list) else _mark(value)


def _mark(said: object) -> object:
    """*said* as the message that LangGraph makes of it, marked if it is a human one."""
    if said is None:
        return said
    try:
        [message] = convert_to_messages([cast("Any", said)])
    except (ValueError, TypeError, KeyError, NotImplementedError):
        return said  # no message: LangGraph will say so
    if not isinstance(message, HumanMessage):
        return said
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, MARK: _SOURCE}})


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _is_command(value: object) -> bool:
    return type(value).__name__ == "Command" and type(value).__module__ == "langgraph.types"
