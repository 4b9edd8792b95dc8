"""A real OPA server, however it is reached and whatever it does: decided, or denied in time with a code."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from host import require
from pdp.certificates import Authority
from pdp.documents import asked
from pdp.engines import request
from pdp.opa_server import Running, running_opa, started_opa
from pdp.policies import HEAD, bundle_of, folder_of

from fumehood import Guard
from fumehood.errors import ConfigError, Denied, PdpError
from fumehood.ledger import open_ledger
from fumehood.model import Effect, Pdp
from fumehood.pdp import OpaServer, open_pdp, pack
from fumehood.pdp.administration import Administration

DENYING = HEAD + 'deny contains "no" if call.tool == "read"\n'


@pytest.fixture(autouse=True)
def _needs_opa() -> None:
    require("opa")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def tls_url(authority: Authority) -> Iterator[str]:
    """A server that wants a certificate from each client."""
    require("opa")
    own = authority.pair("server")
    files = ("--tls-cert-file", own.cert, "--tls-private-key-file", own.key)
    with running_opa(
        "https://127.0.0.1:0", *files, "--tls-ca-cert-file", authority.cert, "--authentication", "tls"
    ) as url:
        yield url


def code_of(pdp: Pdp, tool: str = "read") -> str:
    with pytest.raises(PdpError) as raised:
        pdp.evaluate(asked(tool))
    return raised.value.code


@contextmanager
def opened(folder: Path, server: OpaServer | str, text: str = HEAD) -> Iterator[Pdp]:
    pdp = open_pdp(bundle_of(folder, text), url=server)
    try:
        yield pdp
    finally:
        pdp.close()


def be_patient(pdp: Pdp, *, for_s: float = 20) -> None:
    """From here on it is not about the deadline, and the machine may be busy."""
    asking = getattr(pdp, "_current", pdp)
    asking._server = replace(asking._server, deadline_s=for_s)


def ids_at(url: str) -> list[str]:
    answer: Any = request(url, "GET", "/v1/policies")[1]
    return sorted(policy["id"] for policy in answer["result"])


def free_address() -> str:
    """A port that nothing else gets meanwhile: below those that the kernel gives to whoever does not care."""
    while True:
        address = ("127.0.0.1", random.SystemRandom().randrange(20_000, 32_000))
        with contextlib.suppress(OSError), socket.create_server(address):
            return f"{address[0]}:{address[1]}"


# --- TLS


def test_server_with_a_certificate_of_an_own_ca_decides_for_a_client_with_one(
    tmp_path: Path, authority: Authority, tls_url: str
) -> None:
    own = authority.pair("client")
    server = OpaServer(tls_url, ca=authority.cert, client_cert=own.cert, client_key=own.key)
    with opened(tmp_path, server) as pdp:
        assert [pdp.evaluate(asked()).effect for _ in range(3)] == [Effect.PERMIT] * 3
    by_name = OpaServer(
        tls_url.replace("127.0.0.1", "localhost"), ca=str(authority.cert), client_cert=own.cert
    )
    with pytest.raises(ConfigError, match="client_cert="):  # the key is in a file of its own
        open_pdp(bundle_of(tmp_path, HEAD), url=by_name)
    both = tmp_path / "both.pem"
    both.write_bytes(own.cert.read_bytes() + own.key.read_bytes())
    with opened(tmp_path, OpaServer(by_name.url, ca=authority.cert, client_cert=both)) as pdp:
        assert pdp.evaluate(asked()).is_permit


def test_server_of_an_unknown_ca_is_refused(tmp_path: Path, authority: Authority, tls_url: str) -> None:
    other = Authority(tmp_path / "other")
    for server in (OpaServer(tls_url), OpaServer(tls_url, ca=other.cert), tls_url):
        with pytest.raises(ConfigError, match="CERTIFICATE_VERIFY_FAILED"):
            open_pdp(bundle_of(tmp_path, HEAD), url=server)


def test_client_without_a_certificate_or_with_a_strangers_is_refused(
    tmp_path: Path, authority: Authority, tls_url: str
) -> None:
    strange = Authority(tmp_path / "other").pair("client")
    for server in (
        OpaServer(tls_url, ca=authority.cert),
        OpaServer(tls_url, ca=authority.cert, client_cert=strange.cert, client_key=strange.key),
    ):
        with pytest.raises(ConfigError, match=r"cannot be reached|does not show"):
            open_pdp(bundle_of(tmp_path, HEAD), url=server)


def test_certificate_for_another_name_is_refused(tmp_path: Path, authority: Authority, tls_url: str) -> None:
    port = tls_url.rpartition(":")[2]
    own = authority.pair("client")
    server = OpaServer(
        f"https://127.0.0.2:{port}", ca=authority.cert, client_cert=own.cert, client_key=own.key
    )
    with running_relay(int(port)) as relay, pytest.raises(ConfigError, match=r"not valid for '127\.0\.0\.2'"):
        open_pdp(
            bundle_of(tmp_path, HEAD),
            url=OpaServer(relay, ca=server.ca, client_cert=own.cert, client_key=own.key),
        )


@contextmanager
def running_relay(port: int) -> Iterator[str]:
    """127.0.0.2 passes on what it hears to 127.0.0.1."""
    import threading

    listener = socket.create_server(("127.0.0.2", 0))
    links: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            return
        finally:
            sink.close()

    def serve() -> None:
        try:
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", port))
                links.extend((here, there))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.2:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for link in links:
            link.close()
        thread.join(5)


def test_changed_certificates_are_used_for_the_next_connection(
    tmp_path: Path, authority: Authority, tls_url: str
) -> None:
    own = authority.pair("short-lived")
    server = OpaServer(tls_url, ca=authority.cert, client_cert=own.cert, client_key=own.key)
    with opened(tmp_path, server) as pdp:
        own.key.write_text("gone")
        assert pdp.evaluate(asked()).is_permit  # over the connection that is there
        pdp._transport.close()  # type: ignore[attr-defined]
        assert code_of(pdp) == "pdp_unreachable"
        authority.pair("short-lived")
        assert pdp.evaluate(asked()).is_permit


def test_files_that_are_no_certificates_are_refused_by_name(tmp_path: Path, authority: Authority) -> None:
    own, closed = authority.pair("client"), authority.pair("closed", password=b"secret")
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for settings, words in (
        ({"ca": tmp_path / "missing.pem"}, r"ca='.*missing\.pem'"),
        ({"ca": text}, r"ca='.*text\.pem'"),
        ({"client_cert": text}, r"client_cert='.*text\.pem'"),
        ({"client_cert": own.cert, "client_key": text}, r"client_cert='.*client\.pem'"),
        ({"client_cert": closed.cert, "client_key": closed.key}, "encrypted"),
    ):
        with pytest.raises(ConfigError, match=words):
            open_pdp(bundle_of(tmp_path, HEAD), url=OpaServer("https://127.0.0.1:9", **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "http://a", "ca": "ca.pem"},
        {"url": "unix:///a", "client_cert": "a"},
        {"url": "https://a", "client_key": "a"},
        {"url": "http://a", "deadline_s": 0},
        {"url": "http://a", "deadline_s": float("nan")},
        {"url": "http://a", "deadline_s": True},
        {"url": "http://a", "wait_s": -1},
        {"url": "http://a", "wait_s": "1"},
        {"url": "http://a", "token": "a\r\nX-Evil: 1"},
        {"url": "http://a", "token": ""},
        {"url": 3},
        {"url": None},
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        OpaServer(**settings)  # type: ignore[arg-type]


def test_secret_is_in_no_text_of_the_settings() -> None:
    assert "hush" not in repr(OpaServer("http://a", token="hush"))


# --- Unix socket and token


def test_server_on_a_unix_socket_decides(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/opa.sock"
    with running_opa(url), opened(tmp_path, url) as pdp:
        assert pdp.evaluate(asked()).is_permit
        assert not pdp.evaluate(asked("other")).is_permit
    with Guard(f"{tmp_path}/policies", ledger=tmp_path / "l.db", pdp=None, isolation="thread") as guard:
        assert not any("opa.sock" in path for path in guard.protected_paths)


def test_socket_and_certificates_are_never_writable_for_confined_code(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/opa.sock"
    bundle_of(tmp_path, HEAD)
    with running_opa(url), Guard(f"{tmp_path}/policies", ledger=tmp_path / "l.db", pdp=url) as guard:
        assert f"{tmp_path}/opa.sock" in guard.protected_paths


def test_socket_that_nobody_listens_on_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/dead.sock")
    for name in ("dead.sock", "missing.sock"):
        with pytest.raises(ConfigError, match="cannot be reached"):
            open_pdp(bundle_of(tmp_path, HEAD), url=f"unix://{tmp_path}/{name}")


def test_token_is_what_the_server_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tmp_path / "authz.rego"
    rules.write_text(
        'package system.authz\n\ndefault allow := false\n\nallow if input.identity == "s3cret"\n'
    )
    options = ("--authentication=token", "--authorization=basic", rules)
    with running_opa("127.0.0.1:0", *options) as url:
        with opened(tmp_path, OpaServer(url, token="s3cret")) as pdp:
            assert pdp.evaluate(asked()).is_permit
        monkeypatch.setenv("FUMEHOOD_OPA_TOKEN", "s3cret")
        with opened(tmp_path, url) as pdp:
            assert pdp.evaluate(asked()).is_permit
        for server in (OpaServer(url, token="wrong"), OpaServer(url, token="wrong", upload=False)):
            with pytest.raises(ConfigError, match=r"401|Unauthorized|administrative") as raised:
                open_pdp(bundle_of(tmp_path, HEAD), url=server)
            assert "wrong" not in str(raised.value)


def test_right_to_ask_for_decisions_is_enough_where_nothing_is_uploaded(tmp_path: Path) -> None:
    rules = folder_of(tmp_path / "authz", x_dot_manifest='{"roots": ["system"]}') / "authz.rego"
    (tmp_path / "authz" / "x.manifest").rename(tmp_path / "authz" / ".manifest")
    path = '["v1", "data", "fumehood", "main", "decision"]'
    rules.write_text(
        "package system.authz\n\ndefault allow := false\n\n"
        f'allow if {{\n\tinput.method == "POST"\n\tinput.path == {path}\n}}\n'
    )
    built = tmp_path / "b.tar.gz"
    built.write_bytes(pack(bundle_of(tmp_path, HEAD)))
    with running_opa("127.0.0.1:0", "--authorization=basic", "--bundle", rules.parent, built) as url:
        with opened(tmp_path, OpaServer(url, upload=False)) as pdp:
            assert pdp.evaluate(asked()).is_permit
        with pytest.raises(ConfigError, match="does not show its policies"):
            open_pdp(bundle_of(tmp_path, HEAD), url=url)


# --- what a server does in the middle


def test_server_that_hangs_costs_the_deadline_and_decides_again_when_it_is_back(tmp_path: Path) -> None:
    with started_opa() as running, opened(tmp_path, OpaServer(running.url, deadline_s=20)) as pdp:
        assert pdp.evaluate(asked()).is_permit
        running.pause()
        be_patient(pdp, for_s=0.3)  # now it is
        began = time.monotonic()
        assert code_of(pdp) == "pdp_timeout"
        assert time.monotonic() - began < 3.3
        running.resume()
        be_patient(pdp)
        assert pdp.evaluate(asked()).is_permit


def test_server_that_hangs_for_long_is_not_asked_each_time(tmp_path: Path) -> None:
    with started_opa() as running, opened(tmp_path, OpaServer(running.url, deadline_s=0.05)) as pdp:
        running.pause()
        assert [code_of(pdp) for _ in range(3)] == ["pdp_timeout"] * 3
        with pytest.raises(PdpError, match="asked again in"):
            pdp.evaluate(asked())
        running.resume()
        be_patient(pdp)
        pdp._breaker._open_until = 0.0  # type: ignore[attr-defined]  # the pause is over
        assert pdp.evaluate(asked()).is_permit


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_restarted_server_denies_once_and_is_given_the_policies_again(tmp_path: Path, kind: str) -> None:
    address = free_address() if kind == "tcp" else f"unix://{tmp_path}/opa.sock"
    url = f"http://{address}" if kind == "tcp" else address
    text = HEAD + "permit if call.tool in data.tools\n"
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "data.json").write_text('{"tools": ["listed"]}')
    with running_opa(address):
        pdp = open_pdp(bundle_of(tmp_path, text), url=url)
        assert pdp.evaluate(asked("listed")).is_permit
    assert code_of(pdp) == "pdp_unreachable"
    for _ in range(2):
        with running_opa(address):
            assert code_of(pdp) == "pdp_undefined"
            assert pdp.evaluate(asked("listed")).is_permit
    pdp.close()


def test_server_that_another_guard_took_over_is_not_taken_back(tmp_path: Path) -> None:
    with running_opa() as url, opened(tmp_path / "a", url) as first:
        with opened(tmp_path / "b", url, DENYING) as second:
            assert code_of(first) == "pdp_error"
            assert second.evaluate(asked()).effect is Effect.DENY
            request(url, "DELETE", "/v1/policies/fumehood/bundle.rego")  # as in the middle of an upload
            with pytest.raises(PdpError, match="somebody else is putting another bundle there"):
                first.evaluate(asked())
            assert code_of(second) == "pdp_undefined"
            assert second.evaluate(asked()).effect is Effect.DENY  # it has put its own back
        with opened(tmp_path / "a", url):
            assert first.evaluate(asked()).is_permit  # it is there again


def test_bundle_that_is_there_is_found_and_nothing_is_written(tmp_path: Path) -> None:
    with running_opa() as url, opened(tmp_path, url):
        with opened(tmp_path, OpaServer(url, upload=False)) as pdp:
            assert pdp.evaluate(asked()).is_permit
            request(url, "DELETE", "/v1/policies/fumehood/files/lib/main.rego")
            with pytest.raises(PdpError, match="upload=False") as raised:
                pdp.evaluate(asked())
            assert raised.value.code == "pdp_undefined"
    with (
        running_opa() as url,
        pytest.raises(ConfigError, match="no bundle that `fumehood policy build` made"),
    ):
        open_pdp(bundle_of(tmp_path, HEAD), url=OpaServer(url, upload=False))


def test_half_an_upload_is_made_whole_at_the_next_start(tmp_path: Path) -> None:
    with running_opa() as url:
        with opened(tmp_path, url) as pdp:
            whole = ids_at(url)
            request(
                url,
                "PUT",
                "/v1/policies/fumehood/files/left.rego",
                b"package policies.left\n\npermit := true\n",
            )
            assert code_of(pdp, "other") == "pdp_error"
        with opened(tmp_path, url) as pdp:
            assert pdp.evaluate(asked("other")).effect is Effect.DENY
            assert ids_at(url) == whole


LIBRARY = "/v1/policies/fumehood/files/lib/call.rego"


def test_library_that_is_there_stays_while_policies_are_changed(tmp_path: Path) -> None:
    with started_opa() as running:
        with opened(tmp_path / "a", running.url):
            pass
        assert (before := asked_for(LIBRARY, running))
        with opened(tmp_path / "b", running.url, DENYING) as pdp:
            assert pdp.evaluate(asked()).effect is Effect.DENY
        assert asked_for(LIBRARY, running) == before


def asked_for(path: str, running: Running) -> int:
    """How often: the server says so before it answers, and once more at some time after that."""
    lines = running.said().splitlines()
    return sum(path in line and "Received request" in line for line in lines)


def test_library_that_was_changed_is_put_there_anew(tmp_path: Path) -> None:
    with running_opa() as url:
        with opened(tmp_path / "a", url):
            whole = request(url, "GET", LIBRARY)[1]["result"]["raw"]  # type: ignore[index,call-overload]
            other = str(whole).replace("default tool := ", 'default tool := "other" #')
            assert request(url, "PUT", LIBRARY, other.encode())[0] == 200
        with opened(tmp_path / "b", url, DENYING) as pdp:
            assert pdp.evaluate(asked()).effect is Effect.DENY
            assert request(url, "GET", LIBRARY)[1]["result"]["raw"] == whole  # type: ignore[index,call-overload]


def test_data_that_is_gone_is_put_there_again_at_the_next_start(tmp_path: Path) -> None:
    folder_of(tmp_path / "policies", data_dot_json='{"tools": ["listed"]}')
    text = HEAD + "permit if call.tool in data.tools\n"
    with running_opa() as url:
        for _ in range(2):
            with opened(tmp_path, url, text) as pdp:
                assert pdp.evaluate(asked("listed")).is_permit
            assert request(url, "DELETE", "/v1/data/tools")[0] == 204


def test_somebody_else_who_writes_at_the_same_time_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Administration._put

    def put_and_more(self: Administration, client: object, texts: Mapping[str, str]) -> None:
        put(self, client, texts)
        request(url, "PUT", "/v1/policies/evil", b"package policies.evil\n\npermit := true\n")

    with running_opa() as url:
        monkeypatch.setattr(Administration, "_put", put_and_more)
        with pytest.raises(ConfigError, match="somebody else changes the policies"):
            open_pdp(bundle_of(tmp_path, HEAD), url=url)


def test_server_that_starts_later_is_waited_for(tmp_path: Path) -> None:
    import threading

    address = free_address()
    done = threading.Event()

    def later() -> None:
        time.sleep(0.3)
        with running_opa(address):
            done.wait(20)

    thread = threading.Thread(target=later)
    thread.start()
    try:
        with opened(tmp_path, OpaServer(f"http://{address}", wait_s=15)) as pdp:
            assert pdp.evaluate(asked()).is_permit
    finally:
        done.set()
        thread.join()
    with pytest.raises(ConfigError, match=r"did not become healthy within 0\.2"):
        open_pdp(bundle_of(tmp_path, HEAD), url=OpaServer(f"http://{address}", wait_s=0.2))


def test_forked_child_asks_for_itself(tmp_path: Path) -> None:
    with running_opa() as url, opened(tmp_path, url) as pdp:
        assert pdp.evaluate(asked()).is_permit
        child = os.fork()
        if child == 0:
            os._exit(0 if pdp.evaluate(asked()).is_permit else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert pdp.evaluate(asked()).is_permit


def test_guard_whose_server_hangs_runs_nothing_and_goes_on_afterwards(tmp_path: Path) -> None:
    ran: list[int] = []
    bundle_of(tmp_path, HEAD)
    with started_opa() as running:
        server = OpaServer(running.url, deadline_s=0.2)
        with Guard(f"{tmp_path}/policies", ledger=tmp_path / "l.db", pdp=server) as guard:
            running.pause()
            with pytest.raises(Denied) as raised:
                guard.call("read", {}, run=lambda: ran.append(1))
            assert (raised.value.code, ran) == ("pdp_timeout", [])
            running.resume()
            be_patient(guard.pdp)
            guard.call("read", {}, run=lambda: ran.append(1))
    assert ran == [1]


# --- decision ids


def test_id_of_the_servers_decision_is_in_the_trace(tmp_path: Path) -> None:
    bundle_of(tmp_path, DENYING.replace('"read"\n\ndeny', '"read"\n\npermit if call.tool == "write"\n\ndeny'))
    ran: list[str] = []
    with started_opa("127.0.0.1:0", "--set", "decision_logs.console=true") as running:
        with Guard(f"{tmp_path}/policies", ledger=tmp_path / "l.db", pdp=running.url) as guard:
            guard.call("write", {}, run=lambda: ran.append("write"))
            with pytest.raises(Denied):
                guard.call("read", {}, run=lambda: ran.append("read"))
        for _ in range(1000):  # it need not have been written when the answer is
            logged = {
                entry["decision_id"]
                for line in running.said().splitlines(keepends=True)
                if line.endswith("\n")
                and (entry := json.loads(line)).get("msg") == "Decision Log"
                and "main" in entry.get("path", "")
            }
            if len(logged) >= 2:
                break
            time.sleep(0.02)
    ledger = open_ledger(tmp_path / "l.db", readonly=True)
    ids = [
        json.loads(event.attributes).get("fumehood.policy.decision_id")
        for event in ledger.events(limit=100)
        if event.kind == "decision"
    ]
    ledger.close()
    assert ran == ["write"]
    assert len(ids) == 2 and len(set(ids)) == 2
    assert set(ids) <= logged
