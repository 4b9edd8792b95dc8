"""A running job as its caller holds it: wait for it, await it, end it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fumehood.confine import artifacts, wire
from fumehood.confine.layers import missing
from fumehood.confine.outcome import Attempt, Exit, Outcome
from fumehood.confine.output import NAMES, Output

if TYPE_CHECKING:
    import asyncio

    from fumehood.confine.spec import Spec
    from fumehood.errors import ConfinementError

_GRACE_S: Final = 15.0
T = TypeVar("T")


class Job:
    """One running job. `kill` is safe from any thread; `wait` may be called again after it timed out.

    What `on_output` or `on_attempt` raises ends the job, and is raised to whoever waits when that has ended.
    """

    def __init__(
        self,
        sock: socket.socket,
        spec: Spec,
        *,
        profile: str,
        timeout_s: float,
        drop: Callable[[], None],
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._sock = sock
        self._process = os.getpid()
        self._spec = spec
        self._profile = profile
        self._lock = threading.Lock()
        self._drop = drop
        self._at_end = at_end
        self._timeout_s = timeout_s
        self._give_up_at = time.monotonic() + timeout_s + _GRACE_S
        self._output = Output(spec)
        self._outcome: Outcome | None = None
        self._error: ConfinementError | None = None
        self._raised: BaseException | None = None  # by the caller's own functions

    def __del__(self) -> None:
        self._sock.close()  # nobody waits any more: the supervisor ends the job

    def kill(self) -> None:
        """End it and everything it started; the exit says `stopped`. Nothing happens if it has ended."""
        with contextlib.suppress(OSError):
            wire.send(self._sock, {"stop": True})

    def wait(self, timeout_s: float | None = None) -> Outcome:
        """What came of it.

        Raises:
            TimeoutError: it still runs after *timeout_s*.
            RuntimeError: this is a fork of the process that started it.
            ConfinementError: the host could not confine it; nothing ran.
        """
        self._require_own()
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            while not self._is_over():
                self._wait_for_word(until)
            self._finish()
            return self._result()

    def _require_own(self) -> None:
        """A message goes to whoever reads first: a forked child would take its parent's."""
        if os.getpid() != self._process:
            raise RuntimeError("the job belongs to the process that started it, which has forked since")

    def _wait_for_word(self, until: float | None) -> None:
        now = time.monotonic()
        patience = self._give_up_at - now
        if until is not None:
            patience = min(patience, until - now)
        if self._is_readable(max(0.0, patience)):
            self._hear()
        elif time.monotonic() >= self._give_up_at:
            self._give_up()
        elif until is not None and time.monotonic() >= until:
            raise TimeoutError("the job still runs")

    def _is_readable(self, patience_s: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(patience_s * 1000))

    async def finished(self) -> Outcome:
        """As `wait`, for asyncio: the loop is never blocked. Cancelling kills the job."""
        import asyncio

        self._require_own()
        loop = asyncio.get_running_loop()
        try:
            while not self._is_over():
                await self._word(loop)
        except asyncio.CancelledError:
            self.kill()
            self._close()
            raise
        if self._at_end:
            await in_own_thread(self._finish)
        return self._result()

    async def _word(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._sock, _set, ready)
        try:
            async with asyncio.timeout(max(0.0, self._give_up_at - time.monotonic())):
                await ready
        except TimeoutError:
            ready.cancel()
        finally:
            loop.remove_reader(self._sock)  # before it may be closed: its number will be used again
        if ready.cancelled() and not self._is_readable(0.0):  # a caller who comes late has no patience left
            self._give_up()
        else:
            self._hear()

    def _finish(self) -> None:
        """What the caller's side has to do once, when the job has ended."""
        at_end, self._at_end = self._at_end, None
        if at_end:
            at_end()

    def _is_over(self) -> bool:
        return self._outcome is not None or self._error is not None

    def _result(self) -> Outcome:
        if self._raised is not None:
            raise self._raised
        if self._error is not None:
            raise self._error
        if self._outcome is None:
            raise RuntimeError("the job has not ended")
        return self._outcome

    def _hear(self) -> None:
        message = wire.receive_body(self._sock)
        if message is None:
            self._give_up()
            return
        body, fds = message
        head, rest = wire.parted(body)
        self._take(wire.decode(head), rest, fds)
        # It lived when it said that. The rest of what it has to say may wait for room, which this has made.
        self._give_up_at = max(self._give_up_at, time.monotonic() + _GRACE_S)

    def _take(self, fields: dict[str, Any], rest: bytes, fds: list[int]) -> None:
        if "attempt" in fields:
            self._tell(self._spec.on_attempt, Attempt(*fields["attempt"]))
        elif "out" in fields:
            number = fields["out"]
            self._tell_output(number, self._output.take(number, rest))
        elif "waiting" in fields:  # its clock has not begun; the next word comes within seconds
            self._give_up_at = time.monotonic() + _GRACE_S
        elif "begun" in fields:
            self._give_up_at = time.monotonic() + self._timeout_s + _GRACE_S
        elif fields["error"]:
            self._error = missing(fields["error"]["layer"], fields["error"]["error"])
            self._close()
        else:
            self._end(self._read_outcome(fields, rest, fds))

    def _tell_output(self, number: int, part: bytes) -> None:
        if part:
            self._tell(self._spec.on_output, NAMES[number], part)

    def _tell(self, caller: Callable[..., object] | None, *words: object) -> None:
        if caller is None or self._raised is not None:
            return
        try:
            caller(*words)
        except BaseException as error:  # noqa: BLE001 — carried to whoever waits, whatever it is
            self._raised = error
            self.kill()

    def _read_outcome(self, fields: dict[str, Any], rest: bytes, fds: list[int]) -> Outcome:
        kind, code = fields["exit"]
        cut = fields.get("stdout", 0)
        streams = rest[:cut], rest[cut:]
        for number, part in self._output.rest(streams):
            self._tell_output(number, part)
        return Outcome(
            exit=Exit(kind, code),
            stdout=self._output.whole(streams[0]),
            stderr=self._output.whole(streams[1]),
            layers=tuple(fields.get("layers", "").split()),
            refused=tuple(Attempt(*attempt) for attempt in fields.get("refused", ())),
            refused_dropped=fields.get("dropped", 0),
            artifacts=artifacts.read(fds[0]) if fds else (),
            profile=self._profile,
            tier=self._spec.tier,
            duration_s=fields.get("duration_s", 0.0),
        )

    def _give_up(self) -> None:
        """The supervisor has died, or hangs: none of its deadlines counts any more. It is ended."""
        self._drop()
        self._end(Outcome(Exit("spawner"), profile=self._profile, tier=self._spec.tier))

    def _end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._close()

    def _close(self) -> None:
        self._sock.close()  # whoever still waits for it in the spawner kills it


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


# --- threads of our own: the application's default executor may be full -----------------------------------


async def in_own_thread(call: Callable[[], T], *, unwanted: Callable[[T], object] = lambda _: None) -> T:
    """The answer of *call*, made in a thread of its own. *unwanted* gets it if nobody waits any more."""
    import asyncio

    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 — carried to the loop, whatever it is
            _tell(loop, answer, partial(answer.set_exception, error), lambda: None)
        else:
            _tell(loop, answer, partial(answer.set_result, value), lambda: unwanted(value))

    threading.Thread(target=work, name="fumehood-confine", daemon=True).start()
    return await answer


def _tell(
    loop: asyncio.AbstractEventLoop,
    answer: asyncio.Future[T],
    say: Callable[[], object],
    otherwise: Callable[[], object],
) -> None:
    try:
        loop.call_soon_threadsafe(lambda: otherwise() if answer.done() else say())
    except RuntimeError:  # the loop has closed meanwhile
        otherwise()
