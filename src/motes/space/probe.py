"""Which layers of the wall work on this machine, found by making a space and looking from inside; for `motes doctor`.

`probe` does its trials in a process of its own, which gives up root as an agent does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from motes.errors import MotesError, SpaceFailed
from motes.model.call import Outcome
from motes.model.instance import EndReason
from motes.model.walls import Walls
from motes.space import bubblewrap
from motes.space.function_space import FunctionSpace, Unheard
from motes.space.guest import kernel
from motes.space.mends import landlock_mend, namespaces_mend
from motes.space.walls import LEAST_ABI_ALONE, walls

PROBE_LIMIT_S = 60.0
WHOLE_LANDLOCK_ABI = 6
"""From here on Landlock also keeps signals and abstract sockets apart."""

_LOOK_INSIDE = """
import ctypes, json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
libc = ctypes.CDLL(None, use_errno=True)
def writable(path):
    try: os.close(os.open(path, os.O_WRONLY)); return True
    except OSError: return False
def listed(path):
    try: return os.listdir(path)
    except OSError: return []
def interfaces():
    try: return sorted(line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line)
    except OSError: return []
def has_sockets():
    import _socket
    try: _socket.socket(); return True
    except OSError: return False
print(json.dumps({
    "filters": int(status["Seccomp_filters"]) if "Seccomp_filters" in status else int(status["Seccomp"]) // 2,
    "unshare": libc.unshare(0x10000000) == 0,
    "processes": sum(name.isdigit() for name in listed("/proc")),
    "interfaces": interfaces(),
    "sockets": has_sockets(),
    "kernel_settings": writable("/proc/sys/kernel/core_pattern"),
    "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16),
    "folders": [path for path in ("/home", "/root", "/etc/ssl", "/var") if listed(path)],
}))
"""

_ANSWER = b'"its own folder"'
_APP = """
import os
from motes import function
@function
def look() -> str:
    open("own", "w").close()
    return "its own folder"
"""


class Layer(msgspec.Struct, frozen=True):
    """One layer of the wall: whether it works here, what was seen, and the line that mends it."""

    name: str
    works: bool
    detail: str
    mend: str = ""
    required: bool = True
    """Whether there is no space without it."""


class _Seen(msgspec.Struct, frozen=True):
    """What the trial script saw from inside."""

    filters: int
    unshare: bool
    processes: int
    interfaces: list[str]
    sockets: bool
    kernel_settings: bool
    capabilities: int
    folders: list[str]


def probe() -> list[Layer]:
    """Every layer, from the outside in; what lies within one that does not work is not tried."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "motes.space.probe"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PROBE_LIMIT_S,
    )
    try:
        return msgspec.json.decode(done.stdout, type=list[Layer])
    except msgspec.DecodeError:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return [Layer("process space", False, said or f"exit code {done.returncode}")]


def main() -> None:
    """The trials themselves: print the layers as JSON."""
    sys.stdout.write(msgspec.json.encode(_layers()).decode())


def _layers() -> list[Layer]:
    started_as_root = os.geteuid() == 0
    try:
        _descend()
    except MotesError as error:
        return [Layer("ordinary user", False, error.message, "start motes as an ordinary user")]
    how = "root is given up first" if started_as_root else "started as one"
    layers = [Layer("ordinary user", True, f"{how}, uid {os.getuid()}"), _bubblewrap(), _landlock()]
    try:
        found = walls()
    except MotesError:
        return layers
    more = [] if found is Walls.LANDLOCK else [_further_namespaces()]
    return [*layers, *more, *_inside(found), _functions(), _walls(found)]


def _descend() -> None:
    from motes.space.descend import descend
    from motes.space.interpreter import program_paths

    descend(program_paths(), [], "probe")


def _bubblewrap() -> Layer:
    try:
        program = bubblewrap.find()
    except MotesError as error:
        alone = isinstance(error, SpaceFailed) and kernel.landlock_abi() >= LEAST_ABI_ALONE
        mend = namespaces_mend(bubblewrap.first_candidate())
        return Layer("user namespaces", False, error.message, mend, required=not alone)
    return Layer("user namespaces", True, f"bubblewrap {program.version} ({program.source}, {program.path})")


def _landlock() -> Layer:
    abi = kernel.landlock_abi()
    if abi == 0:
        mend = landlock_mend(kernel.landlock_refusal())
        return Layer("Landlock", False, "this kernel has none", mend, required=False)
    detail = f"version {abi} of its interface"
    if abi >= WHOLE_LANDLOCK_ABI:
        return Layer("Landlock", True, detail)
    detail += ": no scopes for signals (seccomp does that here)"
    return Layer("Landlock", False, detail, "Linux 6.12 or later", required=False)


def _further_namespaces() -> Layer:
    works = bubblewrap.disables_user_namespaces(bubblewrap.find().path)
    detail = "none can be made inside" if works else "not by bubblewrap here; seccomp refuses them all the same"
    return Layer(
        "no further user namespaces", works, detail, "" if works else "bubblewrap 0.8 or later", required=False
    )


def _inside(found: Walls) -> list[Layer]:
    try:
        seen = asyncio.run(_look())
    except (MotesError, msgspec.DecodeError) as error:
        return [Layer("process space", False, str(error))]
    kernel_mend = "a kernel with CONFIG_SECCOMP_FILTER"
    return [
        Layer("process space", not seen.folders, ", ".join(seen.folders) or "made, and no folder of yours is in it"),
        Layer("seccomp", seen.filters >= 2 and not seen.unshare, f"{seen.filters} filters", kernel_mend),
        Layer("own /proc", seen.processes <= 3, f"{seen.processes} processes to be seen"),
        _network(seen, found),
        Layer("kernel settings read-only", not seen.kernel_settings, "/proc/sys cannot be written"),
        Layer("no capabilities", seen.capabilities == 0, f"{seen.capabilities:#x}"),
    ]


def _network(seen: _Seen, found: Walls) -> Layer:
    if found is Walls.LANDLOCK:
        return Layer("no network", not seen.sockets, "no socket can be made")
    return Layer("own network", seen.interfaces == ["lo"], ", ".join(seen.interfaces))


def _functions() -> Layer:
    """Fork an instance and call it, for that needs more than a space does."""
    try:
        said = asyncio.run(_call())
    except MotesError as error:
        return Layer("function", False, error.message, namespaces_mend(bubblewrap.first_candidate()))
    return Layer("function", said == _ANSWER.decode(), f"forked, hardened and called: {said}")


async def _call() -> str:
    from motes.space.limits import Limits
    from motes.space.view import View

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "app.py").write_text(_APP)
        heard = _Heard()
        space = await FunctionSpace.open(View(code=Path(folder)), heard, timeout_s=PROBE_LIMIT_S / 3)
        try:
            space.spawn(1, "look", Limits())
            space.deliver(1, 1, b"")
            return await asyncio.wait_for(heard.answer, PROBE_LIMIT_S / 3)
        except TimeoutError:
            return "no answer"
        finally:
            await space.close()


class _Heard(Unheard):
    """The first answer, or how it ended; the other events of a space are nothing here."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def replied(self, number: int, tag: int, outcome: Outcome, worked_s: float) -> None:
        if not self.answer.done():
            self.answer.set_result(outcome.body.decode(errors="replace"))

    def ended(self, number: int, reason: EndReason, detail: str) -> None:
        if not self.answer.done():
            self.answer.set_result(f"{reason} {detail}")


def _walls(found: Walls) -> Layer:
    lends = "" if found is Walls.BOTH else f"; for your own code only. Weaker: {found.weaker}"
    return Layer("walls", True, f"{found}{lends}")


async def _look() -> _Seen:
    from motes.space.enclosure import Streams
    from motes.space.script_space import ScriptSpace
    from motes.space.view import View

    read_end, write_end = os.pipe()
    nothing = os.open(os.devnull, os.O_RDWR)
    space = ScriptSpace(View(script="look.py"), _LOOK_INSIDE.encode(), [], PROBE_LIMIT_S / 2)
    await space.run(Streams(nothing, write_end, 2))
    with os.fdopen(read_end, "rb") as file:
        return msgspec.json.decode(file.read(), type=_Seen)


if __name__ == "__main__":
    main()
