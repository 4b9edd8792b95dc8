"""The built-in profiles, and what prepared interpreters have loaded for them."""

from __future__ import annotations

from typing import Final

from fumehood.confine.fields import Limits, Profile

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
#: Loaded before the job comes: what most snippets use. Together under 1 MiB more than a confined process has.
_COMMON_IMPORTS: Final = (
    "base64",
    "bisect",
    "collections",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "io",
    "itertools",
    "json",
    "math",
    "operator",
    "pathlib",
    "random",
    "re",
    "statistics",
    "string",
    "textwrap",
    "time",
    "typing",
)
#: Without namespaces /etc/gitconfig is there and cannot be read, which git takes for an error.
_TOOLS: Final = {"GIT_CONFIG_NOSYSTEM": "1"}
BUILT_IN: Final = (
    Profile(
        name="strictest",
        about="Computes, and nothing else: one process that starts no other, 256 MiB, its own empty folder.",
        fork=False,
        exec=False,
        imports=_COMMON_IMPORTS,
        limits=Limits(memory_bytes=256 * _MIB, disk_bytes=16 * _MIB, file_bytes=16 * _MIB, processes=8),
    ),
    Profile(
        name="python-offline",
        about="Python with the packages of the calling interpreter, a working folder and no network.",
        env=_TOOLS,
        imports=_COMMON_IMPORTS,
    ),
    Profile(
        name="python-data",
        about="python-offline for numpy, pandas and matplotlib: 2 GiB, one thread, pictures into files.",
        env={
            **_TOOLS,
            "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108 — private; where there is none, a temporary folder
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "XDG_CACHE_HOME": "/tmp/cache",  # noqa: S108 — as above: fontconfig's
        },
        imports=(*_COMMON_IMPORTS, "numpy"),
        limits=Limits(memory_bytes=2 * _GIB, disk_bytes=512 * _MIB, file_bytes=256 * _MIB),
    ),
    Profile(
        name="shell",
        about="The system's programs through /bin/sh, a working folder and no network.",
        python=False,
        env=_TOOLS,
        jit=True,
    ),
    Profile(
        name="model-loader",
        about="Loads a file that may carry code. No program, no network; what it tries is recorded.",
        exec=False,
        observe=True,
        sockets=True,
        limits=Limits(memory_bytes=4 * _GIB, disk_bytes=64 * _MIB, processes=64),
    ),
    Profile(
        name="pdp",
        about="A policy worker after loading: what is open stays usable, nothing new can be reached.",
        kind="pdp",
        system=False,
        python=False,
        fork=False,
        exec=False,
    ),
)
