"""An agent loads a downloaded model file. The file runs code when it is loaded; it runs confined.

    python examples/model_file.py

The payload tries to start a program. Nothing happens outside, and the record says what it tried.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from pathlib import Path

from langchain.agents import create_agent
from pydantic import BaseModel

from fumehood import Guard
from fumehood_adapters.langchain import ConfinedTool, GuardMiddleware
from fumehood_adapters.scripted import ScriptedChatModel, calls, say

# What runs confined: your own code, for a file that you do not trust. Its arguments are in sys.argv[1].
LOADER = """
import json, pickle, sys

with open(json.loads(sys.argv[1])["path"], "rb") as file:
    print("loaded:", pickle.load(file))
"""


class ModelPath(BaseModel):
    path: str


class Malicious:
    """Whoever unpickles this runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    models, proof = folder / "models", folder / "models" / "owned.txt"
    models.mkdir()
    (models / "sentiment.pkl").write_bytes(pickle.dumps(Malicious(f"echo owned > {proof}")))

    # tier="no-userns" accepts hosts without user namespaces; `fumehood sandbox doctor` says what yours gives.
    guard = Guard("model_files", ledger=folder / "trace.db", tier="full")
    load_model = ConfinedTool(
        guard,
        name="load_model",
        description="Load a pickled model and say what it holds.",
        args_schema=ModelPath,
        source=LOADER,
        profile="model-loader",
        read=[models],
        annotations={"kind": "execute", "object": ["path"]},
    )
    model = ScriptedChatModel([calls("load_model", path=str(models / "sentiment.pkl")), say("Loaded.")])
    agent = create_agent(model, [load_model], middleware=[GuardMiddleware(guard)])
    words = f"Please load {models / 'sentiment.pkl'}."
    with guard, guard.session(agent="research-bot", user="carol", prompt=words):
        answer = agent.invoke({"messages": [{"role": "user", "content": words}]})
        guard.ledger.flush()
        tried = [json.loads(e.attributes) for e in guard.ledger.events() if e.kind == "attempt"]

    print("the tool said:", answer["messages"][-2].text)
    for attempt in tried:
        print("it tried:", attempt["fumehood.attempt.operation"], attempt["fumehood.attempt.target"])
    print("outside:", "it got through!" if proof.exists() else "nothing happened")


if __name__ == "__main__":
    main()
