"""What packages are installed for: a Python version and a platform, together a target such as
`cp311-x86_64-manylinux_2_28`."""

from __future__ import annotations

import functools
import re

PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")
"""The platforms that a host can be, as uv names them; a host of another one runs no release with packages."""
MOST_TARGETS = 16
"""Of one release."""

_VERSION = re.compile(r"3\.(\d{1,2})\.\d{1,2}[a-z0-9+.]{0,16}", re.ASCII)
_TARGET = re.compile(rf"cp3(\d{{1,2}})-({'|'.join(PLATFORMS)})", re.ASCII)


def platform_of(machine: str, c_library: str, version: str) -> str:
    """The one of PLATFORMS for a machine with glibc of this version, such as `2.36`; empty for any other."""
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    known = f"{machine}-manylinux_2_28"
    return known if c_library == "glibc" and numbers >= [2, 28] and known in PLATFORMS else ""


def this_platform() -> str:
    """The one of PLATFORMS that this machine is, or empty."""
    import platform

    return platform_of(platform.machine(), *platform.libc_ver())


def target(python: str, platform: str) -> str:
    """The target of a host that says so of itself; empty when no packages can be had for it."""
    found = _VERSION.fullmatch(python)
    return f"cp3{found[1]}-{platform}" if found is not None and platform in PLATFORMS else ""


def is_target(text: str) -> bool:
    return _TARGET.fullmatch(text) is not None


def split_target(text: str) -> tuple[str, str]:
    """The Python version, such as `3.11`, and the platform of a target."""
    found = _TARGET.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no target")
    return f"3.{found[1]}", found[2]


@functools.lru_cache(maxsize=1024)
def accepts(requires: str, python: str) -> bool:
    """Whether a Python of this version will do for a `requires-python`; what cannot be read accepts none."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(requires).contains(python, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False
