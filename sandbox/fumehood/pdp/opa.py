"""Decides at an OPA server, with the bundle that was loaded here. The only module that knows opa_client.

The bundle is put there at the start, or found there; each decision carries the revision that made it,
and a decision of another revision is no decision. Built-in errors are strict; a 500 is never retried.
"""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import quote

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError
from fumehood.model import Decision, Effect, PolicyFacts, PolicyInput
from fumehood.pdp.answer import check_size
from fumehood.pdp.breaker import Breaker
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.decision import decision_from
from fumehood.pdp.transport import Transport

try:
    from opa_client import OpaClient
    from opa_client.errors import DeletePolicyError, RegoParseError
except ImportError as error:
    raise ConfigError(
        "an OPA server needs opa-python-client, which is not installed: pip install 'fumehood[opa]'"
    ) from error

__all__ = ["OpaPdp"]

_DECISION = "/v1/data/fumehood/main/decision?strict-builtin-errors=true"
_PREFIX = "fumehood/"  # of the ids of our policies at the server
_REVISION = _PREFIX + "bundle.rego"
_REINSTALL_S = 5.0
TOKEN = "FUMEHOOD_OPA_TOKEN"  # noqa: S105 - the name of a variable


class OpaPdp:
    """A PDP that asks an OPA server."""

    def __init__(self, bundle: Bundle, url: str, *, wall_s: float) -> None:
        token = os.environ.get(TOKEN)
        self._transport = Transport(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        self._url, self._token = url, token
        self._bundle = bundle
        self._packages = frozenset(bundle.packages)
        self._wall_s = wall_s
        self._breaker = Breaker(time.monotonic)
        self._is_closed = False
        weakref.finalize(self, self._transport.close)
        self._install()
        self._installed_at = time.monotonic()

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
        if not self._breaker.allows():
            raise PdpError(
                "the OPA server was down a moment ago and is not asked yet", code="pdp_unreachable"
            )
        try:
            status, answer = self._transport.post(
                _DECISION, b'{"input":' + document.body + b"}", within_s=self._wall_s
            )
        except PdpError:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return self._decided(_result(status, answer))

    def close(self) -> None:
        """Close the connections. The policies stay at the server."""
        self._is_closed = True
        self._transport.close()

    def _decided(self, result: JSON) -> Decision:
        if result is None:
            self._reinstall()
            raise PdpError("the OPA server has no decision: undefined", code="pdp_undefined")
        decision = decision_from(result, revision=self._bundle.revision)
        strangers = [rule for rule in decision.rules if rule.rpartition(".")[0] not in self._packages]
        if strangers and decision.effect is Effect.PERMIT:
            raise PdpError(f"{strangers[0]} decided, which is not of this bundle", code="pdp_error")
        return decision

    def _reinstall(self) -> None:
        """A server that was restarted is empty: put the bundle there again. This call stays denied."""
        if time.monotonic() - self._installed_at < _REINSTALL_S:
            return
        self._installed_at = time.monotonic()
        try:
            self._install()
        except ConfigError as error:
            raise PdpError(f"the policies cannot be put back: {error}", code="pdp_unreachable") from error

    def _install(self) -> None:
        """Put the bundle there unless this revision is there already.

        Raises:
            ConfigError: the server cannot be reached, refuses, or holds policies of somebody else's.
        """
        with _administration(self._transport, self._url, self._token, self._wall_s) as client:
            foreign = _foreign(client)
            if foreign:
                raise ConfigError(
                    f"the OPA server at {self._url} has policies that are not ours and would join: "
                    f"{', '.join(foreign)}. Remove them, put them into the bundle, or use another server."
                )
            if _revision_at(client) != self._bundle.revision:
                _upload(client, self._bundle)


def _result(status: int, answer: bytes) -> JSON:
    """The `result` of OPA's answer, None if there is none."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise PdpError(
            f"the OPA server's answer (HTTP {status}) is not JSON", code="pdp_malformed"
        ) from error
    if not isinstance(document, dict):
        raise PdpError(f"the OPA server's answer (HTTP {status}) is not an object", code="pdp_malformed")
    if status != 200:
        raise PdpError(f"the OPA server says (HTTP {status}): {_said(document)}", code="pdp_error")
    return cast("JSON", document.get("result"))


def _said(document: dict[str, JSON]) -> str:
    """OPA's error text, its details included."""
    errors = document.get("errors")
    parts = [document, *(errors if isinstance(errors, list) else [])]
    return "; ".join(str(part["message"]) for part in parts if isinstance(part, dict) and "message" in part)


@contextmanager
def _administration(
    transport: Transport, url: str, token: str | None, timeout_s: float
) -> Iterator[OpaClient]:
    """An opa_client for the server; whatever it raises, having no base class of its own, is a ConfigError."""
    client = OpaClient(
        host=transport.host,
        port=transport.port,
        ssl=transport.is_tls,
        token=token,
        retries=0,
        timeout=max(timeout_s, 5.0),
    )
    client._session.trust_env = False  # a proxy from the environment must not see or change policies
    try:
        yield client
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"the OPA server at {url} cannot be used: {error}") from error
    finally:
        client.close_connection()


def _foreign(client: OpaClient) -> list[str]:
    """Ids of policies that are not ours and lie where they would decide."""
    info = cast("dict[str, dict[str, str]]", client.get_policies_info())
    root = client.root_url
    ours = (f"{root}/data/policies", f"{root}/data/fumehood")
    return sorted(
        name
        for name, about in info.items()
        if not name.startswith(_PREFIX)
        and any(about["path"] == path or about["path"].startswith(path + "/") for path in ours)
    )


def _revision_at(client: OpaClient) -> object:
    answer = client.query_rule({}, "fumehood.bundle", "revision")
    return answer.get("result")


def _upload(client: OpaClient, bundle: Bundle) -> None:
    """Take the old revision away first and name the new one last: what lies between decides nothing."""
    texts = {f"{_PREFIX}files/{name}": text for name, text in bundle.files}
    ours = [name for name in client.get_policies_list() if name.startswith(_PREFIX)]
    if _REVISION in ours:
        client.delete_policy(_REVISION)
        ours.remove(_REVISION)
    _until_done(ours, lambda name: client.delete_policy(quote(name)))
    for root, value in json.loads(bundle.data).items():
        client.patch_data(quote(root, safe=""), [{"op": "add", "path": "/", "value": value}])
    _until_done(
        list(texts),
        lambda name: client.update_policy_from_string(texts[name], quote(name), rego_compat=False),
    )
    revision = f"package fumehood.bundle\n\nrevision := {json.dumps(bundle.revision)}\n"
    client.update_policy_from_string(revision, _REVISION, rego_compat=False)


def _until_done(names: list[str], act: Callable[[str], object]) -> None:
    """OPA compiles after each step, so a module cannot come before, or go after, one whose functions it
    calls: go round until all are done, or none is."""
    while names:
        failed: list[str] = []
        for name in names:
            try:
                act(name)
            except (DeletePolicyError, RegoParseError) as error:
                failed.append(name)
                last = error
        if len(failed) == len(names):
            raise last
        names = failed
