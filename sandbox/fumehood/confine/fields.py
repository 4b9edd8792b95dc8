"""What a profile is: its fields, and what makes them valid. Paths are text here; no file is looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


class Limits(BaseModel):
    """Bounds on one job. Bytes, seconds and counts; the ceilings are ours, a profile chooses below them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_bytes: Annotated[int, Field(ge=32 * _MIB, le=1024 * _GIB)] = 512 * _MIB
    disk_bytes: Annotated[int, Field(ge=_MIB, le=1024 * _GIB)] = 256 * _MIB
    file_bytes: Annotated[int, Field(ge=0, le=1024 * _GIB)] = 128 * _MIB
    inodes: Annotated[int, Field(ge=64, le=10_000_000)] = 10_000
    output_bytes: Annotated[int, Field(ge=0, le=64 * _MIB)] = _MIB
    processes: Annotated[int, Field(ge=1, le=4096)] = 64
    open_files: Annotated[int, Field(ge=16, le=1000)] = 256
    cpu_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0


def clean_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{path!r} is not an absolute path")
    return os.path.normpath(path).replace("//", "/")


class Profile(BaseModel):
    """One profile. Paths are absolute; `read` and `write` hold what is added to the system's own folders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str = ""
    kind: Literal["job", "pdp"] = "job"
    system: bool = True  # /usr, /bin, /lib: readable
    python: bool = True  # the calling interpreter and its site-packages: readable
    fork: bool = True  # may have children
    exec: bool = True  # may start programs; without it, only the one that it was started as
    jit: bool = False  # may make machine code at run time, as interpreters with a compiler inside do
    observe: bool = False  # the supervisor holds and records open, exec, socket, connect, unlink
    sockets: bool = (
        False  # where it observes: TCP and UDP sockets, which lead nowhere, so that connects are seen
    )
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    keep: tuple[
        str, ...
    ] = ()  # stays read-only inside what is writable, the working folder too; shows nothing
    env: Mapping[str, str] = {}
    imports: tuple[str, ...] = ()  # modules that a prepared interpreter has loaded before the job comes
    limits: Limits = Limits()

    @field_validator("read", "write", "keep")
    @classmethod
    def _clean(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(clean_path(path) for path in paths)

    @field_validator("imports")
    @classmethod
    def _are_modules(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not all(part.isidentifier() for part in name.split(".")):
                raise ValueError(f"{name!r} is not the name of a module")
        return tuple(dict.fromkeys(names))

    @field_validator("env")
    @classmethod
    def _can_be_passed(cls, env: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in env.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"{name!r} cannot be a variable with the value {value!r}")
        return env

    @model_validator(mode="after")
    def _sockets_are_seen(self) -> Profile:
        if self.sockets and not self.observe:
            raise ValueError("sockets are only for a profile that observes")
        return self
