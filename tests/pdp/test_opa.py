"""The OPA server as a PDP: the same bundle, strict errors, no guessing, no waiting for what is down."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from host import require
from pdp.documents import asked
from pdp.engines import request
from pdp.opa_server import running_opa
from pdp.policies import HEAD, bundle_of, folder_of

from fumehood.errors import ConfigError, PdpError
from fumehood.model import Effect, Pdp
from fumehood.pdp import load_bundle, open_pdp
from fumehood.pdp.breaker import Breaker
from fumehood.pdp.server import OpaServer
from fumehood.pdp.transport import Transport


def code_of(pdp: Pdp, tool: str = "read") -> str:
    with pytest.raises(PdpError) as raised:
        pdp.evaluate(asked(tool))
    return raised.value.code


def test_server_is_given_the_bundle_and_decides(tmp_path: Path, opa_url: str) -> None:
    bundle = bundle_of(tmp_path, HEAD)
    pdp = open_pdp(bundle, url=opa_url)
    decision = pdp.evaluate(asked())
    assert decision.effect is Effect.PERMIT
    assert decision.revision == bundle.revision
    assert pdp.evaluate(asked("other")).reasons[0].code == "no_permit"
    assert pdp.facts == bundle.facts
    pdp.close()
    assert code_of(pdp) == "pdp_unreachable"


def test_second_guard_with_the_same_bundle_changes_nothing(tmp_path: Path, opa_url: str) -> None:
    bundle = bundle_of(tmp_path, HEAD)
    first, second = open_pdp(bundle, url=opa_url), open_pdp(bundle, url=opa_url)
    assert first.evaluate(asked()) == second.evaluate(asked())


def test_new_bundle_replaces_the_old_one_which_then_decides_nothing(tmp_path: Path, opa_url: str) -> None:
    old = open_pdp(
        bundle_of(tmp_path / "old", HEAD + 'deny contains "x" if _f(1)\n\n_f(x) if x == 1\n'), url=opa_url
    )
    assert old.evaluate(asked()).effect is Effect.DENY
    new = open_pdp(bundle_of(tmp_path / "new", HEAD), url=opa_url)
    assert new.evaluate(asked()).effect is Effect.PERMIT
    assert code_of(old) == "pdp_error"


def test_files_whose_functions_call_each_other_are_uploaded_and_removed(tmp_path: Path, opa_url: str) -> None:
    folder = folder_of(
        tmp_path / "policies",
        a="package policies.a\n\npermit if data.policies.b._f(input.resource.id)\n",
        b="package policies.b\n\n_f(x) if data.policies.c._g(x)\n",
        c='package policies.c\n\n_g(x) if x == "read"\n',
    )
    pdp = open_pdp(load_bundle([folder]), url=opa_url)
    assert pdp.evaluate(asked()).effect is Effect.PERMIT
    assert open_pdp(bundle_of(tmp_path, HEAD), url=opa_url).evaluate(asked()).effect is Effect.PERMIT


def test_data_documents_of_any_shape_are_uploaded(tmp_path: Path, opa_url: str) -> None:
    text = HEAD + "permit if call.tool in data.tools\n\npermit if call.tool == data.more.tool\n"
    data = '{"tools": ["b"], "more": {"tool": "c"}, "number": 3}'
    pdp = open_pdp(load_bundle([folder_of(tmp_path / "p", x=text, data_dot_json=data)]), url=opa_url)
    assert [pdp.evaluate(asked(tool)).is_permit for tool in ("b", "c", "d")] == [True, True, False]


def test_policies_of_somebody_else_that_would_join_are_refused(tmp_path: Path, opa_url: str) -> None:
    evil = b"package policies.evil\n\npermit := true\n"
    request(opa_url, "PUT", "/v1/policies/evil", evil)
    try:
        with pytest.raises(ConfigError, match="evil"):
            open_pdp(bundle_of(tmp_path, HEAD), url=opa_url)
    finally:
        request(opa_url, "DELETE", "/v1/policies/evil")


def test_policy_that_joins_later_permits_nothing(tmp_path: Path, opa_url: str) -> None:
    pdp = open_pdp(bundle_of(tmp_path, HEAD), url=opa_url)
    request(opa_url, "PUT", "/v1/policies/evil", b"package policies.evil\n\npermit := true\n")
    try:
        assert code_of(pdp, "anything") == "pdp_error"
    finally:
        request(opa_url, "DELETE", "/v1/policies/evil")


def test_data_that_joins_later_permits_nothing(tmp_path: Path, opa_url: str) -> None:
    pdp = open_pdp(bundle_of(tmp_path, HEAD), url=opa_url)
    status, _ = request(opa_url, "PUT", "/v1/data/policies/evil", b'{"permit": true}')
    assert status == 204
    try:
        assert code_of(pdp, "anything") == "pdp_error"
    finally:
        request(opa_url, "DELETE", "/v1/data/policies/evil")


def test_error_in_a_built_in_is_an_error_with_opas_words(tmp_path: Path, opa_url: str) -> None:
    text = HEAD + 'deny contains "x" if {\n\tcall.tool == "read"\n\tabs(call.args.n) > 1\n}\n'
    pdp = open_pdp(bundle_of(tmp_path, text), url=opa_url)
    with pytest.raises(PdpError, match="abs: operand 1 must be number") as raised:
        pdp.evaluate(asked("read", {"n": "text"}))
    assert raised.value.code == "pdp_error"


def test_restarted_server_denies_once_and_gets_its_bundle_back(tmp_path: Path) -> None:
    require("opa")
    bundle = bundle_of(tmp_path, HEAD)
    with running_opa() as url:
        pdp = open_pdp(bundle, url=url)
        for policy in ("bundle.rego", "files/lib/main.rego"):
            assert request(url, "DELETE", f"/v1/policies/fumehood/{policy}")[0] == 200
        assert code_of(pdp) == "pdp_undefined"
        assert pdp.evaluate(asked()).effect is Effect.PERMIT
    pdp.close()


def test_dead_server_is_unreachable(tmp_path: Path) -> None:
    require("opa")
    with running_opa() as url:
        pdp = open_pdp(bundle_of(tmp_path, HEAD), url=url)
        assert pdp.evaluate(asked()).effect is Effect.PERMIT
    for _ in range(5):
        assert code_of(pdp) == "pdp_unreachable"


def test_server_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        open_pdp(bundle_of(tmp_path, HEAD), url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8181",
        "ftp://a",
        "http://",
        "http://a:b",
        "http://a/path",
        "http://u@a",
        "http://a?q",
        "unix://a",
        "unix:///a/",
        "unix:///" + "a" * 107,
        "http://a\n",
    ],
)
def test_url_that_names_no_server_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pdp="):
        open_pdp(bundle_of(tmp_path, HEAD), url=url)


# A server of our own, for answers that OPA never gives.


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads one request per connection and lets *answer* do the rest."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                try:
                    asked = part = link.recv(65536)
                    while part and not asked.endswith(b"}" if b"Content-Length" in asked else b"\r\n\r\n"):
                        part = link.recv(65536)
                        asked += part
                    answer(link)
                except OSError:
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def says(text: bytes, status: bytes = b"200 OK") -> Callable[[socket.socket], None]:
    head = (
        b"HTTP/1.1 "
        + status
        + b"\r\nContent-Length: "
        + str(len(text)).encode()
        + b"\r\nConnection: close\r\n\r\n"
    )
    return lambda link: link.sendall(head + text)


def drips(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    pause = threading.Event()
    for _ in range(400):
        link.sendall(b" ")
        pause.wait(0.02)


ANSWERS = [
    ("hangs up", lambda link: None, "pdp_unreachable"),
    ("is no http", lambda link: link.sendall(b"hello\r\n\r\n"), "pdp_malformed"),
    ("drips", drips, "pdp_timeout"),
    (
        "breaks off",
        lambda link: link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
        "pdp_unreachable",
    ),
    (
        "is too long",
        lambda link: link.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * (17 << 20)),
        "pdp_malformed",
    ),
]


@pytest.mark.parametrize(("name", "answer", "code"), ANSWERS, ids=[a[0] for a in ANSWERS])
def test_answer_that_is_none_is_an_error(
    name: str, answer: Callable[[socket.socket], None], code: str
) -> None:
    with answering(answer) as url:
        transport = Transport(OpaServer(url))
        with pytest.raises(PdpError) as raised:
            transport.post("/", b"{}", within_s=0.3 if code == "pdp_timeout" else 20)
        assert raised.value.code == code
        transport.close()


RESULTS = [
    (b"{}", b"200 OK", "pdp_undefined"),
    (b'{"result": null}', b"200 OK", "pdp_undefined"),
    (b'{"result": {}}', b"200 OK", "pdp_malformed"),
    (b'{"result": true}', b"200 OK", "pdp_malformed"),
    (b"[]", b"200 OK", "pdp_malformed"),
    (b'{"result": "\\ud800"}', b"200 OK", "pdp_malformed"),
    (b"[" * 100_000, b"200 OK", "pdp_malformed"),
    (b'{"result": {"effect": "permit"}, "decision_id": 3}', b"200 OK", "pdp_malformed"),
    (b'{"result": {"effect": "permit"}, "decision_id": "' + b"x" * 300 + b'"}', b"200 OK", "pdp_malformed"),
    (b"<html>", b"502 Bad Gateway", "pdp_malformed"),
    (b'{"code": "internal_error", "message": "oops"}', b"500 Oops", "pdp_error"),
    (b'{"result": {"effect": "permit"}}', b"401 No", "pdp_error"),
]


@pytest.mark.parametrize(("text", "status", "code"), RESULTS)
def test_result_that_is_no_decision_is_an_error(
    text: bytes, status: bytes, code: str, tmp_path: Path, opa_url: str
) -> None:
    pdp = open_pdp(bundle_of(tmp_path, HEAD), url=opa_url)
    with answering(says(text, status)) as url:
        pdp._transport = Transport(OpaServer(url))  # type: ignore[attr-defined]
        assert code_of(pdp) == code
    pdp.close()


def test_kept_connection_that_the_server_closed_is_opened_again(tmp_path: Path, opa_url: str) -> None:
    pdp = open_pdp(bundle_of(tmp_path, HEAD), url=opa_url)
    pdp.evaluate(asked())
    (idle,) = pdp._transport._idle  # type: ignore[attr-defined]
    idle.shutdown(socket.SHUT_RDWR)
    assert pdp.evaluate(asked()).effect is Effect.PERMIT
    pdp.close()


def test_breaker_opens_half_opens_and_closes() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0], threshold=2, pause_s=1.0, longest_s=3.0)
    breaker.failed()
    assert breaker.wait_s() == 0
    breaker.failed()
    assert breaker.wait_s() > 0
    now[0] = 1.0
    assert breaker.wait_s() == 0  # one is let through
    assert breaker.wait_s() > 0  # and only one
    breaker.failed()  # it failed: twice as long
    now[0] = 2.9
    assert breaker.wait_s() > 0
    now[0] = 3.0
    assert breaker.wait_s() == 0
    breaker.failed()
    now[0] = 6.0  # never longer than the longest
    assert breaker.wait_s() == 0
    breaker.succeeded()
    assert all(breaker.wait_s() == 0 for _ in range(3))


def test_missing_opa_client_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opa_client", None)
    monkeypatch.delitem(sys.modules, "fumehood.pdp.administration", raising=False)
    monkeypatch.delitem(sys.modules, "fumehood.pdp.opa", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'fumehood\[opa\]'"):
        open_pdp(bundle_of(tmp_path, HEAD), url="http://127.0.0.1:8181")


def test_token_is_sent_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUMEHOOD_OPA_TOKEN", "hush-hush")
    refusal = json.dumps({"code": "unauthorized", "message": "no"}).encode()
    with answering(says(refusal, b"401 No")) as url, pytest.raises(ConfigError) as raised:
        open_pdp(bundle_of(tmp_path, HEAD), url=url)
    assert "hush-hush" not in str(raised.value)
