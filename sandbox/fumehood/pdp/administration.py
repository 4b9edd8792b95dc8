"""Puts a bundle onto an OPA server, or finds it there. The only module that knows opa_client.

What is there is compared text by text: a policy of somebody else's in `policies` or `fumehood` would join
in every decision.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote, urlsplit

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.packed import CLAIM, claim
from fumehood.pdp.server import OpaServer
from fumehood.pdp.transport import Transport

try:
    import requests
    from opa_client import OpaClient
    from opa_client.errors import DeletePolicyError, PolicyNotFoundError, RegoParseError
    from requests.adapters import BaseAdapter
except ImportError as error:
    raise ConfigError(
        "an OPA server needs opa-python-client, which is not installed: pip install 'fumehood[opa]'"
    ) from error

__all__ = ["Administration"]

_PREFIX = "fumehood/"  # of the ids of our policies at the server
_REVISION = CLAIM
_OURS = ("policies", "fumehood")  # the packages that decide
_STEP_S = 10.0  # for one step: OPA compiles everything anew after each


@dataclass(frozen=True, slots=True)
class _Module:
    id: str
    package: str
    text: str


class Administration:
    """What is done to one server beside asking it for decisions.

    Raises, from every method:
        ConfigError: the server cannot be reached, refuses, or holds policies of somebody else's.
    """

    def __init__(self, server: OpaServer, transport: Transport, bundle: Bundle) -> None:
        self._server, self._transport, self._bundle = server, transport, bundle
        self._texts = {f"{_PREFIX}files/{name}": text for name, text in bundle.files}
        self._wanted = {*self._texts.values(), claim(bundle.revision)}

    def install(self) -> None:
        """Find the bundle there, or put it there."""
        with self._client() as client:
            if self._server.wait_s:
                client.wait_for_ready(timeout=self._server.wait_s, interval=0.1, query={"bundles": "true"})
            if not self._server.upload:
                self._require(client)
                return
            there = self._modules()
            if not self._is_whole(there) or not self._has_data(client):
                self._refuse_strangers(there)
                kept = self._library(there)
                _take_away(client, [module.id for module in there if module.id not in kept])
                self._put(client, {name: text for name, text in self._texts.items() if name not in kept})
                self._check(self._modules())

    def restore(self) -> None:
        """Put the bundle back onto a server that was restarted, and so is empty."""
        with self._client() as client:
            there = self._modules()
            if any(module.text not in self._wanted for module in there):
                raise ConfigError("somebody else is putting another bundle there")
            known = {module.id for module in there}
            self._put(client, {name: text for name, text in self._texts.items() if name not in known})

    def _library(self, there: list[_Module]) -> frozenset[str]:
        """The ids of our library there, if all of it is as it should be: it need not go and come again."""
        found = [m for m in there if m.package.split(".")[0] == "fumehood" and m.id != _REVISION]
        is_right = all(self._texts.get(module.id) == module.text for module in found)
        return frozenset(module.id for module in found) if is_right else frozenset()

    def _require(self, client: OpaClient) -> None:
        decision = client.query_rule({}, "fumehood.main", "decision").get("result")
        policy = decision.get("policy") if isinstance(decision, dict) else None
        found = policy.get("revision") if isinstance(policy, dict) else None
        if found == self._bundle.revision:
            return
        has = f"has the bundle {found!r}" if found else "has no bundle that `fumehood policy build` made"
        raise ConfigError(
            f"the OPA server at {self._server.address} {has}; these policies are {self._bundle.revision}. "
            "Give it the same bundle, or let the guard put it there: OpaServer(upload=True)"
        )

    def _modules(self) -> list[_Module]:
        """The policies there that take part in decisions."""
        found = self._transport.exchange("GET", "/v1/policies", within_s=_STEP_S)
        try:
            answer = json.loads(found.body)
            if found.status != 200:
                raise ConfigError(
                    f"the OPA server at {self._server.address} does not show its policies (HTTP "
                    f"{found.status}: {answer.get('message')}); administer it elsewhere, and write "
                    "OpaServer(upload=False)"
                )
            modules = [_module(entry) for entry in answer.get("result", [])]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"what answers at {self._server.address} is not an OPA server: {error!r}"
            ) from error
        return [module for module in modules if module.package.split(".")[0] in _OURS]

    def _is_whole(self, there: list[_Module]) -> bool:
        return {module.text for module in there} == self._wanted and len(there) == len(self._texts) + 1

    def _has_data(self, client: OpaClient) -> bool:
        wanted: Mapping[str, JSON] = json.loads(self._bundle.data)
        try:
            return all(_data_at(client, root) == value for root, value in wanted.items())
        except PolicyNotFoundError:
            return False

    def _refuse_strangers(self, there: list[_Module]) -> None:
        strangers = sorted(module.id for module in there if not module.id.startswith(_PREFIX))
        if strangers:
            raise ConfigError(
                f"the OPA server at {self._server.address} has policies that are not ours and would join: "
                f"{', '.join(strangers)}. Remove them, put them into the bundle, or use another server."
            )

    def _check(self, there: list[_Module]) -> None:
        if not self._is_whole(there):
            raise ConfigError(
                f"somebody else changes the policies of the OPA server at {self._server.address} at the same "
                "time; let one guard use it, or give all of them the same bundle"
            )

    def _put(self, client: OpaClient, texts: Mapping[str, str]) -> None:
        """Data, policies, and last the revision: what lies between decides nothing."""
        for root, value in json.loads(self._bundle.data).items():
            client.patch_data(quote(root, safe=""), [{"op": "add", "path": "/", "value": value}])
        _until_done(
            list(texts),
            lambda name: client.update_policy_from_string(texts[name], quote(name), rego_compat=False),
        )
        revision = claim(self._bundle.revision)
        client.update_policy_from_string(revision, _REVISION, rego_compat=False)

    @contextmanager
    def _client(self) -> Iterator[OpaClient]:
        """An opa_client that goes through our transport; whatever it raises, having no base class of its own,
        is a ConfigError."""
        address = self._server.address
        client = OpaClient(host=address.host, port=address.port or 1, retries=0, timeout=_STEP_S)
        session = client._session
        session.trust_env = False  # neither a proxy nor credentials of the environment's
        session.max_redirects = 0
        session.mount("http://", _Adapter(self._transport))
        try:
            yield client
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"the OPA server at {address} cannot be used: {error}") from error
        finally:
            client.close_connection()


class _Adapter(BaseAdapter):
    """Sends what opa_client asks for through our transport: its certificates, sockets and deadline."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self._transport = transport

    def send(self, request: requests.PreparedRequest, *_: object, **options: object) -> requests.Response:
        parts = urlsplit(cast("str", request.url))
        body = cast("str | bytes", request.body or b"")
        try:
            found = self._transport.exchange(
                request.method or "GET",
                f"{parts.path}?{parts.query}" if parts.query else parts.path,
                body.encode() if isinstance(body, str) else body,
                within_s=cast("float", options.get("timeout") or _STEP_S),
                content_type=str(request.headers.get("Content-Type", "application/json")),
            )
        except PdpError as error:
            raise requests.exceptions.ConnectionError(str(error)) from error
        response = requests.Response()
        response.status_code = found.status
        response.headers.update(found.headers)
        response.raw = io.BytesIO(found.body)
        response.request, response.url = request, cast("str", request.url)
        return response

    def close(self) -> None:
        """Nothing: the transport is not ours."""


def _module(entry: dict[str, JSON]) -> _Module:
    ast = cast("dict[str, dict[str, list[dict[str, str]]]]", entry["ast"])
    path = [part["value"] for part in ast["package"]["path"][1:]]
    return _Module(cast("str", entry["id"]), ".".join(path), cast("str", entry["raw"]))


def _data_at(client: OpaClient, root: str) -> object:
    return client.get_data(quote(root, safe="")).get("result")


def _take_away(client: OpaClient, names: list[str]) -> None:
    """The revision first: what lies between decides nothing."""
    if _REVISION in names:
        client.delete_policy(_REVISION)
        names.remove(_REVISION)
    _until_done(names, lambda name: client.delete_policy(quote(name)))


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
