"""git, grep, sed, tar and gcc do a job in `shell`; what they made is looked at from outside."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from host import require

from fumehood import confine
from fumehood.confine.outcome import Outcome


def shell(script: str, tier: str, **options: object) -> Outcome:
    return confine.run(["/bin/sh", "-ec", script], profile="shell", tier=tier, **options)  # type: ignore[arg-type]


def done(script: str, tier: str, **options: object) -> Outcome:
    outcome = shell(script, tier, **options)
    assert outcome.exit == confine.Exit("exited", 0), outcome.stderr
    return outcome


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"this host has no {program}")


def outside(*command: str, cwd: Path) -> str:
    found = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": "/"},
    )
    return found.stdout


COMMIT = """
git init -q .
git config user.email agent@example.org
git config user.name Agent
echo one > file; git add file; git commit -qm first
git checkout -qb work; echo two >> file; git commit -qam second
git checkout -q -; git merge -q work; git tag v1; git gc -q; git fsck --strict
git clone -q . copy; git -C copy log --format=%s
git worktree add -q tree work; git rebase -q HEAD~1; git blame file | wc -l
"""


def test_git_makes_a_repository_with_commits(tmp_path: Path) -> None:
    needs("git")
    require("userns")
    outcome = done(COMMIT, "full", workdir=tmp_path)
    assert outcome.stdout == b"second\nfirst\n2\n"
    if os.geteuid() == 0:
        outside("chown", "-R", str(os.geteuid()), str(tmp_path), cwd=tmp_path)
    assert (
        outside("git", "-c", "safe.directory=*", "log", "--format=%s %an", cwd=tmp_path)
        == "second Agent\nfirst Agent\n"
    )


def test_git_reads_a_repository_that_it_cannot_change(tmp_path: Path) -> None:
    needs("git")
    require("userns")
    done(COMMIT, "full", workdir=tmp_path)
    before = outside("git", "-c", "safe.directory=*", "rev-parse", "HEAD", cwd=tmp_path)
    assert done(
        "git log --format=%s; git grep two; git status --short", "full", workdir=tmp_path
    ).stdout.startswith(b"second\n")
    refused = shell("echo three > file; git add file; git commit -qm third", "full", workdir=tmp_path)
    assert refused.exit.code != 0
    assert outside("git", "-c", "safe.directory=*", "rev-parse", "HEAD", cwd=tmp_path) == before
    done(
        "git add file; git -c user.name=A -c user.email=a@b.c commit -qm third",
        "full",
        workdir=tmp_path,
        write=[str(tmp_path / ".git")],
    )
    assert outside("git", "-c", "safe.directory=*", "log", "-1", "--format=%s", cwd=tmp_path) == "third\n"


MAKEFILE = """main: main.o square.o
\tgcc -o main main.o square.o -lm
%.o: %.c
\tgcc -O2 -g -Wall -c $<
"""
BUILD = f"""
cat > main.c <<'X'
#include <math.h>
#include <stdio.h>
int square(int);
int main(void) {{
    FILE *f = fopen("answer", "w");
    fprintf(f, "%d %.3f\\n", square(7), sqrt(2.0));
    return fclose(f);
}}
X
echo 'int square(int x) {{ return x * x; }}' > square.c
cat > Makefile <<'X'
{MAKEFILE}X
make -s -j2
"""


def test_gcc_and_make_build_a_program_that_runs(tmp_path: Path, tier: str) -> None:
    needs("gcc", "make")
    start = (
        "./main"
        if tier == "full"
        else "$(ls /lib64/ld-linux-*.so.2 /lib/ld-linux-*.so.1 2>/dev/null | head -n 1) ./main"
    )
    done(BUILD + start, tier, workdir=tmp_path, limits={"timeout_s": 60})
    assert (tmp_path / "answer").read_text() == "49 1.414\n"
    assert (tmp_path / "main").read_bytes().startswith(b"\x7fELF")


def test_gcc_makes_libraries(tmp_path: Path) -> None:
    needs("gcc", "ar")
    require("userns")
    script = BUILD + "ar rcs libsquare.a square.o; gcc -shared -fPIC -o libsquare.so square.c; "
    done(
        script
        + "gcc -o other main.c -L. -lsquare -Wl,-rpath,. -lm; rm -f answer; ./other; strip other; ./other",
        "full",
        workdir=tmp_path,
    )
    assert (tmp_path / "answer").read_text() == "49 1.414\n"


PACK = """
mkdir -p in/sub; echo one > in/sub/file; ln -s file in/sub/link; ln in/sub/file in/sub/hard
touch -d 2020-01-01 in/sub/file || true
tar -czf in.tgz in; tar -cf - in | gzip -t 2>/dev/null || tar -cJf in.txz in
"""


def test_tar_packs_what_others_can_unpack(tmp_path: Path, tier: str) -> None:
    outcome = done(PACK, tier, artifacts=["in.tgz"])
    with tarfile.open(fileobj=io.BytesIO(outcome.artifacts[0].body)) as packed:
        assert {"in/sub/file", "in/sub/link", "in/sub/hard"} < set(packed.getnames())
        assert packed.extractfile("in/sub/file").read() == b"one\n"  # type: ignore[union-attr]
        assert packed.getmember("in/sub/link").linkname == "file"


def test_tar_unpacks_times_and_modes(tmp_path: Path) -> None:
    require("userns")
    done(PACK + "mkdir out; chmod 700 in/sub; tar -cf - in | tar -xf - -C out", "full", workdir=tmp_path)
    unpacked = tmp_path / "out/in/sub"
    assert (unpacked / "file").stat().st_mtime == (tmp_path / "in/sub/file").stat().st_mtime
    assert (unpacked / "file").stat().st_nlink == 2
    assert unpacked.stat().st_mode & 0o777 == 0o700


TEXT = r"""
seq 1 1000 > numbers
sed -i 's/^1/x/;/5$/d' numbers
grep -c x numbers > count
grep -P 'x\d5' -c numbers >> count || true
sed -n '1,3p' numbers | tr '\n' , > first
sort -r numbers | uniq | awk 'END { print NR }' > lines
find . -name 'numb*' | xargs -n 1 -P 2 wc -l | cut -d ' ' -f 1 > found
split -l 100 numbers part; cat part* | cmp - numbers
"""


def test_grep_sed_and_their_kin_work_on_text(tmp_path: Path, tier: str) -> None:
    done(TEXT, tier, workdir=tmp_path)
    made = [
        n
        for n in (f"x{str(i)[1:]}" if str(i)[0] == "1" else str(i) for i in range(1, 1001))
        if not n.endswith("5")
    ]
    assert (tmp_path / "numbers").read_text().splitlines() == made
    assert (tmp_path / "count").read_text().split()[0] == str(sum("x" in n for n in made))
    assert (tmp_path / "first").read_text() == "x,2,3,"
    assert (tmp_path / "lines").read_text().strip() == str(len(set(made)))
    assert (tmp_path / "found").read_text().strip() == str(len(made))


# --- what does not work: the published list ----------------------------------------------------------

#: A command that a user may expect to work, and where it does not. `docs/compatibility.md` says why.
EXCEPTIONS: dict[str, tuple[str, Callable[[], None]]] = {
    "whoami": ("full and no-userns", lambda: None),
    "mkfifo pipe": ("full and no-userns", lambda: None),
    "renice -n 5 $$": ("full and no-userns", lambda: None),
    "ps aux": ("full and no-userns", lambda: needs("ps")),
    "script -qec true /dev/null": ("full and no-userns", lambda: needs("script")),
    "git init": ("no-userns", lambda: needs("git")),
    "chmod +x file": ("no-userns", lambda: None),
    "touch file": ("no-userns", lambda: None),
    "tar -xf file.tar": ("no-userns", lambda: None),
    "cat /proc/self/status": ("no-userns", lambda: None),
}
PREPARE = ": > file; mkdir in; tar -cf file.tar in; "


@pytest.mark.parametrize(
    ("tier", "command"),
    [(tier, command) for command, (where, _) in EXCEPTIONS.items() for tier in where.split(" and ")],
    indirect=["tier"],
)
def test_an_exception_is_still_one(command: str, tier: str) -> None:
    EXCEPTIONS[command][1]()
    done(PREPARE, tier)
    assert shell(PREPARE + command, tier).exit.code != 0, f"{command} works now: take it off the list"


@pytest.mark.parametrize("command", [c for c, (where, _) in EXCEPTIONS.items() if where == "no-userns"])
def test_an_exception_of_one_tier_works_in_the_other(command: str) -> None:
    require("userns")
    EXCEPTIONS[command][1]()
    done(PREPARE + command, "full")


def test_the_published_list_is_this_one() -> None:
    text = (Path(__file__).parents[2] / "docs/compatibility.md").read_text()
    rows = [
        line.split(" | ")
        for line in text.splitlines()
        if line.startswith("| `") and not line.startswith("| `test_")
    ]
    assert [(row[0].removeprefix("| ").strip("`"), row[1]) for row in rows] == [
        (command, where) for command, (where, _) in EXCEPTIONS.items()
    ]
