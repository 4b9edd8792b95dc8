"""Where the Rego library and the packs lie. Knows nothing of the rest of the product."""

from pathlib import Path

__all__ = ["LIBRARY", "OLD_NAMES", "PACKS"]

LIBRARY = Path(__file__).parent / "lib"
PACKS = Path(__file__).parent / "packs"
#: What a pack was called before → what it is called.
OLD_NAMES = {"model-file": "model_files"}
