"""Does this host have what Fumehood needs? Says everything that is missing at once, and the package that has it.

Runs before anything is installed, so: the standard library only, and syntax that an old Python can still read.
Prints nothing when all is well.
"""

import ctypes
import os
import platform
import sys

NEEDED_PYTHON = (3, 11)
NEEDED_GLIBC = (2, 34)


def main():
    missing = [line for line in (no_linux(), no_python(), no_venv(), no_libseccomp()) if line]
    for line in missing:
        sys.stderr.write("missing: %s\n" % line)
    for line in (no_regorus(), hidden()):
        if line:
            sys.stderr.write("note: %s\n" % line)
    return 1 if missing else 0


def no_linux():
    if sys.platform != "linux":
        return "Linux. Fumehood confines with Linux's own means (found %s); use a Linux machine or VM." % sys.platform
    return None


def no_python():
    if sys.version_info[:2] < NEEDED_PYTHON:
        return "Python %s or newer. Found %s (%s); name another one: make PYTHON=/path/to/python3.11" % (
            ".".join(map(str, NEEDED_PYTHON)),
            platform.python_version(),
            sys.executable,
        )
    return None


def no_venv():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        version = "%d.%d" % sys.version_info[:2]
        return (
            "the venv module of %s. Debian, Ubuntu: apt-get install python3-venv (or python%s-venv)"
            % (sys.executable, version)
        )
    return None


def no_libseccomp():
    if sys.platform != "linux":
        return None
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return (
            "the library libseccomp. Debian, Ubuntu: apt-get install libseccomp2; "
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
        "the embedded policy engine has a wheel for x86-64 with glibc 2.34 or newer only (found %s, %s %s); "
        "here a Guard needs an OPA server: Guard(..., pdp=\"http://127.0.0.1:8181\")"
        % (platform.machine(), name or "no glibc", version)
    )


def hidden():
    """A note: started as root, confined code runs as another user, which must reach the interpreter."""
    if os.getuid() != 0 or is_reachable(os.path.realpath(sys.executable)):
        return None
    return (
        "%s cannot be reached by other users, and as root Fumehood gives up root before it confines; "
        "better: make PYTHON=/usr/bin/python3" % os.path.realpath(sys.executable)
    )


def is_reachable(path):
    """May every user go down to *path*?"""
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 0o001:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
