"""The model file: the same bytes do everything outside, and nothing confined."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from host import require
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from pydantic import BaseModel

from fumehood import Guard
from fumehood_adapters.demo.payload import LOADER, STARTED, WRITTEN, Listener, done_by, model_file
from fumehood_adapters.demo.record import Happened, happened
from fumehood_adapters.langchain import ConfinedTool, GuardMiddleware
from fumehood_adapters.scripted import ScriptedChatModel, calls, say

EVERYTHING = ["it wrote a file", "it reached the network", "it started a process"]


class ModelPath(BaseModel):
    path: str


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as opened:
        yield opened


@pytest.fixture
def models(home: Path, listener: Listener) -> Path:
    """A folder with the attacker's file in it, which any user may read."""
    above = Path(tempfile.mkdtemp(dir=home))
    above.chmod(0o711)
    folder = above / "models"
    folder.mkdir()
    model_file(folder / "sentiment.pkl", port=listener.port)
    return folder


def loaded(models: Path, tier: str, ledger: Path) -> tuple[ToolMessage, list[Happened]]:
    """What an agent got that loaded the model, and what is on record."""
    path = str(models / "sentiment.pkl")
    with Guard("model_files", ledger=ledger, tier=tier, isolation="thread") as guard:  # type: ignore[arg-type]
        tool = ConfinedTool(
            guard,
            name="load_model",
            description="Load a model.",
            args_schema=ModelPath,
            source=LOADER,
            profile="model-loader",
            read=[models],
        )
        model = ScriptedChatModel([calls("load_model", path=path), say("done")])
        agent = create_agent(model, [tool], middleware=[GuardMiddleware(guard)])
        with guard.session(agent="research-bot", prompt=f"load {path}") as session:
            answer = agent.invoke({"messages": [{"role": "user", "content": f"load {path}"}]})
        guard.ledger.flush()
        said = [m for m in answer["messages"] if isinstance(m, ToolMessage)]
        return said[-1], happened(guard.ledger, session.id)


def test_unsandboxed_the_file_does_all_three(models: Path, listener: Listener) -> None:
    arguments = json.dumps({"path": str(models / "sentiment.pkl")})
    done = subprocess.run(
        [sys.executable, "-c", LOADER, arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout == "dict with labels, weights\n"
    assert done_by(models, listener) == EVERYTHING
    assert (models / WRITTEN).exists() and (models / STARTED).exists() and listener.visitors == 1


@pytest.mark.parametrize("tier", ["full", "no-userns"])
def test_confined_it_does_none_and_the_record_says_what_it_tried(
    tier: str, models: Path, listener: Listener, tmp_path: Path
) -> None:
    require("userns" if tier == "full" else "landlock")
    before = (models / "sentiment.pkl").read_bytes()
    said, (call,) = loaded(models, tier, tmp_path / "trace.db")
    assert "dict with labels, weights" in said.text and said.status == "success"
    assert done_by(models, listener) == []
    assert [p.name for p in models.iterdir()] == ["sentiment.pkl"]
    assert (models / "sentiment.pkl").read_bytes() == before
    tried = {(what, target) for what, target, _ in call.tried}
    assert ("open for writing", str(models / WRITTEN)) in tried
    assert ("exec", "/bin/sh") in tried
    network = (
        ("connect", f"127.0.0.1:{listener.port}") if tier == "full" else ("socket", "AF_INET SOCK_STREAM")
    )
    assert network in tried
    assert call.confinement["profile"] == "model-loader"
    assert call.confinement["tier"] == tier
    assert {"landlock", "seccomp", "observe"} <= set(call.confinement["layers"])


def test_a_file_outside_of_a_models_folder_is_not_loaded_at_all(
    models: Path, listener: Listener, tmp_path: Path
) -> None:
    elsewhere = models.parent / "downloads"
    models.rename(elsewhere)
    said, (call,) = loaded(elsewhere, "full", tmp_path / "trace.db")
    assert said.status == "error" and "folder called models" in said.text
    assert (call.ends, call.tried) == ("denied_by_policy", [])
    assert done_by(elsewhere, listener) == []
