"""Does this host have what Fumehood needs? Says all that is missing at once, and the package that has it.

Runs before anything is installed: the standard library only, and syntax that an old Python 3 can
read. Prints nothing when all is well.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

NEEDED_PYTHON = (3, 11)
NEEDED_GLIBC = (2, 34)


def main():
    missing = [line for line in (no_linux(), no_python(), no_venv(), no_libseccomp()) if line]
    notes = [line for line in (no_regorus(), hidden()) if line]
    sys.stderr.write("".join(f"missing: {line}\n" for line in missing))
    sys.stderr.write("".join(f"note: {line}\n" for line in notes))
    return 1 if missing else 0


def no_linux():
    if sys.platform == "linux":
        return None
    return f"Linux, whose own means confine (found {sys.platform}); use a Linux machine or VM"


def no_python():
    if sys.version_info[:2] >= NEEDED_PYTHON:
        return None
    needed = ".".join(map(str, NEEDED_PYTHON))
    found = f"found {platform.python_version()}, {sys.executable}"
    return f"Python {needed} or newer ({found}); name another one: make PYTHON=/path/to/python3"


def no_venv():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        return f"the venv module of {sys.executable}; Debian, Ubuntu: apt-get install {package}"
    return None


def no_libseccomp():
    if sys.platform != "linux":
        return None
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return (
            "the library libseccomp; Debian, Ubuntu: apt-get install libseccomp2; "
            "Fedora: dnf install libseccomp; Arch: pacman -S libseccomp"
        )
    return None


def no_regorus():
    """A note: the embedded policy engine has a wheel for one platform only."""
    name, version = platform.libc_ver()
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if platform.machine() == "x86_64" and name == "glibc" and found >= NEEDED_GLIBC:
        return None
    return (
        "the embedded policy engine has a wheel for x86-64 with glibc 2.34 or newer only "
        f"(found {platform.machine()}, {name or 'no glibc'} {version}); "
        'here a Guard needs an OPA server: Guard(..., pdp="http://127.0.0.1:8181")'
    )


def hidden():
    """A note: started as root, confined code runs as another user, which must reach the interpreter."""
    python = Path(sys.executable).resolve()
    if os.getuid() != 0 or is_reachable(python):
        return None
    return (
        f"other users cannot reach {python}, and root is given up before code is confined; "
        "better: make PYTHON=/usr/bin/python3"
    )


def is_reachable(path):
    """May every user go down to *path*?"""
    return all(folder.stat().st_mode & 0o001 for folder in path.parents)


if __name__ == "__main__":
    sys.exit(main())
