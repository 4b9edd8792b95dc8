"""One policy, two engines, one answer: what both say, side by side."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError
from fumehood.model import Decision, Pdp, PolicyInput, Unknown
from fumehood.pdp import Bundle, open_pdp

#: Ids of docs/engine-differences.md.
LISTED = frozenset({"built-in-error", "printed-values", "opa-compiler"})


@dataclass(frozen=True)
class Difference:
    """`id` is of the published list, or "" where the difference is not on it."""

    id: str
    asked: PolicyInput | None
    embedded: Decision | str
    opa: Decision | str


def differences(bundle: Bundle, opa_url: str, inputs: Iterable[PolicyInput]) -> list[Difference]:
    """Where the engines disagree about *bundle*."""
    embedded = open_pdp(bundle, isolation="thread")
    try:
        server = open_pdp(bundle, url=opa_url)
    except ConfigError as error:
        is_compiler = "occurred while compiling module" in str(error)
        return [Difference("opa-compiler" if is_compiler else "", None, "accepted", str(error))]
    try:
        return [found for asked in inputs if (found := _difference(embedded, server, asked))]
    finally:
        embedded.close()
        server.close()


def _difference(embedded: Pdp, server: Pdp, asked: PolicyInput) -> Difference | None:
    here, there = said(embedded, asked), said(server, asked)
    if here == there:
        return None
    return Difference(listed(here, there), asked, here, there)


def listed(here: Decision | str, there: Decision | str) -> str:
    """The id of the published difference that this is; "" for none."""
    if "pdp_error" in (here, there):
        return "built-in-error"
    if isinstance(here, Decision) and isinstance(there, Decision) and plain(here) == plain(there):
        return "printed-values"
    return ""


def plain(decision: Decision) -> Decision:
    """*decision* without the texts that only people read."""
    reasons = {replace(reason, detail=None) for reason in decision.reasons}
    odd = {replace(o, body="") if isinstance(o, Unknown) else o for o in decision.obligations}
    return replace(
        decision, reasons=tuple(sorted(reasons, key=repr)), obligations=tuple(sorted(odd, key=repr))
    )


def said(pdp: Pdp, asked: PolicyInput) -> Decision | str:
    """The decision, or the code of the error."""
    try:
        return pdp.evaluate(asked)
    except PdpError as error:
        return error.code


def request(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, JSON]:
    """One exchange with an OPA server."""
    parts = urlsplit(url)
    link = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        link.request(method, path, body)
        answer = link.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        link.close()
