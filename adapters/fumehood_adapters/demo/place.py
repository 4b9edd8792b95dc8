"""Where one demo takes place: its folder, its ledger, the attacker's file, and the tier this host gives."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fumehood import confine
from fumehood.errors import ConfinementError
from fumehood.ledger import open_ledger
from fumehood_adapters.demo.payload import Listener, model_file

__all__ = ["Place", "Tier", "chosen_tier", "prepared"]

Tier = Literal["full", "no-userns"]

# Beside the pack where nobody is there to answer: the shortest time-out counts.
_SHORT = """package policies.demo

import data.fumehood.call

approve contains {"reason": "nobody is at the desk", "risk": "low", "timeout_s": 1} if {
	call.tool == "issue_refund"
	not _is_named
}

_is_named if call.trusted("/amount_usd")
"""


@dataclass(frozen=True, slots=True)
class Place:
    """`suffix` keeps the agents of this run apart from an earlier one's in the same ledger: limits count."""

    folder: Path
    ledger: str
    suffix: str

    @property
    def effects(self) -> Path:
        return self.folder / "effects.jsonl"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def log(self) -> Path:
        """What the agents' process says on stderr."""
        return self.folder / "agents.log"

    def short_time_out(self) -> str:
        """A folder with the policy that lets requests expire after a second."""
        folder = self.folder / "policies"
        folder.mkdir(mode=0o700)
        (folder / "demo.rego").write_text(_SHORT)
        return str(folder)


def prepared(ledger: str | None, tier: Tier, listener: Listener) -> Place:
    """A fresh folder with the model file in it, and the ledger.

    Raises:
        LedgerError: *ledger* cannot be used.
    """
    folder = Path(tempfile.mkdtemp(prefix="fumehood-demo-"))
    if tier == "no-userns" and os.geteuid() == 0:
        folder.chmod(0o711)  # the confined user has to come through to the models
    given = folder / "trace.db" if ledger is None else Path(ledger).expanduser().absolute()
    suffix = f"-{secrets.token_hex(2)}" if given.exists() else ""
    with closing(open_ledger(given)) as opened:
        place = Place(folder, opened.path, suffix)
    place.models.mkdir()
    place.models.chmod(0o755)
    file = place.models / "sentiment.pkl"
    model_file(file, port=listener.port)
    file.chmod(0o644)
    return place


def chosen_tier(asked: Tier | None) -> Tier:
    """*asked* if this host gives it; without a wish the strongest that it gives.

    Raises:
        ConfinementError: it gives none.
    """
    try:
        _try(asked or "full")
    except ConfinementError:
        if asked is not None:
            raise
        _try("no-userns")
        return "no-userns"
    finally:
        confine.close()
    return asked or "full"


def _try(tier: Tier) -> None:
    """Run nothing, with every layer of *tier* on."""
    confine.python("", profile="model-loader", tier=tier, timeout_s=20.0)
