"""What a job may not change in a folder that it may write: what the caller's own tools would obey later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host import require

from fumehood import confine
from fumehood.confine.masks import CACHES, below, kept_in, kept_names
from fumehood.confine.profile import Profile, named
from fumehood.errors import ConfinementError

FILES = (".bashrc", ".env", ".envrc", ".gitconfig", ".gitmodules", ".npmrc", ".pre-commit-config.yaml")
FOLDERS = (".git", ".github", ".ssh", ".vscode")
#: Everything that a job could do to one entry. Each is tried by itself, and most must fail.
ATTACK = """
import ctypes, os, shutil, sys
libc = ctypes.CDLL(None)
open('ran', 'w').close(); open('own', 'w').write('evil'); os.mkdir('folder')
open('folder/config', 'w').write('evil')
for name in sys.argv[1:]:
    is_folder = os.path.isdir(name)
    inner = name + '/config' if is_folder else name
    for act in (
        lambda: open(inner, 'w').write('evil'),
        lambda: open(inner, 'a').write('evil'),
        lambda: os.truncate(inner, 0),
        lambda: os.unlink(inner),
        lambda: os.chmod(inner, 0o777),
        lambda: os.utime(inner, (1, 1)),
        lambda: os.setxattr(inner, 'user.evil', b'1'),
        lambda: os.rename(inner, 'taken'),
        lambda: os.link(inner, 'linked') or open('linked', 'w').write('evil'),
        lambda: os.replace('own', inner),
        lambda: os.replace('folder' if is_folder else 'own', name),
        lambda: libc.renameat2(-100, b'folder' if is_folder else b'own', -100, name.encode(), 2),
        lambda: os.rename(name, 'moved') or open('moved/config' if is_folder else 'moved', 'w').write('evil'),
        lambda: shutil.rmtree(name),
        lambda: open(name + '/hooks/pre-commit', 'w').write('evil'),
        lambda: os.symlink('/tmp', name + '/link'),
        lambda: open('/proc/self/cwd/' + inner, 'w').write('evil'),
        lambda: open('../' + os.path.basename(os.getcwd()) + '/' + inner, 'w').write('evil'),
        lambda: libc.umount2(name.encode(), 2),
        lambda: libc.mount(b'folder', name.encode(), None, 4096, None),
    ):
        try: act()
        except Exception: pass
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with something of everything."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text("kept")
    for name in FOLDERS:
        (folder / name / "hooks").mkdir(parents=True)
        (folder / name / "config").write_text("kept")
    return folder


def seen(folder: Path) -> dict[str, Any]:
    """All there is: names, kinds, modes, times, contents."""

    def walk(path: Path) -> Iterator[tuple[str, Any]]:
        status = path.lstat()
        body = path.read_bytes() if path.is_file() else None
        yield str(path.relative_to(folder)), (status.st_mode, status.st_mtime_ns, status.st_ino, body)
        for child in sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else ():
            yield from walk(child)

    kept = [folder / name for name in (*FILES, *FOLDERS)]
    return {name: facts for path in kept if path.exists() for name, facts in walk(path)}


def test_nothing_with_a_dot_changes_in_a_working_folder(work: Path, tier: str) -> None:
    before = seen(work)
    names = (*FILES, *FOLDERS)
    if tier == "no-userns" and os.geteuid() != 0:
        with pytest.raises(ConfinementError, match="read-only inside"):
            confine.python(ATTACK, args=names, workdir=work, tier=tier)
    else:
        outcome = confine.python(ATTACK, args=names, workdir=work, tier=tier)
        assert outcome.exit.code == 0, outcome.stderr
        assert (work / "ran").exists()  # and it could write beside them
    assert seen(work) == before


def test_the_attacks_succeed_where_nothing_is_kept(work: Path) -> None:
    """Else the test above would prove nothing."""
    import subprocess
    import sys

    before = seen(work)
    subprocess.run([sys.executable, "-c", ATTACK, *FILES, *FOLDERS], cwd=work, check=True)
    after = seen(work)
    assert not [name for name in before if after.get(name) == before[name] and "/" not in name]


def test_a_folder_that_is_added_for_writing_is_kept_as_well(work: Path, tmp_path: Path) -> None:
    require("userns")
    before = seen(work)
    script = f"import os; os.chdir({str(work)!r})\n" + ATTACK
    outcome = confine.python(script, args=(*FILES, *FOLDERS), write=[str(work)], tier="full")
    assert outcome.exit.code == 0, outcome.stderr
    assert (work / "ran").exists()
    assert seen(work) == before


def test_the_cover_moves_along_when_the_folder_around_it_is_renamed(work: Path) -> None:
    require("userns")
    (work / "sub/.git").mkdir(parents=True)
    (work / "sub/.git/config").write_text("kept")
    keeping = named("python-offline").model_copy(update={"keep": (str(work / "sub/.git"),)})
    script = """
import os
os.rename('sub', 'other')
for path in ('other/.git/config', 'other/.git/new', 'other/.git'):
    try: open(path, 'w').write('evil')
    except OSError: pass
    try: os.rename(path, 'taken')
    except OSError: pass
"""
    outcome = confine.python(script, workdir=work, profile=keeping, tier="full")
    assert outcome.exit.code == 0, outcome.stderr
    assert (work / "other/.git/config").read_text() == "kept"
    assert os.listdir(work / "other/.git") == ["config"]
    assert not (work / "taken").exists()


def test_the_folder_of_the_job_cannot_be_renamed_away_from_under_its_covers(
    work: Path, tmp_path: Path
) -> None:
    require("userns")
    script = f"""
import os
for old in ({str(work)!r}, {str(tmp_path)!r}):
    try: os.rename(old, old + '-moved')
    except OSError: pass
"""
    confine.python(script, workdir=work, tier="full")
    assert (work / ".git/config").read_text() == "kept"


def test_what_is_named_for_writing_may_be_changed(work: Path) -> None:
    require("userns")
    script = "open('.git/config', 'w').write('changed'); open('.env', 'w').write('changed')"
    outcome = confine.python(script, workdir=work, write=[str(work / ".git")], tier="full")
    assert outcome.exit.code == 1  # .env is kept as before
    assert (work / ".git/config").read_text() == "changed"
    assert (work / ".env").read_text() == "kept"


def test_caches_and_new_entries_are_the_jobs_own(tmp_path: Path, tier: str) -> None:
    for name in CACHES:
        (tmp_path / name).write_text("old")
    script = "import sys\nfor name in sys.argv[1:]: open(name, 'w').write('new')"
    outcome = confine.python(script, args=(*CACHES, ".new"), workdir=tmp_path, tier=tier)
    assert outcome.exit.code == 0, outcome.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        (*CACHES, ".new"), "new"
    )


@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_link_that_an_earlier_job_left_opens_nothing(tmp_path: Path, tier: str, target: str) -> None:
    """What is covered is opened by us: through a link that would be the caller's own secret."""
    work, secret = tmp_path / "work", tmp_path / "secret"
    work.mkdir()
    if target == "folder":
        secret.mkdir()
    (secret if target == "file" else secret / "key").write_text("in-the-secret")
    made = confine.python(f"import os; os.symlink({str(secret)!r}, '.git')", workdir=work, tier=tier)
    assert made.exit.code == 0
    for path in (".git", ".git/key"):
        outcome = confine.run(["/bin/cat", path], profile="shell", workdir=work, tier=tier)
        assert b"in-the-secret" not in outcome.stdout
        assert outcome.exit.code == 1
    copied = os.geteuid() == 0 and tier == "no-userns"  # links do not come home
    assert (work / ".git").is_symlink() is not copied


@pytest.mark.parametrize("way", ["read", "write"])
def test_a_link_that_an_earlier_job_left_is_not_followed_where_a_path_is_named(
    tmp_path: Path, tier: str, way: str
) -> None:
    """The caller names a folder inside the working folder in every call; a job has replaced it meanwhile."""
    work, secret = tmp_path / "work", tmp_path / "secret"
    (work / "data").mkdir(parents=True)
    secret.mkdir()
    (secret / "key").write_text("kept")
    (work / "data").rmdir()
    (work / "data").symlink_to(secret)  # as any job in that folder can
    with pytest.raises(ConfinementError, match="through a link"):
        confine.python("", tier=tier, **{way: [str(work / "data")]})
    with pytest.raises(ConfinementError, match="through a link"):
        confine.python("", tier=tier, **{way: [str(work / "data/key")]})
    linked = Profile(name="x", **{way: (str(work / "data"),)})
    with pytest.raises(ConfinementError, match="cannot be shown"):
        confine.python("", profile=linked, tier=tier)


def test_a_hundred_entries_are_covered(work: Path) -> None:
    require("userns")
    for number in range(100 - len(FILES) - len(FOLDERS)):
        (work / f".entry-{number}").write_text("kept")
    script = """
import os
for name in os.listdir('.'):
    for act in (lambda: open(name, 'w').write('evil'), lambda: os.remove(name)):
        try: act()
        except OSError: pass
open('ran', 'w')
"""
    outcome = confine.python(script, workdir=work, tier="full")
    assert outcome.exit == confine.Exit("exited", 0), outcome.stderr
    assert (work / "ran").exists()
    assert len(os.listdir(work)) == 101
    assert all(path.read_text() == "kept" for path in work.iterdir() if path.is_file() and path.name != "ran")


def test_more_paths_than_fit_a_message_are_refused_and_stop_nobody_else(tmp_path: Path) -> None:
    require("root")
    require("userns")
    folders = [tmp_path / str(number) for number in range(260)]
    for folder in folders:
        folder.mkdir()
    with pytest.raises(ConfinementError, match="at most"):
        confine.python("", read=[str(folder) for folder in folders], tier="full")
    few = [str(folder) for folder in folders[:200]]
    outcome = confine.python(
        "import os, sys; print(len(os.listdir(sys.argv[1])))", args=[str(tmp_path)], read=few
    )
    assert outcome.stdout == b"200\n", outcome


def test_more_than_can_be_covered_is_refused(tmp_path: Path) -> None:
    for number in range(101):
        (tmp_path / f".{number}").touch()
    with pytest.raises(ConfinementError, match="101 entries"):
        confine.python("", workdir=tmp_path)


# --- as values ---------------------------------------------------------------------------------------


def test_names_with_a_dot_are_kept_except_caches() -> None:
    assert kept_names(["b", ".b", ".a", "a.b", *CACHES]) == (".a", ".b")


def test_only_what_a_mount_can_lie_on_is_covered(tmp_path: Path) -> None:
    (tmp_path / ".file").touch()
    (tmp_path / ".folder").mkdir()
    (tmp_path / ".link").symlink_to("/etc")
    os.mkfifo(tmp_path / ".fifo")
    assert kept_in(str(tmp_path)) == (str(tmp_path / ".file"), str(tmp_path / ".folder"))
    with pytest.raises(ConfinementError, match="cannot be listed"):
        kept_in(str(tmp_path / "none"))


def test_paths_are_named_from_their_folder() -> None:
    assert below("/a/b/", ["/a/b/.git", "/a/bc", "/a/b", "/a/b/c/.env"]) == {".git", "c/.env"}


def test_what_an_interpreter_in_the_folder_holds_does_not_come_home_from_a_copy(tmp_path: Path) -> None:
    require("root")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("kept")
    keeping = Profile(name="x", python=False, keep=(str(tmp_path / "data"),))
    script = "echo evil > data/file; echo evil > data/new; echo fine > own"
    outcome = confine.run(["/bin/sh", "-c", script], profile=keeping, workdir=tmp_path, tier="no-userns")
    assert outcome.exit.code == 0
    assert (tmp_path / "data/file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "file", "own"]
