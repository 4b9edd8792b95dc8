"""All attacks, in the order of their classes."""

from __future__ import annotations

from typing import Final

from escape.attacks import (
    file_read,
    kernel_surface,
    metadata,
    network,
    process,
    resources,
    secrets,
    terminal,
    write,
    write_xor_execute,
)
from escape.model import Attack

ATTACKS: Final[tuple[Attack, ...]] = (
    *file_read.ATTACKS,
    *metadata.ATTACKS,
    *write.ATTACKS,
    *secrets.ATTACKS,
    *process.ATTACKS,
    *network.ATTACKS,
    *kernel_surface.ATTACKS,
    *write_xor_execute.ATTACKS,
    *resources.ATTACKS,
    *terminal.ATTACKS,
)
BY_ID: Final = {attack.id: attack for attack in ATTACKS}
