"""What is refused before a layer is tried. Layers that a host does not give: `test_missing_layers`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from host import require

from fumehood.confine.layers import REMEDIES
from fumehood.confine.plan import layers

SCRIPT = """
import sys
from fumehood import confine
from fumehood.confine import syscalls
from fumehood.confine.seccomp import Answer, Rule, compile_rules
from fumehood.errors import ConfinementError

program = compile_rules((Rule("unshare", Answer.EPERM),), default=Answer.ALLOW)
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
syscalls.load_filter(program)
try:
    confine.python(f"open({sys.argv[1]!r}, 'w')", tier="no-userns")
except ConfinementError as error:
    print(error.layer, error)
"""


def test_root_whose_interpreter_nobody_else_can_reach_is_told(tmp_path: Path) -> None:
    require("root")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(private / "venv")], check=True)
    packages = next((private / "venv/lib").glob("python3*/site-packages"))
    packages.joinpath("here.pth").write_text("\n".join(path for path in sys.path if path))
    marker = tmp_path / "ran"
    done = subprocess.run(
        [private / "venv/bin/python", "-c", SCRIPT, str(marker)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("identity ")
    assert "which only root can enter" in done.stdout
    assert not marker.exists()


def test_every_layer_has_a_remedy() -> None:
    assert {*layers("full", observe=True), *layers("no-userns", observe=True)} <= set(REMEDIES)
