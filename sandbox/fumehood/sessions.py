"""Sessions: one run of an agent for a user, and how a call finds the one it belongs to.

In this order: the session that was bound when the tool was wrapped, the `with guard.session(…)`
around the call, the framework's conversation (LangGraph's thread id), else an implicit session in
which every value is `unknown`.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from fumehood.canonical import JSON, at
from fumehood.freekeys import free_keys
from fumehood.ledger.protocol import Ledger
from fumehood.log import logger
from fumehood.model import Annotations, Origin, Session, Subject, ToolDefinition
from fumehood.provenance import Source, Sources, read_json, read_text

__all__ = ["OpenSession", "Sessions", "current_session"]

MAX_CONVERSATIONS = 1024

_open: ContextVar[tuple[OpenSession, ...]] = ContextVar("fumehood_sessions", default=())


def current_session() -> OpenSession | None:
    """The session that is open around this code, if any."""
    return next(iter(_open.get()), None)


@dataclass(slots=True, eq=False)
class OpenSession:
    """A session in use: its identity, and in memory what its values may have come from.

    A context manager (`with` and `async with`): calls made inside belong to it. Thread-safe.
    `has_prompt`: it was opened with the user's words, so an adapter takes none from the messages.
    """

    session: Session
    has_prompt: bool = False
    _sources: Sources = field(default_factory=Sources)
    _results: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _runs: int = 0
    halted: str | None = None  # why nothing more may run in it

    @property
    def id(self) -> str:
        return self.session.id

    def hear(self, text: str) -> None:
        """Take *text* as the user's own words. For the words of anybody else this is a hole."""
        with self._lock:
            self._sources.add(read_text(Origin.USER, "user", text))
            if self.session.prompt is None:
                self.session = replace(self.session, prompt=text)

    def begin_run(self) -> bool:
        """Enter an agent's run; True if it is the outermost one, whose messages are the user's."""
        with self._lock:
            self._runs += 1
            return self._runs == 1

    def end_run(self) -> None:
        """Leave an agent's run."""
        with self._lock:
            self._runs = max(0, self._runs - 1)

    def learn(self, tool: str, notes: Annotations, view: JSON, labels: tuple[str, ...]) -> None:
        """A result was released to the agent: its values may turn up in later arguments."""
        with self._lock:
            number = self._results[tool] = self._results.get(tool, 0) + 1
            for source in _read(f"{tool}#{number}", notes, view, labels):
                self._sources.add(source)
            self._sources.labels.update(labels)

    def provenance(self, args: JSON, tool: ToolDefinition, defaults: tuple[str, ...]) -> dict[str, JSON]:
        """What is known of each argument's origin (the policy input's `context.provenance`)."""
        with self._lock:
            known = Sources(labels=self._sources.labels) if self.session.is_implicit else self._sources
            return known.of(args, tool.annotations, defaults, free_keys(tool.schema, args))

    def __enter__(self) -> Self:
        _open.set((self, *_open.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        around = list(_open.get())  # of this thread or task: others may have the same session open
        around.remove(self)
        _open.set(tuple(around))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.__exit__(kind, error, trace)


class Sessions:
    """All sessions of one guard. `agent` is the name for conversations that nobody named."""

    def __init__(self, ledger: Ledger, agent: str) -> None:
        self._ledger = ledger
        self._agent = agent
        self._lock = threading.Lock()
        self._conversations: OrderedDict[str, OpenSession] = OrderedDict()
        self._implicit: OpenSession | None = None

    def open(
        self,
        *,
        agent: str | None = None,
        user: str | None = None,
        roles: tuple[str, ...] = (),
        prompt: str | None = None,
        id: str | None = None,
        conversation_id: str | None = None,
        is_implicit: bool = False,
    ) -> OpenSession:
        """Record a new session, or resume the one with this id.

        Raises:
            LedgerError: it cannot be recorded, or the id is another agent's or user's.
        """
        subject = Subject(agent or self._agent, user, roles)
        wanted = Session(id or secrets.token_hex(8), subject, prompt, conversation_id, is_implicit)
        stored = self._ledger.open_session(wanted)
        words = prompt if prompt is not None else stored.prompt
        opened = OpenSession(replace(stored, prompt=None), has_prompt=words is not None)
        if words is not None:
            opened.hear(words)
        return opened

    def find(self, bound: OpenSession | None, conversation_id: str | None) -> OpenSession:
        """The session that a call belongs to."""
        found = bound or current_session()
        if found is not None:
            return found
        if conversation_id is not None:
            return self._conversation(conversation_id)
        return self._without()

    def _conversation(self, conversation_id: str) -> OpenSession:
        with self._lock:
            found = self._conversations.get(conversation_id)
            if found is None:
                found = self.open(id=f"thread-{conversation_id}", conversation_id=conversation_id)
                self._conversations[conversation_id] = found
                if len(self._conversations) > MAX_CONVERSATIONS:
                    self._conversations.popitem(last=False)
            self._conversations.move_to_end(conversation_id)
            return found

    def _without(self) -> OpenSession:
        with self._lock:
            if self._implicit is None:
                self._implicit = self.open(is_implicit=True)
                logger().warning(
                    "a tool was called outside any session: nothing is known of its values' origin, and "
                    "all users share one history; wrap the run in `with guard.session(agent=…, prompt=…)`",
                    session=self._implicit.id,
                )
            return self._implicit


_ORIGIN_OF_LABEL = {"trusted": Origin.SYSTEM, "internal": Origin.INTERNAL, "untrusted": Origin.UNTRUSTED}


def _read(name: str, notes: Annotations, view: JSON, labels: tuple[str, ...]) -> list[Source]:
    """The sources that one result makes: its annotated fields apart from the rest of it."""
    named = [_ORIGIN_OF_LABEL[x] for x in labels if x in _ORIGIN_OF_LABEL]
    origin = max(named, key=list(Origin).index) if named else notes.result
    sources = [read_json(origin, name, view)]
    for pointers, field_origin in ((notes.trusted, Origin.SYSTEM), (notes.internal, Origin.INTERNAL)):
        for pointer in pointers:
            part = _part(view, pointer)
            if part is not None:
                sources.append(read_json(field_origin, f"{name}{pointer}", part))
    return sources


def _part(view: JSON, pointer: str) -> JSON:
    """What stands at *pointer*, under its own name so that a number keeps its role; None if nothing."""
    try:
        return {pointer.rsplit("/", 1)[-1]: at(view, pointer)}
    except KeyError:
        return None
