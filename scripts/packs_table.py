"""Write the tables of docs/packs.md from the packs themselves: METADATA, and the schemas of parameters.

scripts/packs_table.py             compare; exit 1 where the page says something else
scripts/packs_table.py --write     write them anew
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

PACKS = Path(__file__).parents[1] / "policies" / "fumehood_policies" / "packs"
PAGE = Path(__file__).parents[1] / "docs" / "packs.md"
RULES = "permit|deny|approve|confine|limit|permit_connect|deny_connect|approve_connect|withhold|redact|label"
BLOCK = re.compile(rf"# METADATA\n(?P<about>(?:#.*\n)+)(?P<what>package|{RULES})\b")


def policies() -> list[tuple[str, str]]:
    """The packs, by name, with the text of their policy."""
    found = (path for path in PACKS.glob("*/*.rego") if not path.name.endswith("_test.rego"))
    return sorted((path.parent.name, path.read_text()) for path in found)


def field(about: str, name: str) -> str:
    """One field of a METADATA block, on one line."""
    found = re.search(rf"^# {name}: *(\|\n)?(?P<text>.*(?:\n#   .*)*)", about, re.MULTILINE)
    return " ".join(line.lstrip("# ").strip() for line in found["text"].splitlines()) if found else ""


def controls(about: str) -> str:
    found = re.search(r"controls: \[([^]]*)\]", about)
    return found[1] if found else ""


def overview() -> list[str]:
    rows = ["| pack | what it does | controls |", "|---|---|---|"]
    for pack, text in policies():
        about = BLOCK.search(text)["about"]  # type: ignore[index]
        rows.append(f"| `{pack}` | {field(about, 'description')} | {controls(about)} |")
    return rows


def rules() -> list[str]:
    rows = ["| pack | rule | what | controls |", "|---|---|---|---|"]
    for pack, text in policies():
        for block in BLOCK.finditer(text):
            if block["what"] != "package":
                about = block["about"]
                rows.append(f"| `{pack}` | `{block['what']}` | {field(about, 'title')} | {controls(about)} |")
    return rows


def parameters() -> list[str]:
    rows = ["| parameter | what it is | default |", "|---|---|---|"]
    for path in sorted(PACKS.glob("*/parameters.jsonschema")):
        (pack, rule), *_ = json.loads(path.read_text())["properties"].items()
        defaults = json.loads(path.with_name("data.json").read_text())[pack]
        for name, about in rule["properties"].items():
            shown = json.dumps(defaults[name])
            rows.append(f"| `{pack}.{name}` | {about['description']} | `{shown}` |".replace("\\", ""))
    return rows


def written(page: str) -> str:
    """The page with each table as it is now."""
    for name, table in (("overview", overview()), ("rules", rules()), ("parameters", parameters())):
        start, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        before, rest = page.split(start, 1)
        page = before + start + "\n" + "\n".join(table) + "\n\n" + end + rest.split(end, 1)[1]
    return page


def main() -> int:
    page = PAGE.read_text()
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written(page))
        return 0
    if page != written(page):
        sys.stderr.write("docs/packs.md is not what the packs say; run scripts/packs_table.py --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
