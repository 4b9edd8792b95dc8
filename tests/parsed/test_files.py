"""Where a path leads on this host: links named, and nothing said of what cannot be known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fumehood.parsed.files import file_of
from fumehood.parsed.words import Unparseable


def found(path: object, cwd: object = "/") -> dict[str, Any]:
    return cast("dict[str, Any]", file_of(str(path), cwd=str(cwd)))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", "/nonexistent")
    where = tmp_path.resolve()
    (where / "models").mkdir()
    (where / "models" / "a").write_text("x")
    (where / "out").symlink_to("/etc")
    (where / "models" / "up").symlink_to("..")
    (where / "models" / "link").symlink_to("a")
    (where / "loop").symlink_to("loop")
    return where


def test_plain_file_leads_to_itself(root: Path) -> None:
    assert found(root / "models/a", root) == {
        "leads_to": f"{root}/models/a", "links": [], "is_link": False, "exists": True, "type": "file",
        "in_home": False, "in_workdir": True,
    }  # fmt: skip


def test_symbolic_links_are_followed_and_named(root: Path) -> None:
    answer = found(root / "out/passwd")
    assert (answer["leads_to"], answer["links"], answer["is_link"]) == ("/etc/passwd", [f"{root}/out"], False)
    link = found(root / "models/link")
    assert (link["leads_to"], link["is_link"]) == (f"{root}/models/a", True)


def test_dots_climb_from_where_a_link_leads_as_the_kernel_does(root: Path) -> None:
    (root / "deep").mkdir()
    (root / "models" / "deep").symlink_to(root / "deep")
    assert found(f"{root}/models/deep/../x")["leads_to"] == f"{root}/x"
    assert found(f"{root}/models/up/models/./up/models/a")["leads_to"] == f"{root}/models/a"


def test_what_is_not_there_is_named_missing(root: Path) -> None:
    answer = found(root / "models/new")
    assert (answer["leads_to"], answer["exists"], answer["type"]) == (f"{root}/models/new", False, "missing")
    assert found("models", root)["type"] == "folder"
    assert found("/dev/null")["type"] == "special"


def test_home_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert found(root / "models/a")["in_home"] is True
    assert found("/etc/passwd")["in_home"] is False


def test_what_nobody_can_know_is_unparseable(root: Path) -> None:
    os.symlink(b"\xff\xfe", os.fsencode(root / "odd"))
    (root / "proc").symlink_to("/proc/self/root")
    for path in (
        "loop", "loop/x", "odd", "proc/etc/shadow", "models/a/b", "new/../x", "a" * 300, "a/" * 1500 + "b",
    ):  # fmt: skip
        with pytest.raises(Unparseable):
            print(path[:20], found(root / path if len(path) < 400 else f"{root}/{path}"))
    for path in ("/proc/self/environ", "/dev/fd/3", "/dev/stdin"):
        with pytest.raises(Unparseable):
            found(path)


def test_folder_that_may_not_be_looked_into_is_unparseable(root: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may look everywhere")
    (root / "models").chmod(0)
    try:
        with pytest.raises(Unparseable):
            found(root / "models/a")
    finally:
        (root / "models").chmod(0o700)


PARTS = st.sampled_from(["models", "a", "up", "link", "..", ".", "", "out", "new", "passwd"])


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(PARTS, max_size=7))
def test_it_leads_where_the_kernel_would_go(
    parts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("files").resolve()
    (root / "models").mkdir()
    (root / "models" / "a").write_text("x")
    (root / "out").symlink_to("/etc")
    (root / "models" / "up").symlink_to("..")
    (root / "models" / "link").symlink_to("a")
    path = f"{root}/{'/'.join(parts)}"
    try:
        opened = os.open(path, os.O_PATH)
    except OSError:
        return
    try:
        kernel = os.readlink(f"/proc/self/fd/{opened}")
    finally:
        os.close(opened)
    assert found(path)["leads_to"] == kernel
