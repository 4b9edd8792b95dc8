"""`make escape`: what gets out of our sandbox, of bubblewrap, and of none. See docs/escape.md."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from escape.table import main

if __name__ == "__main__":
    sys.exit(main())
