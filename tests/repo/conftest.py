"""What the tests of the repository itself share."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def tracked(root: Path) -> list[Path]:
    """The files that belong to the project: what git tracks, else everything that no ignore rule names."""
    if (root / ".git").exists():
        command = ["git", "-c", f"safe.directory={root}", "-C", str(root), "ls-files", "-z"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
        return [root / name for name in listed.stdout.split("\0") if name and (root / name).is_file()]
    tops = [
        "adapters",
        "benchmarks",
        "docs",
        "examples",
        "policies",
        "requirements",
        "sandbox",
        "scripts",
        "tests",
        "tui",
    ]
    files = [path for top in tops for path in (root / top).rglob("*") if path.is_file()]
    return [
        path
        for path in [*files, *root.glob("*.*"), root / "Makefile"]
        if path.is_file() and "__pycache__" not in path.parts
    ]
