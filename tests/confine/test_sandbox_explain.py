"""`fumehood sandbox explain`: the plan, printed and not done."""

from __future__ import annotations

import json

import pytest

from confine.test_sandbox_command import invoke
from fumehood.confine.profile import names
from fumehood.errors import ConfinementError


@pytest.mark.parametrize("command", ["run", "explain", "shell"])
def test_an_unknown_profile_is_the_users_mistake(command: str) -> None:
    words = {"explain": ("nope",), "run": ("--profile", "nope", "true"), "shell": ("--profile", "nope")}
    done = invoke(command, *words[command])
    assert type(done.exception).__name__ == "UnknownIdError"
    assert "python-offline" in str(done.exception)


@pytest.mark.parametrize("profile", names())
def test_explain_prints_every_profile(profile: str) -> None:
    done = invoke("explain", profile)
    assert done.exit_code == 0
    assert done.stdout.startswith(profile + ": ")
    document = json.loads(invoke("explain", profile, "--json").stdout)
    assert document["profile"]["name"] == profile
    found = document["filter"]
    assert "ptrace" in found["refused"]
    assert not {*found["allowed"], *found["bounded_calls"]} & set(found["refused"])
    count = len(found["allowed"]) + len(found["bounded_calls"])
    assert f"system calls: {count} allowed" in done.stdout


def test_explain_counts_the_calls_that_the_filter_lets_pass(tier: str) -> None:
    from fumehood.confine import landlock, plan, profile, seccomp

    chosen = profile.named("strictest")
    made = plan.plan(chosen, plan.Host.here(), tier=tier)
    spec = plan.filter_spec(made, profile=chosen, landlock_abi=landlock.abi())
    count = len(seccomp.allowed_calls(spec))
    assert f"system calls: {count} allowed" in invoke("explain", "strictest", "--tier", tier).stdout


def test_explain_needs_no_compiler_of_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    from fumehood.confine import explain

    monkeypatch.setattr(explain, "compiler_fault", lambda: "there is none")
    monkeypatch.setattr(explain, "allowed_calls", lambda spec: 1 / 0)
    assert "system calls: " in invoke("explain", "strictest").stdout


def test_explain_says_what_is_seen_and_bounded_in_each_tier(tier: str) -> None:
    text = invoke("explain", "python-offline", "--tier", tier).stdout
    assert f"tier: {tier}\n" in text
    assert ("read         /usr\n" in text, "PATH=" in text, "memory 512 MiB" in text) == (True,) * 3
    assert ("private      /tmp\n" in text) == (tier == "full")


def test_explain_meets_several_profiles() -> None:
    document = json.loads(invoke("explain", "shell", "strictest", "--json").stdout)
    assert document["profile"]["name"] == "shell+strictest"
    assert document["profile"]["exec"] is False
    assert document == json.loads(invoke("explain", "shell,strictest", "--json").stdout)
    assert isinstance(invoke("explain", "pdp", "shell").exception, ConfinementError)
