"""Who may touch a ledger, where it may lie, and what is refused."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fumehood.errors import LedgerError
from fumehood.ledger import default_path, files, open_ledger, schema
from fumehood.ledger.sqlite import SqliteLedger
from ledger.samples import PERMIT, a_call


def refused(path: Path, **options: bool) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        open_ledger(path, **options)
    return caught.value


def test_default_is_the_environment_then_the_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert default_path() == str(tmp_path / "state" / "fumehood" / "ledger.db")
    opened = open_ledger()
    assert opened.path == default_path()
    opened.close()
    monkeypatch.setenv("FUMEHOOD_LEDGER", str(tmp_path / "other.db"))
    assert default_path() == str(tmp_path / "other.db")
    monkeypatch.delenv("FUMEHOOD_LEDGER")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_path() == str(Path("~/.local/state/fumehood/ledger.db").expanduser())


def test_everything_is_private_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        opened = open_ledger(tmp_path / "l.db")
        opened.record(a_call(), PERMIT, document=b"{}")
        made = [*tmp_path.glob("l.db*"), *(tmp_path / "l.db.leases").iterdir()]
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in made}
    finally:
        os.umask(before)
    assert {"l.db", "l.db-wal", "l.db-shm", "l.db.leases"} <= set(modes)
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes
    opened.close()


@pytest.mark.parametrize("name", ["l.db", "l.db-wal", "l.db-shm"])
def test_link_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").touch(mode=0o600)
    (tmp_path / name).symlink_to(tmp_path / "target")
    assert refused(tmp_path / "l.db").code == "ledger_unsafe"
    assert (tmp_path / "target").read_bytes() == b""


def test_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.db").symlink_to(tmp_path / "nowhere")
    assert refused(tmp_path / "l.db").code == "ledger_unsafe"
    assert not (tmp_path / "nowhere").exists()


def test_file_that_others_may_read_is_refused(path: Path) -> None:
    open_ledger(path).close()
    path.chmod(0o644)
    error = refused(path)
    assert error.code == "ledger_unsafe"
    assert f"chmod 600 {path}" in str(error)


def test_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert refused(tmp_path / "open" / "l.db").code == "ledger_unsafe"


def test_leases_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "l.db.leases").mkdir()
    (tmp_path / "l.db.leases").chmod(0o755)
    assert refused(tmp_path / "l.db").code == "ledger_unsafe"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_file_of_another_user_is_refused(path: Path) -> None:
    open_ledger(path).close()
    os.chown(path, 65534, 65534)
    assert "belongs to user 65534" in str(refused(path))


_AS_NOBODY = """
import os, sqlite3, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
try:
    sqlite3.connect(sys.argv[1]).execute("SELECT * FROM events").fetchall()
except sqlite3.OperationalError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_second_user_cannot_open_it(path: Path) -> None:
    opened = open_ledger(path)
    for folder in (path.parent, *path.parent.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(folder.stat().st_mode | 0o005)  # so that only the file's own mode stands in the way
    done = subprocess.run([sys.executable, "-S", "-c", _AS_NOBODY, str(path)], capture_output=True, text=True)
    opened.close()
    assert "unable to open" in done.stdout, done


def test_missing_ledger_is_not_made_for_a_reader(tmp_path: Path) -> None:
    for options in ({"create": False}, {"readonly": True}):
        assert refused(tmp_path / "l.db", **options).code == "ledger_missing"
    assert refused(tmp_path / "no" / "l.db").code == "ledger_missing"
    assert list(tmp_path.glob("l.db*")) == []


def test_newer_version_is_refused_and_left_alone(path: Path) -> None:
    open_ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    before = path.read_bytes()
    error = refused(path)
    assert (error.code, f"version {schema.VERSION + 1}" in str(error)) == ("ledger_version", True)
    assert path.read_bytes() == before


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to look at" * 30)
    text.chmod(0o600)
    assert refused(text).code == "ledger_foreign"
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    other.chmod(0o600)
    assert refused(other).code == "ledger_foreign"


def test_damaged_file_is_a_ledger_error(path: Path) -> None:
    opened = open_ledger(path)
    for _ in range(50):
        opened.record(a_call(), PERMIT, document=b"x" * 2000)
    opened.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(LedgerError) as caught:
        damaged = open_ledger(path)
        damaged.record(a_call(), PERMIT, document=b"")
    assert caught.value.code in ("ledger_corrupt", "ledger_foreign")


@pytest.mark.parametrize("magic", [0x6969, 0xFF534D42, 0x65735546, 0x01021997])
def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, magic: int) -> None:
    monkeypatch.setattr(files, "_file_system", lambda folder: magic)
    assert refused(tmp_path / "l.db").code == "ledger_network"
    assert list(tmp_path.glob("l.db*")) == []


def test_file_system_is_asked_of_the_kernel(tmp_path: Path) -> None:
    assert files._file_system(Path("/proc")) == 0x9FA0
    assert files._file_system(tmp_path) not in files._NETWORK


def test_ledger_that_is_removed_under_us_records_nothing(path: Path) -> None:
    opened = open_ledger(path)
    path.unlink()
    for _ in range(2):
        with pytest.raises(LedgerError) as caught:
            opened.record(a_call(), PERMIT, document=b"")
        assert caught.value.code == "ledger_replaced"
    path.touch(mode=0o600)
    with pytest.raises(LedgerError):
        opened.claim(a_call(), None)
    opened.close()


def test_closed_ledger_says_so(path: Path) -> None:
    opened = open_ledger(path)
    opened.close()
    opened.close()
    with pytest.raises(LedgerError) as caught:
        opened.record(a_call(), PERMIT, document=b"")
    assert caught.value.code == "ledger_closed"


def test_origin_stays_with_the_file(path: Path) -> None:
    first, second = open_ledger(path), open_ledger(path, durability="power")
    assert first.origin == second.origin
    assert len(first.origin) == 32
    assert first.lease != second.lease
    first.close()
    second.close()


def test_readonly_ledger_reads(ledger: SqliteLedger, path: Path) -> None:
    ledger.record(a_call(), PERMIT, document=b"{}")
    reader = open_ledger(path, readonly=True)
    assert [e.kind for e in reader.events()] == ["session", "decision"]
    with pytest.raises(LedgerError) as caught:
        reader.record(a_call(), PERMIT, document=b"")
    assert caught.value.code == "ledger_readonly"
    reader.close()
