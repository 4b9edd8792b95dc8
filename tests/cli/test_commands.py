from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from ledger.samples import DOCUMENT, PERMIT, SESSION, a_call, asked, verdict

from cli.conftest import Shell
from fumehood.approval import Move, State
from fumehood.ledger import StopScope
from fumehood.ledger.sqlite import SqliteLedger
from fumehood.model import Approve, Decision, Risk, Session, Subject

RUN = [sys.executable, "-c", "from fumehood.cli import main; main()"]
EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202eevil\u200b\u2066[bold]x[/bold]\r\n\x7f\x00"
HIGH = (Approve("a path outside the project", Risk.HIGH, rule="policies.ops.approve"),)


def test_inbox_names_the_ledger_and_its_last_writer(fumehood: Shell, ledger: SqliteLedger) -> None:
    ran = fumehood("approvals", "ls")
    assert ran.code == 0
    assert ran.out.startswith(f"ledger {ledger.path}, last written ")
    assert f"(pid {os.getpid()}), about bot\nnothing waits for a person" in ran.out


def test_inbox_lists_what_waits(fumehood: Shell, ledger: SqliteLedger) -> None:
    approval = asked(ledger, reasons=HIGH)
    decided = asked(ledger, a_call(call_id="c2"))
    ledger.decide(verdict(decided, Move.DENY))
    lines = fumehood("approvals", "ls").out.splitlines()
    assert lines[1].split() == ["RISK", "LEFT", "ID", "TOOL", "AGENT", "WHY"]
    assert lines[2].split(maxsplit=6) == [
        "HIGH",
        "5",
        "min",
        approval.id,
        "issue_refund",
        "bot",
        HIGH[0].reason,
    ]
    assert len(lines) == 3
    everything = fumehood("approvals", "ls", "--all").out
    assert "denied" in everything
    listed = json.loads(fumehood("approvals", "ls", "--json").out)
    assert listed["ledger"]["origin"] == ledger.origin
    assert [a["id"] for a in listed["approvals"]] == [approval.id]


def test_show_prints_the_arguments_in_full(fumehood: Shell, ledger: SqliteLedger) -> None:
    approval = asked(ledger, a_call({"cmd": "rm -rf /srv/x", "long": "x" * 5000}), injected=("state",))
    ran = fumehood("approvals", "show", approval.id[:6])
    assert '    "cmd": "rm -rf /srv/x"' in ran.out
    assert "x" * 5000 in ran.out
    assert "injected state (not bound" in ran.out
    assert (
        json.loads(fumehood("approvals", "show", approval.id, "--json").out)["args"]["cmd"] == "rm -rf /srv/x"
    )


def test_approve_shows_and_approves(fumehood: Shell, ledger: SqliteLedger) -> None:
    approval = asked(ledger, waiter=(1, 1))
    ran = fumehood("approvals", "approve", approval.id, "--note", "fine")
    assert ran.code == 0
    assert '"amount_usd": 500' in ran.out
    after = ledger.approval(approval.id)
    assert (after.state, after.note) == (State.APPROVED, "fine")
    assert after.decided_by


def test_deny_tells_the_reason(fumehood: Shell, ledger: SqliteLedger) -> None:
    approval = asked(ledger)
    ran = fumehood("approvals", "deny", approval.id, "--reason", "not yours", "--json")
    assert (ran.code, json.loads(ran.out)["state"]) == (0, "denied")
    assert ledger.approval(approval.id).note == "not yours"


@pytest.mark.parametrize("verb", ["approve", "deny"])
def test_second_answer_is_exit_1(fumehood: Shell, ledger: SqliteLedger, verb: str) -> None:
    approval = asked(ledger)
    ledger.decide(verdict(approval))
    assert fumehood("approvals", verb, approval.id).code == 1
    ran = fumehood("approvals", verb, approval.id, "--json")
    assert (ran.code, json.loads(ran.out)["error"]["code"]) == (1, "already_decided")


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"expires_at": time.time() - 5}, "approval_expired"), ({"lease": "gone"}, "approval_cancelled")],
)
def test_late_answer_says_why(
    fumehood: Shell, ledger: SqliteLedger, changes: dict[str, object], code: str
) -> None:
    approval = asked(ledger, **changes)
    ran = fumehood("approvals", "deny", approval.id, "--json")
    assert (ran.code, json.loads(ran.out)["error"]["code"]) == (1, code)


def test_unknown_id_is_exit_2(fumehood: Shell, ledger: SqliteLedger) -> None:
    for args in (
        ("approvals", "show", "feed"),
        ("approvals", "deny", "feed"),
        ("trace", "show", "99"),
        ("stop", "x"),
    ):
        ran = fumehood(*args, "--json")
        assert (ran.code, json.loads(ran.out)["error"]["code"]) == (2, "unknown_id")


def test_high_risk_needs_its_whole_id_again(fumehood: Shell, ledger: SqliteLedger) -> None:
    approval = asked(ledger, reasons=HIGH)
    for extra in ((), ("--yes",), ("--confirm", approval.id[:6]), ("--confirm", "other")):
        assert fumehood("approvals", "approve", approval.id, *extra).code == 2
        assert ledger.approval(approval.id).state is State.PENDING
    assert fumehood("approvals", "approve", approval.id, "--confirm", approval.id).code == 0
    assert ledger.approval(approval.id).state is State.APPROVED


def at_a_terminal(answer: str, *args: str) -> tuple[int, str]:
    """Run a command with a terminal as stdin; its exit code and what it printed."""
    main, side = pty.openpty()
    with subprocess.Popen(
        [*RUN, *args], stdin=side, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        os.close(side)
        os.write(main, answer.encode())
        printed = child.communicate(timeout=30)[0].decode()
    os.close(main)
    return child.returncode, printed


def test_at_a_terminal_a_person_is_asked(ledger: SqliteLedger) -> None:
    approval = asked(ledger, waiter=(1, 1))
    assert at_a_terminal("n\n", "approvals", "approve", approval.id)[0] in (1, 130)
    assert ledger.approval(approval.id).state is State.PENDING
    code, printed = at_a_terminal("y\n", "approvals", "approve", approval.id)
    assert (code, ledger.approval(approval.id).state) == (0, State.APPROVED), printed


def test_at_a_terminal_high_risk_is_typed(ledger: SqliteLedger) -> None:
    approval = asked(ledger, reasons=HIGH, waiter=(1, 1))
    assert at_a_terminal("y\n", "approvals", "approve", approval.id, "--yes")[0] == 2
    assert ledger.approval(approval.id).state is State.PENDING
    assert at_a_terminal(f"{approval.id}\n", "approvals", "approve", approval.id)[0] == 0
    assert ledger.approval(approval.id).state is State.APPROVED


def test_agent_cannot_approve_its_own_request_through_the_shell(ledger: SqliteLedger) -> None:
    approval = asked(ledger)
    done = subprocess.run(
        [*RUN, "approvals", "approve", approval.id, "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "own_request")


def test_trace_tail_prints_the_last_events(fumehood: Shell, ledger: SqliteLedger) -> None:
    ledger.record(a_call(), Decision.deny("denied_by_policy", "too much"), document=DOCUMENT)
    ledger.record(a_call(), PERMIT, document=DOCUMENT)
    lines = fumehood("trace", "tail", "-n", "2").out.splitlines()
    assert [line.split(maxsplit=4)[3:] for line in lines] == [
        ["decision", "issue_refund DENY  too much"],
        ["decision", "issue_refund  permit"],
    ]
    assert fumehood("trace", "tail", "--session", "none").out == ""
    assert json.loads(fumehood("trace", "tail", "-n", "1", "--json").out)["effect"] == "permit"


def test_policy_input_is_printed_ready_for_a_test(fumehood: Shell, ledger: SqliteLedger) -> None:
    document = '{"a":1.0,"b":"é\u202e","c":[1,true]}'
    seq = ledger.record(a_call(), PERMIT, document=document.encode()).seq
    ran = fumehood("trace", "show", str(seq), "--input")
    assert json.loads(ran.out) == json.loads(document)
    assert ran.out.isascii()
    assert fumehood("trace", "show", "1", "--input").code == 2
    assert '"gen_ai.tool.name": "issue_refund"' in fumehood("trace", "show", str(seq)).out


def test_export_is_one_object_a_line(fumehood: Shell, ledger: SqliteLedger) -> None:
    other = Session("s2", Subject("other"))
    ledger.open_session(other)
    for number in range(1200):
        ledger.note(other if number % 2 else SESSION, "note", f"n{number}")
    ledger.flush()
    every = [json.loads(line) for line in fumehood("trace", "export").out.splitlines()]
    assert [e["seq"] for e in every] == list(range(1, 1203))
    assert len(fumehood("trace", "export", "--session", "s2").out.splitlines()) == 601


def test_followed_trace_shows_what_happens_and_ends_with_ctrl_c(ledger: SqliteLedger) -> None:
    with subprocess.Popen(
        [*RUN, "trace", "tail", "-n", "0", "-f"], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        deadline = time.monotonic() + 20
        sockets = Path(os.environ["XDG_RUNTIME_DIR"])
        while not list(sockets.rglob("*.sock")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ledger.record(a_call(), PERMIT, document=b"")
        assert "decision issue_refund" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130


def test_reader_that_went_away_is_no_complaint(ledger: SqliteLedger) -> None:
    for number in range(2000):
        ledger.note(SESSION, "note", f"n{number}" + "x" * 100)
    ledger.flush()
    with subprocess.Popen([*RUN, "trace", "export"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait() == 141


def test_stop_denies_cancels_and_is_lifted(fumehood: Shell, ledger: SqliteLedger) -> None:
    waiting = asked(ledger)
    ran = fumehood("stop", "bot", "--reason", "drill")
    assert (ran.code, "fumehood stop --lift bot" in ran.out) == (0, True)
    assert ledger.approval(waiting.id).state is State.CANCELLED
    assert not ledger.record(a_call(), PERMIT, document=b"").decision.is_permit
    assert "drill" in fumehood("stop", "--list").out
    assert json.loads(fumehood("stop", "--list", "--json").out)[0]["value"] == "bot"
    assert fumehood("stop", "bot", "--lift").code == 0
    assert fumehood("stop", "bot", "--lift").code == 1
    assert ledger.record(a_call(), PERMIT, document=b"").decision.is_permit


def test_stop_finds_a_session_or_everything(fumehood: Shell, ledger: SqliteLedger) -> None:
    assert json.loads(fumehood("stop", "s1", "--json").out)["scope"] == "session"
    assert json.loads(fumehood("stop", "--all", "--json").out)["scope"] == "all"
    assert json.loads(fumehood("stop", "new-bot", "--as", "agent", "--json").out)["scope"] == "agent"
    assert [s.scope for s in ledger.stops()] == [StopScope.SESSION, StopScope.ALL, StopScope.AGENT]
    assert fumehood("stop").code == 2
    assert fumehood("stop", "s1", "--all").code == 2


def is_plain(text: str) -> bool:
    """Nothing that a terminal obeys, reorders or hides; line feeds are ours."""
    return all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs", "Cn") for c in text)


def assert_plain(fumehood: Shell, *command: str) -> None:
    for extra in ((), ("--json",)):
        ran = fumehood(*command, *extra)
        assert is_plain(ran.out), command
        assert is_plain(ran.err), command
        assert ran.out.isascii() or not extra, command


def test_hostile_bytes_reach_no_terminal(fumehood: Shell, ledger: SqliteLedger) -> None:
    session = Session("s-" + EVIL, Subject("bot" + EVIL, "alice" + EVIL), prompt=EVIL)
    ledger.open_session(session)
    call = a_call({"cmd" + EVIL: EVIL}, tool="tool" + EVIL, session=session)
    seq = ledger.record(call, Decision.deny("x", EVIL, detail=EVIL), document=call.args).seq
    ledger.note(session, "note", EVIL, tool=EVIL, attributes=json.dumps({EVIL: EVIL}).encode())
    ledger.flush()
    approval = asked(ledger, call, reasons=(Approve(EVIL, rule=EVIL),), injected=(EVIL,))
    ledger.stop(StopScope.AGENT, "nobody" + EVIL, by=EVIL, reason=EVIL)
    for command in (
        ("approvals", "ls"),
        ("approvals", "ls", "--all"),
        ("approvals", "show", approval.id),
        ("approvals", "approve", approval.id, "--note", EVIL),
        ("approvals", "deny", approval.id),
        ("approvals", "show", EVIL),
        ("approvals", "ls", "--ledger", "/tmp/" + EVIL.replace("\0", "")),
        ("trace", "tail"),
        ("trace", "show", str(seq)),
        ("trace", "show", str(seq), "--input"),
        ("stop", "--list"),
        ("stop", EVIL),
        ("stop", "bot" + EVIL, "--reason", EVIL),
        ("stop", "bot" + EVIL, "--lift"),
    ):
        assert_plain(fumehood, *command)
    exported = fumehood("trace", "export").out
    assert exported.isascii()
    assert is_plain(exported)


def test_a_megabyte_of_hostile_arguments_reaches_no_terminal(fumehood: Shell, ledger: SqliteLedger) -> None:
    call = a_call({"big": EVIL * 20_000})
    assert len(call.args) > 1_000_000
    approval = asked(ledger, call)
    assert_plain(fumehood, "approvals", "show", approval.id)
    assert_plain(fumehood, "approvals", "ls")


def test_lines_of_the_trace_stay_short_whatever_is_in_them(fumehood: Shell, ledger: SqliteLedger) -> None:
    ledger.note(SESSION, "note", "x" * 1_000_000, tool="t" * 5000)
    ledger.flush()
    assert max(map(len, fumehood("trace", "tail").out.splitlines())) < 1500
    asked(ledger, reasons=(Approve("y" * 1_000_000),))
    assert max(map(len, fumehood("approvals", "ls").out.splitlines())) < 1500
