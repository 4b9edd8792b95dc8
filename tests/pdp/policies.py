"""Small bundles for tests."""

from __future__ import annotations

from pathlib import Path

from fumehood.pdp import Bundle, load_bundle

HEAD = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "read"\n\n'


def folder_of(where: Path, **files: str) -> Path:
    """A folder with these files; `a_dot_json` is a.json, `a__b` is a/b.rego."""
    where.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = where / name.replace("__", "/").replace("_dot_", ".")
        path = path if path.suffix else path.with_suffix(".rego")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return where


def bundle_of(where: Path, text: str) -> Bundle:
    """The bundle of one policy file."""
    return load_bundle([folder_of(where / "policies", x=text)])
