"""Both tiers, and an ordinary user, as the tests of confinement have them."""

from __future__ import annotations

from confine.conftest import as_ordinary_user, tier

__all__ = ["as_ordinary_user", "tier"]
