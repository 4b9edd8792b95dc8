"""What a user of `pip install` gets: the wheel, in an environment outside the tree, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

TOPS = {"fumehood", "fumehood_policies", "fumehood_adapters", "fumehood_tui"}


def run(argv: list[str], *, cwd: Path, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    dropped = ("COV_", "COVERAGE", "PYTEST", "PYTHONPATH", "FUMEHOOD_LEDGER")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | {"TMPDIR": str(cwd)}
    return subprocess.run(
        argv,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = ["-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--no-deps"]
    offline = ["--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(root)]
    answer = run([sys.executable, *build, *offline], cwd=folder)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (built,) = folder.glob("fumehood-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment: dependencies from this one, the package from the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    site = Path(
        run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder
        ).stdout.strip()
    )
    command = ["-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
    answer = run([sys.executable, *command, "install", "--no-deps", "--no-index", str(wheel)], cwd=folder)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    # A plain path entry: .pth files over there, the editable install's among them, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == TOPS
    assert {f"{top}/py.typed" for top in TOPS} <= set(names)
    assert [n for n in names if n.endswith(".rego") and "/lib/" in n]
    assert not [n for n in names if "__pycache__" in n or n.endswith((".db", ".pyc"))]


def test_installed_wheel_is_used_from_its_own_place(installed: Path, root: Path, tmp_path: Path) -> None:
    source = "import fumehood, fumehood_policies; print(fumehood.__file__, fumehood_policies.__file__)"
    answer = run([str(installed / "python"), "-I", "-c", source], cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert str(root / "sandbox") not in answer.stdout
    assert answer.stdout.count(str(installed.parent)) == 2


def test_installed_command_tells_its_version(installed: Path, tmp_path: Path) -> None:
    answer = run([str(installed / "fumehood"), "--version"], cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert distribution("fumehood").version in answer.stdout


def test_installed_command_runs_the_demo(installed: Path, tmp_path: Path) -> None:
    answer = run([str(installed / "fumehood"), "demo"], cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "What was prevented" in answer.stdout
