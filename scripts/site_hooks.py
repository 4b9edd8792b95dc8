"""For mkdocs: pages whose text is a file at the top of the repository, which GitHub wants there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_INCLUDE = re.compile(r"^<!-- include: (?P<name>[\w.]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, *, config: Any, **_: object) -> str:
    """Put the named file in the place of the comment; its links start one folder further up."""
    top = Path(config.config_file_path).parent
    return _INCLUDE.sub(lambda found: (top / found["name"]).read_text().replace("](docs/", "]("), markdown)
