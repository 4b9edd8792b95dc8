"""For mkdocs: pages whose text is a file at the top of the repository, which GitHub wants there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_INCLUDE = re.compile(r"^<!-- include: (?P<name>[\w.]+) -->$", re.MULTILINE)
_LINK = re.compile(r"\]\((?:docs/)?(?P<target>[\w./-]+)")


def on_page_markdown(markdown: str, *, config: Any, **_: object) -> str:
    """Put the named file in the place of the comment, its links turned to where the pages are."""
    top = Path(config.config_file_path).parent
    return _INCLUDE.sub(lambda found: _turned((top / found["name"]).read_text()), markdown)


def _turned(text: str) -> str:
    """`docs/policies.md` is `policies.md` here, and `SECURITY.md` is `security.md`."""
    return _LINK.sub(lambda found: f"]({_page(found['target'])}", text)


def _page(target: str) -> str:
    return target.lower() if re.fullmatch(r"[A-Z]+\.md", target) else target
