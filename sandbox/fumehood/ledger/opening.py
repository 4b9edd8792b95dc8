"""Opening a ledger: where it lies is looked at before anything is made there."""

from __future__ import annotations

import os
from typing import Literal

from fumehood.errors import LedgerError
from fumehood.ledger import files
from fumehood.ledger.sqlite import SqliteLedger

__all__ = ["open_ledger"]


def open_ledger(
    path: str | os.PathLike[str] | None = None,
    *,
    create: bool = True,
    readonly: bool = False,
    durability: Literal["process", "power"] = "process",
) -> SqliteLedger:
    """Open the ledger at *path*; None is `default_path()`.

    `durability`: "process" survives the death of any process, "power" a power cut too (an fsync per commit).

    Raises:
        LedgerError: it is missing (and *create* is False), unsafe, on a network file system, of another
            version, or cannot be read or written.
    """
    if durability not in ("process", "power"):
        raise ValueError(f'durability is "process" or "power", not {durability!r}')
    where = files.locate(path)
    if path is None and create and not readonly:
        files.make_private_folder(where.parent)
    is_there = files.vet(where)
    if not is_there and (readonly or not create):
        raise LedgerError(
            f"there is no ledger at {where}; an agent makes it on its first call. "
            "Name another with --ledger or $FUMEHOOD_LEDGER",
            code="ledger_missing",
        )
    files.make_private_folder(files.sidecar(where))
    if not is_there:
        files.create_private(where)
    return SqliteLedger(where, durability=durability, is_readonly=readonly)
