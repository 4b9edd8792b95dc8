"""One deadline for a whole exchange, whatever a server does with its bytes; no answer to another question."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pdp.certificates import Authority

from fumehood.errors import ConfigError, PdpError
from fumehood.pdp import connecting
from fumehood.pdp.server import OpaServer
from fumehood.pdp.transport import Transport

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
DEADLINE_S = 0.25


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that gives each connection to *serve*, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    threads: list[threading.Thread] = []

    def one(link: socket.socket) -> None:
        with link:
            try:
                serve(link)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=one, args=(link,), daemon=True)
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (acceptor, *threads):
            thread.join(5)


def hear(link: socket.socket) -> bytes:
    """One request; nothing at the end."""
    heard = b""
    while not heard.endswith(b"{}"):
        part = link.recv(65536)
        if not part:
            return b""
        heard += part
    return heard


def drip(link: socket.socket, text: bytes) -> None:
    """*text* again and again, a byte each time, much faster than the deadline."""
    for _ in range(60):
        for at in range(len(text)):
            link.sendall(text[at : at + 1])
            time.sleep(0.01)


def drips_its_head(link: socket.socket) -> None:
    hear(link)
    drip(link, b"HTTP/1.1 200 OK\r\nX: y\r\n")


def drips_its_status(link: socket.socket) -> None:
    hear(link)
    drip(link, b"HTTP/1.1 200 O" + b"O" * 100)


def goes_on_asking_to_continue(link: socket.socket) -> None:
    hear(link)
    drip(link, b"HTTP/1.1 100 Continue\r\n\r\n")


def drips_chunks(link: socket.socket) -> None:
    hear(link)
    link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(link, b"1\r\n \r\n")


def hears_slowly(link: socket.socket) -> None:
    for _ in range(60):
        link.recv(65536)
        time.sleep(0.02)


@pytest.mark.parametrize(
    "serve",
    [drips_its_head, drips_its_status, goes_on_asking_to_continue, drips_chunks, hears_slowly],
    ids=lambda serve: serve.__name__,
)
def test_deadline_cannot_be_stretched(serve: Callable[[socket.socket], None]) -> None:
    body = b"x" * (8 << 20) if serve is hears_slowly else b"{}"
    with serving(serve) as url:
        transport = Transport(OpaServer(url))
        began = time.monotonic()
        with pytest.raises(PdpError) as raised:
            transport.post("/", body, within_s=DEADLINE_S)
        assert raised.value.code == "pdp_timeout"
        assert time.monotonic() - began < DEADLINE_S + 3
        transport.close()


def test_deadline_holds_for_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.pair("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.cert, own.key)

    def shakes_no_hand(link: socket.socket) -> None:
        link.recv(65536)
        drip(link, b"\x16\x03\x03\x40\x00")

    def drips(link: socket.socket) -> None:
        with context.wrap_socket(link, server_side=True) as secured:
            hear(secured)
            drip(secured, b"HTTP/1.1 200 OK\r\nX: y\r\n")

    for serve in (shakes_no_hand, drips):
        with serving(serve) as url:
            transport = Transport(OpaServer(url.replace("http", "https"), ca=authority.cert))
            with pytest.raises(PdpError) as raised:
                transport.post("/", b"{}", within_s=DEADLINE_S)
            assert raised.value.code == "pdp_timeout"
            transport.close()


def test_name_that_is_not_found_in_time_costs_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def hang(*given: object, flags: int = 0, **_: object) -> list[object]:
        if flags:
            raise socket.gaierror("not a number")
        never.wait(10)
        return []

    monkeypatch.setattr(connecting.socket, "getaddrinfo", hang)
    transport = Transport(OpaServer("http://opa.invalid"))
    began = time.monotonic()
    with pytest.raises(PdpError) as raised:
        transport.post("/", b"{}", within_s=DEADLINE_S)
    assert raised.value.code == "pdp_timeout"
    assert time.monotonic() - began < DEADLINE_S + 3
    never.set()


def test_name_that_nobody_knows_is_unreachable() -> None:
    with pytest.raises(PdpError) as raised:
        Transport(OpaServer("http://opa.invalid")).post("/", b"{}", within_s=5)
    assert raised.value.code == "pdp_unreachable"


@pytest.mark.parametrize("host", ["a" * 70, "a..b", ".", "\udc80"])
def test_name_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="pdp="):
        OpaServer(f"http://{host}")


def test_name_in_another_script_is_asked_for_in_ascii() -> None:
    assert OpaServer("http://b\u00fccher.example").address.host == "xn--bcher-kva.example"


def test_second_address_is_tried_if_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(link: socket.socket) -> None:
        hear(link)
        link.sendall(ANSWER)

    with serving(answers) as url:
        port = int(url.rpartition(":")[2])
        places = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.9", "127.0.0.1")
        ]
        monkeypatch.setattr(connecting.socket, "getaddrinfo", lambda *_, **__: places)
        transport = Transport(OpaServer(f"http://opa.invalid:{port}"))
        assert transport.post("/", b"{}", within_s=5).status == 200
        transport.close()


@pytest.mark.parametrize("is_at_once", [True, False])
def test_answer_that_nobody_asked_for_is_never_taken_for_one(is_at_once: bool) -> None:
    words: list[threading.Event] = []  # one for each connection
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

    def serve(link: socket.socket) -> None:
        words.append(said := threading.Event())
        while hear(link):
            link.sendall(ANSWER + evil if is_at_once else ANSWER)
            if not is_at_once:
                said.wait(5)
                link.sendall(evil)
                said.clear()

    with serving(serve) as url:
        transport = Transport(OpaServer(url))
        for _ in range(3):
            assert transport.post("/", b"{}", within_s=5).body == b"{}"
            assert len(transport._idle) == (0 if is_at_once else 1)
            words[-1].set()
            for idle in transport._idle:
                connecting.select.select([idle], [], [], 5)
        transport.close()
        for said in words:
            said.set()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "pdp_malformed"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n", "pdp_malformed"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "pdp_malformed"),
        (b"HTTP/9.9 200 OK\r\n\r\n", "pdp_malformed"),
        (b"\x00\xff" * 100 + b"\r\n\r\n", "pdp_malformed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "pdp_unreachable"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "pdp_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "pdp_unreachable"),
    ],
)
def test_answer_that_is_garbage_is_an_error_and_the_next_is_heard(text: bytes, code: str) -> None:
    answers = [text, ANSWER]

    def serve(link: socket.socket) -> None:
        hear(link)
        link.sendall(answers.pop(0))

    with serving(serve) as url:
        transport = Transport(OpaServer(url))
        with pytest.raises(PdpError) as raised:
            transport.post("/", b"{}", within_s=5)
        assert raised.value.code == code
        assert transport.post("/", b"{}", within_s=5).body == b"{}"
        transport.close()


def test_redirect_is_not_followed() -> None:
    asked: list[bytes] = []

    def serve(link: socket.socket) -> None:
        while heard := hear(link):
            asked.append(heard)
            link.sendall(b"HTTP/1.1 307 Go\r\nLocation: http://evil.invalid/\r\nContent-Length: 0\r\n\r\n")

    with serving(serve) as url:
        transport = Transport(OpaServer(url, token="t"))
        assert transport.post("/", b"{}", within_s=5).status == 307
        assert len(asked) == 1 and b"Authorization: Bearer t\r\n" in asked[0]
        transport.close()


def test_connections_are_kept_and_not_shared_with_a_child() -> None:
    count: list[int] = []

    def serve(link: socket.socket) -> None:
        count.append(1)
        while hear(link):
            link.sendall(ANSWER)

    with serving(serve) as url:
        transport = Transport(OpaServer(url))
        for _ in range(5):
            transport.post("/", b"{}", within_s=5)
        assert len(count) == 1
        child = os.fork()
        if child == 0:
            os._exit(0 if transport.post("/", b"{}", within_s=5).status == 200 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert len(count) == 2
        assert transport.post("/", b"{}", within_s=5).status == 200
        assert len(count) == 2
        transport.close()


def test_many_threads_get_their_own_answers() -> None:
    def serve(link: socket.socket) -> None:
        while heard := hear(link):
            number = heard.partition(b"/n")[2].split(b" ")[0]
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(number), number))

    wrong: list[bytes] = []
    with serving(serve) as url:
        transport = Transport(OpaServer(url))

        def ask(thread: int) -> None:
            for at in range(50):
                number = str(thread * 1000 + at).encode()
                if transport.post(f"/n{number.decode()}", b"{}", within_s=10).body != number:
                    wrong.append(number)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        transport.close()
    assert wrong == []
