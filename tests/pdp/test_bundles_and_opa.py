"""Bundles between OPA and us, with the real binary: what one makes, the other loads and verifies."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from host import opa_binary, require
from pdp.documents import asked
from pdp.keypairs import KeyPair, key_pair
from pdp.opa_server import running_opa, started_opa
from pdp.policies import HEAD, folder_of

from fumehood.errors import ConfigError, PdpError
from fumehood.model import Effect, Pdp
from fumehood.pdp import Bundle, BundleKey, OpaServer, load_bundle, open_pdp, pack

TEXT = HEAD + "permit if call.tool in data.limits.tools\n"
ODD = "a\\u2028<&>\\u0001\\u007f\\u00e9"
JSON_DATA = f'{{"tools": ["listed"], "max": 1.50, "odd": "{ODD}", "none": null, "e": 1E3, "z": -0}}'
YAML_DATA = """
# numbers, texts and lists as every reader of YAML has them
int: 12
float: 1.50
exponent: 1e3
small: 0.0000001
whole: 2.0
text: 10.0.0.0/8
quoted: "yes"
block: |
  one
  two
list: [a, 1, null, true, {b: []}]
"""


@pytest.fixture(autouse=True)
def _needs_opa() -> None:
    require("opa")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder_of(tmp_path / "policies", x=TEXT, more__y='package policies.y\n\ndeny contains "no" if 1 == 2\n')
    (tmp_path / "policies" / "limits").mkdir()
    (tmp_path / "policies" / "limits" / "data.json").write_text(JSON_DATA)
    (tmp_path / "policies" / "data.yaml").write_text(YAML_DATA)
    return tmp_path / "policies"


def opa(*arguments: str | Path, cwd: Path, fails: bool = False) -> str:
    done = subprocess.run(
        [str(opa_binary()), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def built_by_opa(folder: Path, *options: str | Path) -> Path:
    opa("build", "-b", folder.name, "-o", "opa.tar.gz", *options, cwd=folder.parent)
    return folder.parent / "opa.tar.gz"


def built_by_us(where: Path, sources: Sequence[Path], key: KeyPair | None = None, **how: str) -> Path:
    signing = key and BundleKey.from_file(key.private, algorithm=key.algorithm, **how)  # type: ignore[arg-type]
    output = where / "ours.tar.gz"
    output.write_bytes(pack(load_bundle(sources), key=signing))
    return output


def effects(bundle: Bundle) -> list[Effect]:
    pdp = open_pdp(bundle, isolation="thread")
    try:
        return [pdp.evaluate(asked(tool)).effect for tool in ("read", "listed", "other")]
    finally:
        pdp.close()


EXPECTED = [Effect.PERMIT, Effect.PERMIT, Effect.DENY]


def test_bundle_that_opa_built_decides_as_its_folder_does(folder: Path) -> None:
    bundle = load_bundle([built_by_opa(folder)])
    assert effects(bundle) == effects(load_bundle([folder])) == EXPECTED
    assert json.loads(bundle.data) == json.loads(load_bundle([folder]).data)


def test_bundle_that_opa_built_with_our_library_inside_loads(folder: Path) -> None:
    import fumehood_policies

    opa("build", "policies", str(fumehood_policies.LIBRARY), "-o", "both.tar.gz", cwd=folder.parent)
    assert effects(load_bundle([folder.parent / "both.tar.gz"])) == EXPECTED


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES384", "ES512", "HS256", "HS512"])
def test_bundle_that_opa_signed_verifies_here(folder: Path, tmp_path: Path, algorithm: str) -> None:
    key, other = key_pair(tmp_path / "keys", algorithm), key_pair(tmp_path / "keys", algorithm, "other")
    signed = built_by_opa(folder, "--signing-key", key.private, "--signing-alg", algorithm)
    trusted = BundleKey.from_file(key.public, algorithm=algorithm)
    assert effects(load_bundle([signed], signed_by=(trusted,))) == EXPECTED
    wrong = BundleKey.from_file(other.public, algorithm=algorithm)
    with pytest.raises(ConfigError, match="does not verify"):
        load_bundle([signed], signed_by=(wrong,))
    assert effects(load_bundle([signed], signed_by=(wrong, trusted))) == EXPECTED
    with pytest.raises(ConfigError, match="no key to verify it with"):
        load_bundle([signed])


@pytest.mark.parametrize("given", [".", "policies", "above/policies"])
def test_folder_that_opa_signed_verifies_here(folder: Path, tmp_path: Path, given: str) -> None:
    key = key_pair(tmp_path / "keys")
    where = {".": folder, "policies": folder.parent}.get(given, folder.parent.parent)
    given = given.replace("above", folder.parent.name)
    opa("sign", "-b", given, "--signing-key", key.private, "--signing-alg", "ES256", "-o", folder, cwd=where)
    trusted = (BundleKey.from_file(key.public),)
    assert effects(load_bundle([folder], signed_by=trusted)) == EXPECTED
    (folder / "limits" / "data.json").write_text(JSON_DATA.replace(", ", ",\n  "))  # means the same
    assert effects(load_bundle([folder], signed_by=trusted)) == EXPECTED
    (folder / "limits" / "data.json").write_text(JSON_DATA.replace("1.50", "1.5"))
    with pytest.raises(ConfigError, match=r"limits/data\.json.*it was changed"):
        load_bundle([folder], signed_by=trusted)


def test_claims_of_opas_signature_are_heeded(folder: Path, tmp_path: Path) -> None:
    key = key_pair(tmp_path / "keys")
    claims = tmp_path / "claims.json"

    def signed(said: dict[str, object]) -> Path:
        claims.write_text(json.dumps(said))
        options = ("--signing-key", key.private, "--signing-alg", "ES256", "--claims-file", claims)
        return built_by_opa(folder, *options)

    one = signed({"scope": "write", "keyid": "release", "iss": "somebody"})
    load_bundle([one], signed_by=(BundleKey.from_file(key.public, id="release", scope="write"),))
    for scope in ("", "read"):
        with pytest.raises(ConfigError, match="scope 'write', and it must be"):
            load_bundle([one], signed_by=(BundleKey.from_file(key.public, scope=scope),))
    with pytest.raises(ConfigError, match="has expired"):
        load_bundle([signed({"exp": 1000})], signed_by=(BundleKey.from_file(key.public),))
    with pytest.raises(ConfigError, match="not valid yet"):
        load_bundle([signed({"nbf": 99999999999})], signed_by=(BundleKey.from_file(key.public),))


def test_bundle_that_we_built_has_the_revision_of_its_folder(folder: Path, tmp_path: Path) -> None:
    ours = built_by_us(tmp_path, [folder])
    again = load_bundle([ours])
    assert again == load_bundle([folder])
    assert pack(again) == ours.read_bytes()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES512", "HS384"])
def test_bundle_that_we_signed_verifies_in_opa(folder: Path, tmp_path: Path, algorithm: str) -> None:
    key, other = key_pair(tmp_path / "keys", algorithm), key_pair(tmp_path / "keys", algorithm, "other")
    ours = built_by_us(tmp_path, [folder], key, scope="write")

    def again(trusted: Path, *, fails: bool) -> str:
        options = ("--signing-alg", algorithm, "--scope", "write", "--verification-key", trusted)
        to = ("--signing-key", key.private, "-o", "x.tar.gz")
        return opa("build", "-b", ours, *options, *to, cwd=tmp_path, fails=fails)

    assert "failed to verify JWT signature" in again(other.public, fails=True)
    again(key.public, fails=False)
    trusted = BundleKey.from_file(key.public, algorithm=algorithm)
    assert effects(load_bundle([tmp_path / "x.tar.gz"], signed_by=(trusted,))) == EXPECTED


def test_opa_decides_with_the_bundle_that_we_built(folder: Path, tmp_path: Path) -> None:
    ours = built_by_us(tmp_path, [folder])
    (tmp_path / "input.json").write_bytes(asked("listed").body)
    said = json.loads(
        opa("eval", "-b", ours, "-i", "input.json", "data.fumehood.main.decision", cwd=tmp_path)
    )
    decision = said["result"][0]["expressions"][0]["value"]
    assert (decision["effect"], decision["policy"]["revision"]) == ("permit", load_bundle([folder]).revision)


def test_guard_decides_at_a_server_that_has_the_signed_bundle_and_writes_nothing(
    folder: Path, tmp_path: Path
) -> None:
    key = key_pair(tmp_path / "keys")
    ours = built_by_us(tmp_path, [folder], key)
    bundle = load_bundle([ours], signed_by=(BundleKey.from_file(key.public),))
    options = ("--verification-key", key.public, "--signing-alg", "ES256", "--bundle", ours)
    with started_opa("127.0.0.1:0", *options) as running:
        for upload in (True, False):
            pdp = open_pdp(bundle, url=OpaServer(running.url, upload=upload))
            assert [pdp.evaluate(asked(tool)).effect for tool in ("read", "listed", "other")] == EXPECTED
            pdp.close()
        assert '"req_method":"PUT"' not in running.said()
        with pytest.raises(ConfigError, match="has the bundle"):
            open_pdp(load_bundle("refund"), url=OpaServer(running.url, upload=False))
        with pytest.raises(ConfigError, match="policies that are not ours"):
            open_pdp(load_bundle("refund"), url=running.url)


def test_server_whose_bundle_is_replaced_denies_until_the_right_one_is_back(
    folder: Path, tmp_path: Path
) -> None:
    right, other = pack(load_bundle([folder])), pack(load_bundle("refund"))
    with serving(right) as (service, offered):
        settings = (f"services.s.url={service}", "bundles.b.service=s", "bundles.b.resource=b.tar.gz")
        polling = [f"bundles.b.polling.{which}_delay_seconds=1" for which in ("min", "max")]
        options = [word for setting in (*settings, *polling) for word in ("--set", setting)]
        with running_opa("127.0.0.1:0", *options) as url:
            pdp = open_pdp(load_bundle([folder]), url=OpaServer(url, upload=False, wait_s=10))
            assert pdp.evaluate(asked("read")).is_permit
            for content, is_right in ((other, False), (right, True)):
                offered[0] = content
                assert eventually(pdp, is_right)
            pdp.close()


@contextmanager
def serving(content: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A bundle service: its URL, and what it offers now."""
    offered = [content]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(offered[0])))
            self.end_headers()
            self.wfile.write(offered[0])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", offered
        finally:
            server.shutdown()
            thread.join()


def eventually(pdp: Pdp, is_right: bool) -> bool:
    """True once the server has loaded its bundle and the PDP says what it has to: a permit, or an error."""
    for _ in range(1500):
        try:
            if pdp.evaluate(asked("read")).is_permit and is_right:
                return True
        except PdpError as error:
            if not is_right and error.code in ("pdp_error", "pdp_undefined"):
                return True
        time.sleep(0.02)
    return False
