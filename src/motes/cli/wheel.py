"""The Motes that runs here, as a wheel: the very code, whether it was installed from a wheel or runs in a checkout."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import motes
from motes.errors import Unavailable

_WRITTEN = (1980, 1, 1, 0, 0, 0)
_SKIPPED = "__pycache__"
WHEEL = "Wheel-Version: 1.0\nGenerator: motes\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Wheel(NamedTuple):
    """A wheel's file name, its content, and the versions of what it needs that run here, as lines for pip."""

    name: str
    data: bytes
    pins: tuple[str, ...]

    @property
    def hash(self) -> str:
        """What tells this very version from every other: of content and pins."""
        return hashlib.sha256(self.data + "\n".join(self.pins).encode()).hexdigest()


def this_version() -> Wheel:
    """Made anew, the same for the same code. Raises Unavailable where Motes was not installed at all."""
    try:
        distribution = metadata.distribution("motes")
    except metadata.PackageNotFoundError as error:
        raise Unavailable("motes is not installed here as a package; install it: pip install .") from error
    version = distribution.version
    info = f"motes-{version}.dist-info"
    files = _package()
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (distribution.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = WHEEL.encode()
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path, _WRITTEN), data, zipfile.ZIP_DEFLATED)
    return Wheel(f"motes-{version}-py3-none-any.whl", packed.getvalue(), _pins())


def _package() -> dict[str, bytes]:
    """Every file of the package, by its path in the wheel."""
    root = Path(motes.__path__[0])
    found = sorted(path for path in root.rglob("*") if path.is_file() and _SKIPPED not in path.parts)
    return {path.relative_to(root.parent).as_posix(): path.read_bytes() for path in found}


def _pins() -> tuple[str, ...]:
    """`name==version` of all that Motes needs here, and that needs in its turn."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    waiting = ["motes"]
    while waiting:
        for line in metadata.requires(waiting.pop()) or ():
            wanted = Requirement(line)
            name = canonicalize_name(wanted.name)
            if name in pins or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
                continue
            try:
                pins[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
            waiting.append(name)
    return tuple(f"{name}=={version}" for name, version in sorted(pins.items()))


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
