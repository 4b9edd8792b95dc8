"""Decides at an OPA server, with the bundle that was loaded here.

The bundle is put there at the start, or found there; each decision carries the revision that made it,
and a decision of another revision is no decision. Built-in errors are strict; a 500 is never retried.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
import weakref
from collections.abc import Iterable
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError
from fumehood.model import Decision, Effect, PolicyFacts, PolicyInput
from fumehood.pdp.administration import Administration
from fumehood.pdp.answer import check_size
from fumehood.pdp.breaker import Breaker
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.decision import decision_from
from fumehood.pdp.observing import acted_on
from fumehood.pdp.said import answers_of, split_said, spoken
from fumehood.pdp.server import OpaServer
from fumehood.pdp.transport import Response, Transport

__all__ = ["OpaPdp"]

_DECISION = "/v1/data/fumehood/main/decision?strict-builtin-errors=true"
_OBSERVED = "/v1/data/fumehood/main/observed?strict-builtin-errors=true"  # with what it was made of
_LONGEST_ID = 256
_SHOWN = 200  # characters of an answer that nobody understands
_RETRY_S = 0.2


class OpaPdp:
    """A PDP that asks an OPA server."""

    def __init__(self, bundle: Bundle, server: OpaServer) -> None:
        self._transport = Transport(server)
        self._server, self._bundle = server, bundle
        self._packages = frozenset(bundle.packages)
        self._admin = Administration(server, self._transport, bundle)
        self._is_closed = False
        self._forget()
        weakref.finalize(self, self._transport.close)
        try:
            self._admin.install()
        except BaseException:
            self.close()
            raise

    @property
    def facts(self) -> PolicyFacts:
        return self._bundle.facts

    def evaluate(self, document: PolicyInput, /) -> Decision:
        """Decide.

        Raises:
            PdpError: with a `pdp_*` code.
        """
        check_size(document)
        if self._is_closed:
            raise PdpError("this PDP is closed", code="pdp_unreachable")
        if self._pid != os.getpid():
            self._forget()
        until = time.monotonic() + self._server.deadline_s
        self._wait_until_restored(until)
        answer = self._ask(b'{"input":' + document.body + b"}", until)
        result, decision_id = _result(answer)
        observing = self._bundle.observing
        said, result = split_said(result) if observing is not None else ([], result)
        if result is None or _has_no_revision(result):
            raise self._undefined(until)
        full = dataclasses.replace(self._decided(result, decision_id), decision_id=decision_id)
        if observing is None:
            return full
        acting = acted_on(document.phase, answers_of(said), (), full, observing)
        self._refuse_strangers(acting, spoken(said), decision_id)
        return dataclasses.replace(acting, decision_id=decision_id)

    def close(self) -> None:
        """Close the connections. The policies stay at the server."""
        self._is_closed = True
        self._transport.close()

    def _forget(self) -> None:
        """What is of this process alone: a forked child has no threads of its parent's."""
        self._pid = os.getpid()
        self._breaker = Breaker(time.monotonic)
        self._restoring: threading.Event | None = None
        self._failure: tuple[float, str] | None = None
        self._lock = threading.Lock()

    def _ask(self, body: bytes, until: float) -> Response:
        wait_s = self._breaker.wait_s()
        if wait_s:
            raise PdpError(
                f"the OPA server did not answer in time again and again; it is asked again in {wait_s:.1f} s",
                code="pdp_unreachable",
            )
        try:
            path = _DECISION if self._bundle.observing is None else _OBSERVED
            answer = self._transport.post(path, body, within_s=max(0.0, until - time.monotonic()))
        except PdpError as error:
            if error.code == "pdp_timeout":  # one that refuses at once costs nothing to ask
                self._breaker.failed()
            raise
        self._breaker.succeeded()
        return answer

    def _decided(self, result: JSON, decision_id: str) -> Decision:
        try:
            decision = decision_from(result, revision=self._bundle.revision)
        except PdpError as error:
            raise PdpError(f"{error}{_named(decision_id)}", code=error.code) from error
        self._refuse_strangers(decision, decision.rules, decision_id)
        return decision

    def _refuse_strangers(self, decision: Decision, rules: Iterable[str], decision_id: str) -> None:
        """Raises PdpError: *decision* permits, and one of *rules* is of somebody else's package."""
        strangers = [rule for rule in rules if rule.rpartition(".")[0] not in self._packages]
        if strangers and decision.effect is Effect.PERMIT:
            text = f"{strangers[0]} decided, which is not of this bundle{_named(decision_id)}"
            raise PdpError(text, code="pdp_error")

    # --- a server that was restarted is empty: the bundle is put back, beside the calls

    def _undefined(self, until: float) -> PdpError:
        """The error for this call, which stays denied; the next one finds the bundle there again."""
        if self._server.upload:
            self._restore()
            with_failure = self._wait(until)
            what = f"; the policies cannot be put back: {with_failure}" if with_failure else ""
        else:
            what = ", and it has to get its bundle elsewhere: OpaServer(upload=False)"
        return PdpError(
            f"the OPA server has no bundle: the decision is undefined{what}", code="pdp_undefined"
        )

    def _restore(self) -> None:
        with self._lock:
            is_tired = self._failure is not None and time.monotonic() - self._failure[0] < _RETRY_S
            if self._restoring is not None or is_tired:
                return
            self._restoring, self._failure = threading.Event(), None
        threading.Thread(target=self._put_back, name="fumehood-restore", daemon=True).start()

    def _put_back(self) -> None:
        try:
            self._admin.restore()
        except (ConfigError, PdpError) as error:
            self._failure = (time.monotonic(), str(error))
        except BaseException as error:
            self._failure = (time.monotonic(), repr(error))
            raise
        finally:
            done, self._restoring = self._restoring, None
            if done is not None:
                done.set()

    def _wait(self, until: float) -> str | None:
        """Why the last attempt failed, if it is over by then and did."""
        running = self._restoring
        if running is not None:
            running.wait(max(0.0, until - time.monotonic()))
        failure = self._failure
        return failure[1] if failure is not None else None

    def _wait_until_restored(self, until: float) -> None:
        running = self._restoring
        if running is not None and not running.wait(max(0.0, until - time.monotonic())):
            raise PdpError("the policies are being put back onto the OPA server", code="pdp_undefined")


def _result(answer: Response) -> tuple[JSON, str]:
    """The `result` of OPA's answer, None if there is none, and the id of the decision in its log, or ""."""
    status = answer.status
    try:
        document = json.loads(answer.body)
        if b"\\u" in answer.body:  # a lone surrogate is no text, and could not be recorded
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        text = f"the OPA server's answer (HTTP {status}) is not JSON: {answer.body[:_SHOWN]!r}"
        raise PdpError(text, code="pdp_malformed") from error
    if not isinstance(document, dict):
        raise PdpError(f"the OPA server's answer (HTTP {status}) is not an object", code="pdp_malformed")
    decision_id = document.get("decision_id", "")
    if not isinstance(decision_id, str) or len(decision_id) > _LONGEST_ID:
        raise PdpError("the OPA server's decision_id is not a short text", code="pdp_malformed")
    if status != 200:
        text = f"the OPA server says (HTTP {status}): {_said(document)}{_named(decision_id)}"
        raise PdpError(text, code="pdp_error")
    return cast("JSON", document.get("result")), decision_id


def _has_no_revision(result: JSON) -> bool:
    """True for what is decided in the middle of an upload, or by a server that is only half restored."""
    policy = result.get("policy") if isinstance(result, dict) else None
    return isinstance(policy, dict) and policy.get("revision") == ""


def _named(decision_id: str) -> str:
    return f" (decision {decision_id})" if decision_id else ""


def _said(document: dict[str, JSON]) -> str:
    """OPA's error text, its details included."""
    errors = document.get("errors")
    parts = [document, *(errors if isinstance(errors, list) else [])]
    return "; ".join(str(part["message"]) for part in parts if isinstance(part, dict) and "message" in part)
