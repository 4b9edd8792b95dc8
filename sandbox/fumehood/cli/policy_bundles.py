"""`fumehood policy build|inspect`: policies as one file that OPA loads, too, and what is in them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fumehood.cli.output import echo_json, json_option, print_table
from fumehood.cli.policy_keys import ALGORITHMS, KEY_FILE, key_from, signed_option
from fumehood.display import clip, inert, pretty

if TYPE_CHECKING:
    from fumehood.errors import ConfigError, Problem
    from fumehood.pdp import Bundle, Inspection
    from fumehood.pdp.keys import Keys
    from fumehood.pdp.packed import Packed

__all__ = ["build", "inspect"]

_POLICY_EXIT = 3  # configuration or policy
_USAGE_EXIT = 2
_RULE = ("name", "file", "line", "metadata")
_SHOWN = 2000  # characters of data


@click.command()
@click.argument("sources", nargs=-1)
@click.option(
    "-o", "--output", default="bundle.tar.gz", show_default=True, help="The file to write, *.tar.gz."
)
@click.option("-r", "--revision", default="", help="What the manifest calls it [the digest of the policies].")
@click.option("--metadata", multiple=True, metavar="NAME=TEXT", help="More for the manifest.")
@click.option("--signing-key", type=KEY_FILE, help="Sign it with this private key (PEM), or secret.")
@click.option("--signing-alg", type=click.Choice(ALGORITHMS), help="The algorithm [from the key].")
@click.option("--key-id", default="default", show_default=True, help="What the signature calls the key.")
@click.option("--scope", default="", help="What it is signed for.")
@signed_option
@json_option
def build(
    *,
    sources: tuple[str, ...],
    output: str,
    revision: str,
    metadata: tuple[str, ...],
    signing_key: str | None,
    signing_alg: str | None,
    key_id: str,
    scope: str,
    signed_by: Keys,
    as_json: bool,
) -> None:
    """Write SOURCES (folders, bundles, names of packs; default ./policies) as one bundle that OPA loads, too.

    It holds the policies that pass the gate, what they need of Fumehood's, data and a manifest; no tests. The
    same sources and options give the same bytes.

    Exit code: 0 written, 2 no such source, 3 the policies or keys cannot be used.
    """
    from fumehood.errors import ConfigError
    from fumehood.pdp import load_bundle, pack

    if not output.endswith(".tar.gz"):
        raise click.UsageError(f"--output {output}: a bundle is called *.tar.gz")
    if signing_key is None and (signing_alg or scope or key_id != "default"):
        raise click.UsageError("--signing-alg, --key-id and --scope are for --signing-key")
    key = key_from(signing_key, signing_alg, scope, id=key_id) if signing_key else None
    more = _pairs(metadata)
    try:
        bundle = load_bundle(sources or ("./policies",), signed_by=signed_by)
        packed = pack(bundle, revision=revision, metadata=more, key=key)
    except ConfigError as error:
        _refuse(error, as_json=as_json)
        return
    _write(Path(output), packed)
    _tell(output, packed, bundle, key_id if key else None, as_json=as_json)


@click.command()
@click.argument("sources", nargs=-1)
@signed_option
@json_option
def inspect(
    *,
    sources: tuple[str, ...],
    signed_by: Keys,
    as_json: bool,
) -> None:
    """Show what is in SOURCES (folders, bundles, names of packs; default ./policies): manifest and signature,
    packages, rules with their METADATA, data, and the revision that decisions carry.

    Exit code: 0, 2 no such source, 3 the policies cannot be used, or are not signed with the key given.
    """
    from fumehood.errors import ConfigError
    from fumehood.pdp import inspect_sources

    try:
        found = inspect_sources(sources or ("./policies",), signed_by=signed_by)
    except ConfigError as error:
        _refuse(error, as_json=as_json)
        return
    if as_json:
        echo_json(_as_dict(found))
    else:
        _show(found)
    if found.problems:
        click.get_current_context().exit(_POLICY_EXIT)


def _pairs(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given:
        name, is_pair, text = pair.partition("=")
        if not is_pair or not name or name == "fumehood" or name in found:
            raise click.UsageError(
                f"--metadata {pair}: expected NAME=TEXT, each name once, and not `fumehood`"
            )
        found[name] = text
    return found


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: whoever loads it never finds half of it."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, 0o644)
                file.write(content)
                file.flush()
                os.fsync(handle)
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from error


def _tell(output: str, packed: bytes, bundle: Bundle, key_id: str | None, *, as_json: bool) -> None:
    from fumehood.canonical import digest

    if as_json:
        echo_json(
            {
                "ok": True,
                "output": output,
                "size_bytes": len(packed),
                "digest": digest(packed),
                "revision": bundle.revision,
                "packages": list(bundle.packages),
                "key_id": key_id,
            }
        )
        return
    signed = f", signed with key {inert(key_id)}" if key_id else ", not signed"
    click.echo(f"{inert(output)}: {', '.join(bundle.packages)}; {len(packed)} bytes{signed}")
    click.echo(bundle.revision)


def _as_dict(found: Inspection) -> dict[str, object]:
    return {
        "ok": not found.problems,
        "revision": found.revision or None,
        "packages": list(found.packages),
        "rules": [{name: getattr(rule, name) for name in _RULE} for rule in found.rules],
        "data": dict(found.data),
        "tests": found.tests,
        "bundles": [_bundle(bundle) for bundle in found.bundles],
        "problems": [_problem(problem) for problem in found.problems],
    }


def _bundle(packed: Packed) -> dict[str, object]:
    manifest, signature = packed.manifest, packed.signature
    return {
        "path": packed.path,
        "files": [
            {"name": name, "size_bytes": len(content)} for name, content in sorted(packed.files.items())
        ],
        "manifest": manifest
        and {
            "revision": manifest.revision,
            "roots": list(manifest.roots),
            "metadata": dict(manifest.metadata),
        },
        "signature": signature
        and {
            "is_verified": signature.is_verified,
            "algorithm": signature.algorithm,
            "key_id": signature.key_id,
            "scope": signature.scope,
            "files": list(signature.files),
        },
    }


def _show(found: Inspection) -> None:
    click.echo(f"revision   {found.revision or 'none: the policies cannot be used'}")
    for packed in found.bundles:
        _show_bundle(packed)
    click.echo(f"packages   {', '.join(map(inert, found.packages)) or 'none'}; {found.tests} test files")
    if found.rules:
        click.echo()
        print_table(
            ("RULE", "PLACE", "METADATA"),
            [(rule.name, f"{rule.file}:{rule.line}", _one_line(rule.metadata)) for rule in found.rules],
        )
    if found.data:
        click.echo("\ndata")
        click.echo(clip(pretty(_canonical(found.data)), _SHOWN))
    for problem in found.problems:
        _say(str(problem), err=True)


def _show_bundle(packed: Packed) -> None:
    click.echo(f"bundle     {inert(packed.path)}, {len(packed.files)} files")
    if packed.manifest is not None:
        roots = ", ".join(inert(root) or "everything" for root in packed.manifest.roots)
        click.echo(f"  manifest   revision {inert(packed.manifest.revision) or 'none'}; roots {roots}")
        for name, value in packed.manifest.metadata.items():
            click.echo(f"  metadata   {inert(name)}: {inert(_one_line(value))}")
    signature = packed.signature
    if signature is None:
        click.echo("  signature  none")
        return
    state = "verified" if signature.is_verified else "NOT verified: give --verification-key"
    scope = f", scope {inert(signature.scope)}" if signature.scope else ""
    key = f"key {inert(signature.key_id)}" if signature.key_id else "a key without a name"
    click.echo(
        f"  signature  {inert(signature.algorithm)}, {key}{scope}, {len(signature.files)} files; {state}"
    )


def _one_line(value: object) -> str:
    import json

    if value is None:
        return ""
    if isinstance(value, dict) and isinstance(value.get("title"), str):
        return str(value["title"])
    return " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())


def _canonical(data: object) -> bytes:
    from fumehood.canonical import canonical

    return canonical(data)


def _refuse(error: ConfigError, *, as_json: bool) -> None:
    """Print why it cannot be used, and end."""
    if as_json:
        said = str(error).split("\n")[0]
        echo_json({"ok": False, "error": said, "problems": [_problem(p) for p in error.problems]})
    else:
        _say(str(error), err=True)
    click.get_current_context().exit(_POLICY_EXIT if error.problems else _USAGE_EXIT)


def _problem(problem: Problem) -> dict[str, object]:
    names = ("file", "line", "column", "message", "remedy", "source_line")
    return {name: getattr(problem, name) for name in names}


def _say(text: str, *, err: bool) -> None:
    for line in text.splitlines():
        click.echo(inert(line), err=err)
