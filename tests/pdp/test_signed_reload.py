"""Signed policies that are replaced: what comes later must be signed with the same keys."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pdp.documents import asked
from pdp.keypairs import key_pair
from pdp.policies import HEAD, folder_of

from fumehood import Guard
from fumehood.errors import ConfigError
from fumehood.pdp import BundleKey, load_bundle, pack, sources


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_reloaded_bundle_must_be_signed_with_the_same_key(
    tmp_path: Path, mode: Literal["enforce", "observe"]
) -> None:
    key, other = key_pair(tmp_path / "keys"), key_pair(tmp_path / "keys", name="other")
    path = tmp_path / "p.tar.gz"

    def put(tool: str, private: Path | None) -> None:
        folder = folder_of(tmp_path / "policies", x=HEAD.replace("read", tool))
        signing = BundleKey.from_file(private) if private else None
        path.write_bytes(pack(load_bundle([folder]), key=signing))

    put("read", key.private)

    def permits(tool: str) -> bool:
        decision = guard.pdp.evaluate(asked(tool))
        return (decision.observed if mode == "observe" else decision).is_permit  # type: ignore[union-attr]

    ledger = tmp_path / "l.db"
    with Guard(path, signed_by=key.public, ledger=ledger, isolation="thread", mode=mode) as guard:
        before = sources.stamp([path])
        for private, says in ((None, "not signed"), (other.private, "does not verify")):
            put("write", private)
            assert sources.stamp([path]) != before
            with pytest.raises(ConfigError, match=says):
                guard.reload()
            assert permits("read")
        put("write", key.private)
        guard.reload()
        assert not permits("read")
        assert permits("write")
