"""The documents are true: their code runs, their output is what is printed, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

RUN = [
    "README.md",
    "docs/architecture.md",
    "docs/commands.md",
    "docs/confinement.md",
    "docs/design-notes.md",
    "docs/engine-differences.md",
    "docs/langchain.md",
    "docs/explain-and-replay.md",
    "docs/ledger.md",
    "docs/observe-mode.md",
    "docs/stories.md",
    "docs/testing.md",
    "docs/workbench.md",
]


@pytest.fixture(scope="module")
def documents(root: Path) -> ModuleType:
    """scripts/documents.py, which also writes the output that the documents show."""
    spec = importlib.util.spec_from_file_location("documents", root / "scripts/documents.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["documents"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", RUN)
def test_shown_code_runs_and_prints_what_is_shown(name: str, root: Path, documents: ModuleType) -> None:
    problems = documents.run(root / name).problems
    assert not problems, "\n".join([*problems, f"if it is right: scripts/documents.py --write {name}"])


def test_every_block_that_is_only_shown_says_why(root: Path, documents: ModuleType) -> None:
    for name in RUN:
        for comment in re.findall(r"<!-- *shown:(.*?)-->", (root / name).read_text()):
            assert comment.strip(), name


def test_console_output_matches_with_gaps(documents: ModuleType) -> None:
    assert documents.matches("a\n...\nz\n", "a\nb\nc\nz\n")
    assert documents.matches("took … ms\n", "took 12 ms\n")
    assert not documents.matches("a\n", "a\nb\n")
    assert documents.conversation("$ one\n1\n$ two\n") == [("one", "1\n"), ("two", "")]


def test_links_between_files_lead_somewhere(root: Path) -> None:
    broken = []
    for path in [*root.glob("*.md"), *(root / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if (
                "://" not in target
                and not target.startswith("mailto:")
                and not (path.parent / target).exists()
            ):
                broken.append(f"{path.relative_to(root)}: {target}")
    assert not broken, "\n".join(broken)


def test_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(root: Path, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "mkdocs"),
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path),
    ]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    loaded = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=\"?https?://[^\">\s]+")
    pages = [*tmp_path.rglob("*.html")]
    assert pages
    hits = {h for page in pages for h in loaded.findall(page.read_text()) if 'rel="canonical"' not in h}
    assert not hits


def test_every_document_is_in_the_navigation(root: Path) -> None:
    navigation = (root / "mkdocs.yml").read_text()
    missing = [p.name for p in (root / "docs").glob("*.md") if p.name not in navigation]
    assert not missing


def test_tests_that_the_readme_names_exist(root: Path) -> None:
    named = re.findall(r"\btests/[\w/.]+", (root / "README.md").read_text())
    assert len(named) > 8
    assert [name for name in named if not (root / name).exists()] == []
