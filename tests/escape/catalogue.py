"""All attacks, in the order of their classes, and every part of a scene that they need."""

from __future__ import annotations

from typing import Final

from escape import scene_listeners, scene_processes, scene_secrets  # noqa: F401 — they add to PARTS
from escape.attacks import (
    file_read,
    kernel_namespaces,
    kernel_surface,
    metadata_host,
    metadata_paths,
    metadata_processes,
    network,
    network_local,
    process,
    process_stay,
    resources,
    resources_memory,
    secrets,
    terminal,
    write,
    write_kept,
    write_xor_execute,
)
from escape.model import Attack

ATTACKS: Final[tuple[Attack, ...]] = (
    *file_read.ATTACKS,
    *metadata_paths.ATTACKS,
    *metadata_processes.ATTACKS,
    *metadata_host.ATTACKS,
    *write.ATTACKS,
    *write_kept.ATTACKS,
    *secrets.ATTACKS,
    *process.ATTACKS,
    *process_stay.ATTACKS,
    *network.ATTACKS,
    *network_local.ATTACKS,
    *kernel_surface.ATTACKS,
    *kernel_namespaces.ATTACKS,
    *write_xor_execute.ATTACKS,
    *resources.ATTACKS,
    *resources_memory.ATTACKS,
    *terminal.ATTACKS,
)
BY_ID: Final = {attack.id: attack for attack in ATTACKS}
