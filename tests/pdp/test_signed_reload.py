"""Signed policies that are replaced: what comes later must be signed with the same keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from pdp.documents import asked
from pdp.keypairs import key_pair
from pdp.policies import HEAD, folder_of

from fumehood import Guard
from fumehood.errors import ConfigError
from fumehood.pdp import BundleKey, load_bundle, pack, sources


def test_reloaded_bundle_must_be_signed_with_the_same_key(tmp_path: Path) -> None:
    key, other = key_pair(tmp_path / "keys"), key_pair(tmp_path / "keys", name="other")
    path = tmp_path / "p.tar.gz"

    def put(tool: str, private: Path | None) -> None:
        folder = folder_of(tmp_path / "policies", x=HEAD.replace("read", tool))
        signing = BundleKey.from_file(private) if private else None
        path.write_bytes(pack(load_bundle([folder]), key=signing))

    put("read", key.private)
    with Guard(path, signed_by=key.public, ledger=tmp_path / "l.db", isolation="thread") as guard:
        before = sources.stamp([path])
        for private, says in ((None, "not signed"), (other.private, "does not verify")):
            put("write", private)
            assert sources.stamp([path]) != before
            with pytest.raises(ConfigError, match=says):
                guard.reload()
            assert guard.pdp.evaluate(asked("read")).is_permit
        put("write", key.private)
        guard.reload()
        assert not guard.pdp.evaluate(asked("read")).is_permit
        assert guard.pdp.evaluate(asked("write")).is_permit
