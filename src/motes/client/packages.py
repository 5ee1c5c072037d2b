"""Resolve an app's requirements to pins and install them as layers, with uv, for the hosts that the cluster has.

Only wheels: nothing is built, and nothing of a package runs on this machine. A layer is the archive of a folder that
lies at /wheels in the app's spaces; equal layers of different apps are one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from motes.bundle.pack import pack_layer
from motes.bundle.sources import LAYER
from motes.client.layer import finish
from motes.client.requirements import Requirements
from motes.errors import NoPackages, Unavailable
from motes.model.platform import accepts, split_target, this_platform
from motes.model.platform import target as target_of

UV_TIMEOUT_S = 600.0
KEPT_BYTES = 2 * 2**30
"""Of made layers in the home; beyond it the ones longest unused go."""
_FORMAT = b"1"
"""Counts when the same pins give another layer."""
_LOCK_HEAD = (
    "# The pins of {name}; made by: motes deploy --lock {name}\n# Of the requirements with SHA-256 {fingerprint}\n"
)

Say = Callable[[str], None]


def _say_nothing(what: str) -> None: ...


class Layers:
    """Makes the archives of layers, and keeps them in `folder`; `say` hears each step, `notice` what is left out."""

    def __init__(self, folder: Path, say: Say, notice: Say) -> None:
        self._folder = folder
        self._say = say
        self._notice = notice

    async def make(self, requirements: Requirements, targets: Iterable[str], lock: str = "") -> dict[str, Path]:
        """The archive of the layer for each target, by the pins of its lock file where there is one.

        With `lock`, the app's file or folder, the lock file is made anew. Raises NoPackages when no layer can be made.

        A target for which the packages cannot be had is left out, and said, as long as there is another one.
        """
        made: dict[str, Path] = {}
        failed: dict[str, NoPackages] = {}
        targets = sorted(set(targets))
        if lock:
            await self._lock(requirements, lock, min(targets, key=_minor))
        pins = read_lock(requirements)
        for target in targets:
            try:
                made[target] = await self._layer(requirements, pins, target)
            except NoPackages as error:
                failed[target] = error
        if failed and not made:
            raise next(iter(failed.values()))
        for target, why in failed.items():
            self._notice(f"the app will not run on hosts of {target}: {why.message}")
        return made

    async def _lock(self, requirements: Requirements, name: str, oldest: str) -> None:
        """Write the pins of all that is required, for every platform and this Python or a later one."""
        self._say(f"resolving {len(requirements.lines)} requirements for {requirements.lock.name}")
        with self._work() as work:
            pins = await self._resolve(work, requirements, ["--universal", "--python-version", split_target(oldest)[0]])
        head = _LOCK_HEAD.format(name=name, fingerprint=requirements.fingerprint)
        requirements.lock.write_text(f"{head}\n{pins}")

    async def _layer(self, requirements: Requirements, pins: str | None, target: str) -> Path:
        python, platform = split_target(target)
        for_target = ["--python-version", python, "--python-platform", platform]
        with self._work() as work:
            if pins is None:
                self._say(f"resolving {len(requirements.lines)} requirements for {target}")
                pins = await self._resolve(work, requirements, for_target)
            key = hashlib.sha256(b"\0".join((_FORMAT, target.encode(), pins.encode()))).hexdigest()
            made = self._folder / f"{key}.layer"
            if made.exists():
                made.touch()
                return made
            self._say(f"installing packages for {target}")
            (work / "pins.txt").write_text(pins)
            installed = work / "wheels"
            # The pins are complete; with the dependencies' own ranges looked at again, an installed set could differ.
            arguments = [*for_target, "--only-binary", ":all:", "--require-hashes", "--no-deps", "-r", "pins.txt"]
            await self._uv(work, "install", "--target", "wheels", *arguments)
            installed.mkdir(exist_ok=True)
            await asyncio.to_thread(finish, installed, python)
            await asyncio.to_thread(pack_layer, installed, made)
        self._tidy(made)
        return made

    async def _resolve(self, work: Path, requirements: Requirements, arguments: list[str]) -> str:
        (work / "wanted.txt").write_text("".join(f"{line}\n" for line in requirements.lines))
        options = ["--only-binary", ":all:", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
        return await self._uv(work, "compile", *options, *arguments, "wanted.txt")

    async def _uv(self, work: Path, *arguments: str) -> str:
        """What `uv pip` writes. It runs in an empty folder: no file of the app's folder can change what it does."""
        from uv import find_uv_bin

        # Neither must what Python is told elsewhere, as it asks this Python what it is.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = inherited | {
            "UV_SYSTEM_CERTS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
        }
        process = await asyncio.create_subprocess_exec(
            find_uv_bin(),
            "pip",
            *arguments,
            "--quiet",
            "--python",
            sys.executable,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(UV_TIMEOUT_S):
                written, said = await process.communicate()
        except TimeoutError:
            raise NoPackages(f"the packages were not there within {UV_TIMEOUT_S:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise NoPackages(f"the packages cannot be had:\n{_reason(said.decode(errors='replace'))}")
        return written.decode()

    @contextlib.contextmanager
    def _work(self) -> Iterator[Path]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder, prefix="work-") as work:
                yield Path(work)
        except OSError as error:
            raise Unavailable(f"the packages cannot be kept in {self._folder}: {error.strerror or error}") from error

    def _tidy(self, newest: Path) -> None:
        kept = sorted(self._folder.glob("*.layer"), key=lambda each: each.stat().st_mtime, reverse=True)
        total = 0
        for layer in kept:
            total += layer.stat().st_size
            if total > KEPT_BYTES and layer != newest:
                layer.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_for_this_python(requirements: Requirements, layers: Path) -> Iterator[Path | None]:
    """The packages in a folder that everybody may read, while it is needed; None when none are required.

    Raises NoPackages, also when this Python is not the one that is required.
    """
    # Only Linux has what it needs, and only there scripts run.
    from motes.bundle.unpack import discard, unpack

    python, platform = sys.version.split()[0], this_platform()
    if requirements.python and not accepts(requirements.python, python):
        raise NoPackages(f"the script needs Python {requirements.python}; this is {python}")
    if not requirements.lines:
        yield None
        return
    kind = target_of(python, platform)
    if not kind:
        raise NoPackages(f"no packages can be had for Python {python} on this machine")
    made = asyncio.run(Layers(layers, _say_nothing, _say_nothing).make(requirements, [kind]))[kind]
    with tempfile.TemporaryDirectory(prefix="motes-run-") as place:
        os.chmod(place, 0o755)
        with open(made, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            unpack(data, hashlib.sha256(data).hexdigest(), Path(place) / "wheels", LAYER)
        try:
            yield Path(place) / "wheels"
        finally:
            discard(Path(place) / "wheels")


def read_lock(requirements: Requirements) -> str | None:
    """The pins of the lock file, or None when there is none. Raises NoPackages for one of other requirements."""
    try:
        text = requirements.lock.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise NoPackages(f"{requirements.lock} cannot be read: {error}") from None
    if requirements.fingerprint not in text.partition("\n\n")[0]:
        raise NoPackages(
            f"{requirements.lock.name} holds the pins of other requirements; make it anew with `motes deploy --lock`,"
            " or delete it"
        )
    return text


def _minor(target: str) -> int:
    return int(split_target(target)[0].partition(".")[2])


def _reason(said: str) -> str:
    """What uv says, without its own decoration."""
    lines = [line.lstrip(" ×╰─▶│").rstrip() for line in said.strip().splitlines()]
    return "\n".join(f"  {line}" for line in lines if line)[-3000:]
