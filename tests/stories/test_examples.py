"""The examples do what they say, as somebody who copies them runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from host import require

from stories.conftest import Ran, shell

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, home: Path) -> Ran:
    return shell(sys.executable, "-W", "error", str(EXAMPLES / name), home=home)


def test_refund(home: Path) -> None:
    ran = run("refund.py", home)
    assert ran.code == 0, ran.err
    assert ran.out.count("money leaves") == 1 and "money leaves: $40 for order A-1" in ran.out
    assert ran.out.count("Code: nobody_to_ask") == 2


def test_model_file(home: Path) -> None:
    require("userns")
    ran = run("model_file.py", home)
    assert ran.code == 0, ran.err
    assert "it tried: exec /bin/sh\n" in ran.out
    assert ran.out.endswith("outside: nothing happened\n")


def test_drain(home: Path) -> None:
    ran = run("drain.py", home)
    assert ran.code == 0, ran.err
    assert "row 21: limit_exceeded" in ran.out and "row 20" not in ran.out
    assert "20 rows were answered, 4 were not\n" in ran.out
    assert "on record: agent pricing-bot, tool score, session " in ran.out


@pytest.mark.parametrize("model", ["anthropic:claude-sonnet-4-5", "openai:gpt-5"])
def test_with_a_provider_says_which_key_is_missing(
    model: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{model.partition(':')[0].upper()}_API_KEY"
    monkeypatch.delenv(name, raising=False)
    ran = shell(sys.executable, str(EXAMPLES / "with_a_provider.py"), model, home=home)
    assert ran.code == 1
    assert name in ran.err and "examples/refund.py" in ran.err
    assert "Traceback" not in ran.err
