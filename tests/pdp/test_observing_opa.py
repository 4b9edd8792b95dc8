"""Observing at a real OPA server: the same answer as the embedded engine's, and as loud."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from core.test_observing_guard import BASE, MARK, SHOP
from host import require
from pdp.documents import asked
from pdp.engines import request
from pdp.opa_server import started_opa
from pdp.policies import HEAD, folder_of

from fumehood import Denied, Guard
from fumehood.errors import PdpError
from fumehood.ledger import names
from fumehood.model import Effect, Pdp, Phase
from fumehood.observe_mode import Mode
from fumehood.pdp import OpaServer, load_bundle, open_pdp, pack
from fumehood.pdp.said import answers_of, split_said, spoken

RULES = (
    'permit if call.tool in {"a", "b"}',
    'permit if call.tool == "c"',
    'deny contains "no" if call.tool == "a"',
    'deny contains {"reason": "no", "detail": call.arg("n", 0)} if call.arg("n", 0) > 1',
    'approve contains {"reason": "look", "risk": "low"} if call.tool != "c"',
    'confine contains "python-offline" if call.tool == "b"',
    'confine contains {"profile": call.arg("p", "python-offline")} if call.tool == "c"',
    'limit contains {"key": "k", "max": call.arg("n", 1), "per_s": 60} if call.tool == "b"',
    'withhold contains "not yours" if call.tool == "a"',
    'redact contains {"pattern": "[0-9]+"} if call.tool in {"a", "c"}',
    'label contains "internal" if call.tool != "a"',
    'permit_connect if call.tool == "a"',
    'approve_connect contains {"reason": "look", "risk": "high"} if call.tool == "a"',
    'deny contains "late" if count(call.args.missing) > 0',
)


def bundle_in(folder: Path, mode: Mode, **files: str):  # type: ignore[no-untyped-def]
    return load_bundle([folder_of(folder, **files)], mode=mode)


def said(pdp: Pdp, *call: object, **more: object) -> object:
    try:
        found = pdp.evaluate(asked(*call, **more))  # type: ignore[arg-type]
    except PdpError as error:
        return error.code
    return found, found.observed


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.OBSERVE_PACKAGES])
def test_server_and_embedded_engine_observe_alike(mode: Mode, tmp_path: Path, opa_url: str) -> None:
    dice = random.Random(mode.value)
    seen: set[object] = set()
    for number in range(5):
        bodies = ["\n\n".join(dice.sample(RULES, dice.randint(1, 7))) for _ in range(2)]
        head = "package policies.{}\n\nimport data.fumehood.call\n\n{}\n"
        bundle = bundle_in(
            tmp_path / str(number),
            mode,
            new=MARK + head.format("new", bodies[0]),
            old=head.format("old", f'permit if call.tool == "d"\n\n{bodies[1]}'),
        )
        here, there = open_pdp(bundle, isolation="thread"), open_pdp(bundle, url=opa_url)
        for phase in Phase:
            for tool in ("a", "b", "c", "d"):
                call = (tool, {"n": dice.choice([0, 1, 5, "x", -1]), "p": dice.choice(["offline", 3])})
                answer = said(there, *call, phase=phase)
                assert answer == said(here, *call, phase=phase)
                seen.add(answer if isinstance(answer, str) else answer[0].effect)  # type: ignore[index]
        there.close()
    assert {Effect.PERMIT, Effect.DENY} <= seen


def test_package_of_somebody_else_gives_nothing_where_all_are_observed(tmp_path: Path, opa_url: str) -> None:
    pdp = open_pdp(bundle_in(tmp_path, Mode.OBSERVE, x=HEAD), url=opa_url)
    assert pdp.evaluate(asked("other")).is_permit
    for text in ("permit := true", 'deny contains "x"', 'label contains "trusted"'):
        request(opa_url, "PUT", "/v1/policies/evil", f"package policies.evil\n\n{text}\n".encode())
        try:
            call = asked("other", phase=Phase.RETURN_RESULT if "label" in text else Phase.EXECUTE_TOOL)
            with pytest.raises(PdpError, match=r"policies\.evil") as raised:
                pdp.evaluate(call)
            assert raised.value.code == "pdp_error"
        finally:
            request(opa_url, "DELETE", "/v1/policies/evil")
    assert pdp.evaluate(asked("other")).is_permit


@pytest.mark.parametrize(
    "result",
    [
        5,
        {"decision": {}},
        {"decision": {}, "said": {}},
        {"decision": {}, "said": [["x", "permit", "boolean"]]},
        {"decision": {}, "said": [["x", "odd", "boolean", True]]},
        {"decision": {}, "said": [["x", "deny", "set", "text"]]},
        {"decision": {}, "said": [[1, "deny", "set", []]]},
        {"decision": {}, "said": [], "more": 1},
    ],
)
def test_what_is_not_understood_is_malformed(result: object) -> None:
    with pytest.raises(PdpError) as raised:
        split_said(result)  # type: ignore[arg-type]
    assert raised.value.code == "pdp_malformed"


def test_what_was_said_is_read_by_package_and_rule() -> None:
    items = [["a", "permit", "boolean", True], ["a", "deny", "set", []], ["b", "permit", "boolean", False]]
    found, decision = split_said({"decision": 7, "said": items})  # type: ignore[dict-item]
    assert decision == 7
    assert answers_of(found)["a"] == {"permit": [("boolean", True)], "deny": [("set", [])]}
    assert list(spoken(found)) == ["policies.a.permit"]
    assert split_said(None) == ((), None)


def test_guard_observes_at_a_server_and_records_its_decision_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require("opa")
    where = folder_of(tmp_path / "p", shop=MARK + SHOP.lstrip(), base=BASE)
    with started_opa("127.0.0.1:0", "--set", "decision_logs.console=true") as running:
        with Guard(
            where, ledger=tmp_path / "l.db", pdp=running.url, mode="observe-packages", unattended="deny"
        ) as guard:
            with guard.session(agent="bot"):
                assert guard.call("pay", {"n": 1}, run=lambda n: "done") == "done"  # shop denies it
                assert guard.call("look", {"n": 1}, run=lambda n: "done") == "done"  # shop would ask
                with pytest.raises(Denied) as denied:
                    guard.call("often", {"n": 1}, run=lambda n: "done")  # permitted by shop alone
                assert denied.value.code == "no_permit"
            events = [e for e in guard.ledger.events() if e.kind == "decision"]
        log = running.said()
    assert "OBSERVING" in capsys.readouterr().err
    attributes = [json.loads(event.attributes) for event in events]
    assert [a[names.OBSERVED]["would"] for a in attributes] == ["deny", "ask", None]
    ids = [a[names.POLICY_DECISION_ID] for a in attributes]
    assert len(set(ids)) == 3 and all(f'"decision_id":"{each}"' in log for each in ids)


def test_guard_that_observes_everything_at_a_server_still_confines_and_fails_closed(tmp_path: Path) -> None:
    require("opa")
    raising = SHOP + '\ndeny contains "x" if {\n\tcall.tool == "often"\n\tcount(call.args.n) > 0\n}\n'
    where = folder_of(tmp_path / "p", shop=raising)
    with started_opa() as running:
        guard = Guard(where, ledger=tmp_path / "l.db", pdp=running.url, mode="observe", unattended="deny")
        with guard, guard.session(agent="bot"):
            assert guard.call("pay", {"n": 1}, run=lambda n: "done") == "done"
            assert guard.call("leak", {"n": 1}, run=lambda n: "card 4111111111111111") == "card [redacted]"
            for tool, code in (("code", "cannot_confine"), ("often", "pdp_error")):
                with pytest.raises(Denied) as denied:
                    guard.call(tool, {"n": 1}, run=lambda n: "done")
                assert denied.value.code == code
            running.process.kill()
            running.process.wait()
            with pytest.raises(Denied) as denied:
                guard.call("look", {"n": 1}, run=lambda n: "done")
            assert denied.value.code == "pdp_unreachable"


def test_server_that_loads_a_built_bundle_itself_is_observed_as_well(tmp_path: Path) -> None:
    require("opa")
    where = folder_of(tmp_path / "p", shop=SHOP)
    (tmp_path / "b.tar.gz").write_bytes(pack(load_bundle([where])))
    with started_opa("127.0.0.1:0", "--bundle", tmp_path / "b.tar.gz") as running:
        server = OpaServer(running.url, upload=False, wait_s=5)
        bundle = load_bundle([where], mode=Mode.OBSERVE)
        pdp = open_pdp(bundle, url=server)
        decision = pdp.evaluate(asked("pay"))
        assert decision.is_permit and decision.observed is not None
        assert decision.observed.reasons[0].text == "never pay"
        assert decision == open_pdp(bundle, isolation="thread").evaluate(asked("pay"))
        pdp.close()
