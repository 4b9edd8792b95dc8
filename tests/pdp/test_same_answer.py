"""What the gate accepts, both engines answer alike: random policies, hostile documents, thousands of pairs.

`make soak` compares a hundred thousand pairs, the other runs two thousand. A difference is either on the
published list (docs/engine-differences.md) or a failure; hypothesis then makes the policy smaller.
"""

from __future__ import annotations

import faulthandler
import http.client
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from host import require
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pdp.documents import as_input
from pdp.engines import LISTED, listed, said
from pdp.opa_server import running_opa
from pdp.policies import folder_of
from pdp.programs import DATA, Author, some_document

from fumehood.errors import ConfigError, PdpError
from fumehood.model import Decision, PolicyInput
from fumehood.pdp import Bundle, load_bundle, open_pdp, sources
from fumehood.pdp.decision import decision_from

QUERY = "/v1/data/fumehood/main/decision?strict-builtin-errors=true"
DOCUMENTS = 50  # for each policy


class Server:
    """One OPA with the library in it; the policy is put there anew each time."""

    def __init__(self, url: str) -> None:
        self._link = http.client.HTTPConnection(str(urlsplit(url).hostname), urlsplit(url).port, timeout=20)
        for file in sources.library():
            assert self._ask("PUT", f"/v1/policies/{file.name}", file.text.encode())[0] == 200
        for name, value in json.loads(DATA).items():
            assert self._ask("PUT", f"/v1/data/{name}", json.dumps(value).encode())[0] == 204

    def _ask(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        self._link.request(method, path, body)
        answer = self._link.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def close(self) -> None:
        self._link.close()

    def put(self, bundle: Bundle) -> str:
        """What OPA's compiler says against the policy; "" if nothing."""
        ((name, text),) = ((n, t) for n, t in bundle.files if not n.startswith("lib/"))
        revision = f"package fumehood.bundle\n\nrevision := {json.dumps(bundle.revision)}\n"
        assert self._ask("PUT", "/v1/policies/revision", revision.encode())[0] == 200
        status, answer = self._ask("PUT", "/v1/policies/x", text.encode())
        return "" if status == 200 else f"{name}: {answer}"

    def said(self, asked: PolicyInput) -> Decision | str:
        status, answer = self._ask("POST", QUERY, b'{"input":' + asked.body + b"}")
        if status != 200 or not isinstance(answer, dict) or "result" not in answer:
            return "pdp_error" if status == 500 else f"odd: {status} {answer}"
        try:
            return decision_from(answer["result"])
        except PdpError as error:
            return error.code


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    require("opa")
    with running_opa() as url:
        found = Server(url)
        yield found
        found.close()


def compare(text: str, dice: random.Random, folder: Path, server: Server, count: int) -> Counter[str]:
    """What became of the policy, and how often each published difference was met.

    Raises:
        AssertionError: the engines disagree in a way that is not published.
    """
    folder_of(folder, x=text, data_dot_json=DATA)
    try:
        bundle = load_bundle([folder])
    except ConfigError:
        return Counter({"refused": 1})
    complaint = server.put(bundle)
    if complaint:
        assert re.search(r"rego_(type|compile|unsafe_var)_error", complaint), f"{text}\n{complaint}"
        return Counter({"opa-compiler": 1})
    found = Counter({"accepted": 1})
    embedded = open_pdp(bundle, isolation="thread")
    for _ in range(count):
        asked = as_input(some_document(dice))
        here, there = said(embedded, asked), server.said(asked)
        found["pairs"] += 1
        if here != there:
            found[listed(here, there)] += 1
            assert listed(here, there) in LISTED, f"{text}\n{asked.body.decode()}\n{here}\n{there}"
    return found


def fuzz(pairs: int, server: Server, folder: Path, *, seed: int) -> Counter[str]:
    found: Counter[str] = Counter()
    examples = pairs // DOCUMENTS * 12  # about one policy in three passes the gate

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(number=st.integers(0, 2**32))
    def test(number: int) -> None:
        if found["pairs"] < pairs:
            dice = random.Random(number + seed)
            found.update(compare(Author(dice).policy(), dice, folder, server, DOCUMENTS))

    test()
    return found


def test_engines_agree_about_two_thousand_pairs(server: Server, tmp_path: Path) -> None:
    found = fuzz(2000, server, tmp_path / "policies", seed=0)
    print(dict(found))
    assert found["pairs"] >= 2000
    assert found["built-in-error"] < found["pairs"] / 4
    assert set(found) - {"accepted", "refused", "pairs"} <= LISTED


@pytest.mark.slow
@pytest.mark.parametrize("part", range(1, 11))
def test_engines_agree_about_a_hundred_thousand_pairs(part: int, server: Server, tmp_path: Path) -> None:
    faulthandler.dump_traceback_later(1800, exit=True)  # instead of the time that other tests have
    found = fuzz(10_000, server, tmp_path / "policies", seed=part << 33)
    assert found["pairs"] >= 10_000
    assert set(found) - {"accepted", "refused", "pairs"} <= LISTED


def test_comparing_finds_what_the_gate_stops(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["fumehood.pdp.gate.inspect"], "_CHECKS", ())
    text = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "pay"\n\n'
    rules = [
        'deny contains "x" if not startswith(call.args.a, "a")',
        'deny contains "x" if { every e in [1] { e = 2 } }',
    ]
    for rule in rules:
        with pytest.raises(AssertionError, match="effect"):
            compare(f"{text}{rule}\n", random.Random(1), tmp_path / "policies", server, DOCUMENTS)
