"""An outside catalogue: what the test pickles of two published scanners do, loaded in `model-loader`.

Both ways: without confinement each does its deed, which is a file or a connection; confined, nothing of it is
seen from outside, and what was tried is in `refused`.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from confine.pickle_rows import ROWS
from confine.pickles import Aim, Row
from fumehood import confine

#: Reads a model as its users do: an archive, something compressed, an array of numpy's, pickles in a row.
LOADER = """
import bz2, gzip, io, lzma, pickle, sys, warnings, zipfile, zlib
warnings.simplefilter("ignore")
body = sys.stdin.buffer.read()
unpack = {b"\\x1f": gzip.decompress, b"x": zlib.decompress, b"B": bz2.decompress, b"\\xfd": lzma.decompress}
body = unpack.get(body[:1], bytes)(body)
if body[:2] == b"PK":
    archive = zipfile.ZipFile(io.BytesIO(body))
    body = archive.read(next(n for n in archive.namelist() if n.endswith(".pkl")))
file = io.BytesIO(body)
if body[:6] == b"\\x93NUMPY":
    file.seek(10 + int.from_bytes(body[8:10], "little"))
value = None
while file.tell() < len(body):
    value = pickle.load(file)
print(repr(value))
"""
TRIED = {
    "program": {"exec", "open for writing", "open", "mkdir", "mknod"},
    "write": {"open for writing", "mkdir"},
    "connect": {"connect", "socket"},
}


class Server:
    """Answers nobody, and counts who came."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._socket.accept()[0]
            except OSError:
                return
            self.count += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def aim(tmp_path: Path, server: Server) -> Aim:
    """Where anybody could write."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent == Path("/tmp") or parent.stat().st_uid != os.getuid():
            break
        parent.chmod(parent.stat().st_mode | 0o055)
    return Aim(str(tmp_path / "canary"), server.port)


def _needs(row: Row) -> None:
    if row.needs and not _is_there(row.needs):
        pytest.skip(f"{row.needs} is not installed here")


def _is_there(module: str) -> bool:
    module, _, attribute = module.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return find_spec(module) is not None and (
                not attribute or hasattr(import_module(module), attribute)
            )
        except ImportError:
            return False


def _was_done(row: Row, aim: Aim, server: Server, before: int) -> bool:
    return server.count > before if row.deed == "connect" else Path(aim.canary).exists()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.origin}-{row.name}")
def test_unconfined_it_does_its_deed(row: Row, aim: Aim, server: Server, tmp_path: Path) -> None:
    _needs(row)
    before = server.count
    subprocess.run(
        [sys.executable, "-c", LOADER],
        input=row.make(aim),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert _was_done(row, aim, server, before), "it proves nothing"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.origin}-{row.name}")
def test_in_model_loader_nothing_happens(row: Row, aim: Aim, server: Server, tier: str) -> None:
    _needs(row)
    before = server.count
    outcome = confine.python(LOADER, profile="model-loader", tier=tier, stdin=row.make(aim), timeout_s=30)
    assert outcome.exit.kind == "exited", outcome
    assert not _was_done(row, aim, server, before)
    if row.needs and b"No module named" in outcome.stderr:
        pytest.skip(f"{row.needs} comes from PYTHONPATH here, which jobs do not see")
    assert {attempt.operation for attempt in outcome.refused} & TRIED[row.deed], outcome


def test_the_catalogue_is_large_and_mostly_not_ours() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert sum(row.origin in "PF" for row in ROWS) >= 40


BENIGN = {
    "plain data": {"weights": [0.5, 1.5], "name": "a model"},
    "a class of the standard library": __import__("fractions").Fraction(1, 3),
    "bytes that look like code": b"cos\nsystem\n(S'true'\ntR.",
    "sets, dates and memo": (__import__("datetime").date(2024, 2, 29), {1, 2}, [[1]] * 3),
}


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("what", BENIGN)
def test_a_benign_pickle_gives_its_value(what: str, protocol: int, tier: str) -> None:
    body = pickle.dumps(BENIGN[what], protocol)
    outcome = confine.python(LOADER, profile="model-loader", tier=tier, stdin=body)
    assert outcome.exit.is_success, outcome
    assert outcome.stdout.decode() == repr(BENIGN[what]) + "\n"
    assert not outcome.refused


BROKEN = {
    "cut in the middle": pickle.dumps(list(range(1000)), 4)[:-100],
    "a length that is not there": b"cbuiltins\nexec\n(X>\nf = open('x', 'a')",
    "no pickle at all": b"cmod\n\xf8\n",
    "a mark without an end": b"\x80\x04(((.",
    "too deep": b"\x80\x04" + b"(" * 100 + b"l" * 100_000 + b".",
    "a memo as large as memory": b"\x80\x04Nr\xff\xff\xff\x7f.",
    "an allocation as large as memory": b"\x80\x04\x8e" + (1 << 45).to_bytes(8, "little") + b"x.",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_pickle_ends_with_an_error_of_pythons(what: str, tier: str) -> None:
    outcome = confine.python(LOADER, profile="model-loader", tier=tier, stdin=BROKEN[what])
    assert (outcome.exit.kind, outcome.exit.code) == ("exited", 1), outcome
    assert confine.python("print(1)", profile="model-loader", tier=tier).stdout == b"1\n"


def test_a_pickle_that_ends_its_reader_says_so(tier: str) -> None:
    body = pickle.dumps(Ends(), 4)
    outcome = confine.python(LOADER, profile="model-loader", tier=tier, stdin=body)
    assert (outcome.exit.kind, outcome.exit.code, outcome.stdout) == ("exited", 7, b"")


class Ends:
    """sys.exit(7)."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return sys.exit, (7,)
