"""The tree holds nothing of the machine it was made on, and its parts agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

# Written so that this file does not hold the words it looks for.
_OF_A_MACHINE = re.compile(
    "|".join(
        [
            r"(?<![\w.])/wo" + r"rk/",
            r"(?<![\w.$}])/ro" + r"ot/",
            r"py" + r"pi\.org",
            r"python" + r"hosted\.org",
            r"proxy\.go" + r"lang\.org",
            r"registry\.np" + r"mjs",
            r"--(extra-)?index" + r"-url",
            r"--find" + r"-links",
        ]
    )
)
_UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def lines(paths: list[Path]) -> list[tuple[Path, int, str]]:
    found = []
    for path in paths:
        if path.suffix in {".svg", ".png", ".db", ".pkl"}:
            continue
        text = path.read_text(errors="replace")
        found += [(path, number, line) for number, line in enumerate(text.splitlines(), 1)]
    return found


def test_no_file_names_this_machine_or_a_registry(root: Path, tracked: list[Path]) -> None:
    hits = [
        f"{path.relative_to(root)}:{number}: {line.strip()[:120]}"
        for path, number, line in lines(tracked)
        if _OF_A_MACHINE.search(line)
    ]
    assert not hits, "\n".join(hits)


def test_no_file_is_left_unfinished(root: Path, tracked: list[Path]) -> None:
    hits = [
        f"{path.relative_to(root)}:{number}: {line.strip()[:120]}"
        for path, number, line in lines(tracked)
        if path.suffix in {".py", ".rego", ".md", ".toml", ".yml", ""} and _UNFINISHED.search(line)
    ]
    assert not hits, "\n".join(hits)


@pytest.mark.parametrize("name", ["dev.txt", "demo.txt"])
def test_lock_file_has_a_hash_for_every_version_and_no_address(root: Path, name: str) -> None:
    text = (root / "requirements" / name).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 40
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.!+]+", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]
    assert "://" not in text


def test_demo_lock_is_a_part_of_the_tested_lock(root: Path) -> None:
    def versions(name: str) -> set[str]:
        text = (root / "requirements" / name).read_text()
        return set(re.findall(r"^([\w.-]+==[\w.!+]+)", text, re.MULTILINE))

    assert versions("demo.txt") <= versions("dev.txt")


def test_locked_packages_cover_what_the_project_declares(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["langchain"], *extras["opa"]]
    wanted += [*project["dependency-groups"]["dev"], *project["dependency-groups"]["build"]]
    locked = set(re.findall(r"^([\w.-]+)==", (root / "requirements/dev.txt").read_text(), re.MULTILINE))
    names = {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in wanted}  # type: ignore[index]
    assert names <= locked, f"not locked: {sorted(names - locked)}; run: make lock"


def test_import_floors_hold(root: Path) -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_changelog_has_an_entry_for_this_version(root: Path) -> None:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_scripts_and_ci_are_executable(root: Path) -> None:
    shells = [root / ".ci/run", *(p for p in (root / "scripts").iterdir() if p.suffix == "" and p.is_file())]
    assert [p.name for p in shells if not p.stat().st_mode & 0o111] == []


def test_source_files_stay_readable(tracked: list[Path]) -> None:
    """House rule: 60 to 250 lines, rarely over 400."""
    sources = [p for p in tracked if p.suffix == ".py" and "tests" not in p.parts]
    sizes = {p.name: len(p.read_text().splitlines()) for p in sources}
    long = {name: size for name, size in sizes.items() if size > 400}
    assert len(long) <= len(sizes) // 20, long
    assert max(sizes.values()) <= 800, long
