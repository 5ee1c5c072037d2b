"""A space where no namespaces can be made: Landlock, a narrower filter, and a monitor from which everything descends.

It is for the owner's own code. What it does not hide, and what is watched instead of sized, stands in docs/THREATS.md.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from motes.errors import SpaceFailed
from motes.space import manners, measure
from motes.space.enclosure import Enclosure, Program, Streams, memory_file, or_nothing
from motes.space.guest.sweep import remove_tree
from motes.space.interpreter import Interpreter, this_interpreter
from motes.space.seccomp import filters
from motes.space.view import PYTHON_OPTIONS, View, variables

_START = """
import sys
from importlib import _bootstrap_external as external
class Packages:
    at = {packages!r}
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        folder = cls.at.get(name)
        if folder:
            return external.spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])
sys.meta_path.append(Packages)
from motes.space.guest.monitor import main
main(sys.argv[1:])
"""
"""The packages that a space sees come from the host's own folders, and nothing else that lies in these."""


class Fence(Enclosure):
    """A monitor (motes.space.guest.monitor) and what descends from it. It ends all of that, then itself."""

    sizes_folders = False

    def _start(self, view: View, program: Program, streams: Streams) -> subprocess.Popen[bytes]:
        _check_holds(view)
        self._trees: dict[int, measure.Tree] = {}
        self._folder = folder = Path(tempfile.mkdtemp(prefix="motes-space-"))
        try:
            return _start(folder, view, program, streams)
        except OSError as error:
            folder.rmdir()
            raise SpaceFailed(f"a space's monitor cannot be started: {error}") from None

    def init_pid(self) -> int:
        """The monitor."""
        return 0 if self._gone.done() else self._process.pid

    def processes(self) -> list[int]:
        """Without the monitor."""
        return [] if self._gone.done() else measure.processes_below(self._process.pid)[1:]

    def pid_of(self, pidfd: int) -> int:
        """What descends from the monitor is inside: the zygote could name any process of this machine.

        The monitor is not: it would be ended as an instance is, and whoever left the family would outlive it.
        """
        pid, monitor = measure.behind(pidfd).pid, self._process.pid
        descends = pid == measure.GONE or (pid != monitor and measure.descends(pid, monitor))
        # Only now it is sure that the parents were that process's own.
        if measure.behind(pidfd).pid == measure.GONE:
            return measure.GONE
        if not descends:
            raise ValueError("a descriptor that stands for no process of the space")
        return pid

    def folder_bytes(self, descriptor: int) -> int:
        """Its folder lies on the host's disk."""
        if descriptor < 0:
            return 0
        tree = self._trees.get(descriptor) or self._trees.setdefault(descriptor, measure.Tree(descriptor))
        return tree.look()

    def kill(self) -> None:
        """Have the monitor end everything: only from there nobody is missed."""
        if not self._gone.done():
            measure.signal_process(self._monitor, signal.SIGTERM)

    def _released(self) -> None:
        """It has cleared up behind itself, unless it was killed."""
        self._trees.clear()
        if self._folder.exists():
            self._loop.run_in_executor(None, _remove, self._folder)


def _remove(folder: Path) -> None:
    for entry in list(folder.iterdir()):
        remove_tree(str(entry))
    with contextlib.suppress(OSError):
        folder.rmdir()


def _check_holds(view: View) -> None:
    if view.system or view.processes > 1:
        raise SpaceFailed(
            "this machine makes no namespaces, and without them there are functions and scripts of one process only,"
            " no daemons (`motes doctor` says what mends it)"
        )


def _start(folder: Path, view: View, program: Program, streams: Streams) -> subprocess.Popen[bytes]:
    interpreter = this_interpreter()
    script = memory_file("script", program.script) if view.script else -1
    order = memory_file("order", "".join(f"{field}\0" for field in _order(folder, view, interpreter)).encode())
    own = [descriptor for descriptor in (order, script) if descriptor >= 0]
    start = _START.format(packages={name: str(at) for name, at in interpreter.packages})
    words = [str(order), str(script), program.module, *program.words]
    try:
        with manners.first_to_go():
            return subprocess.Popen(
                [interpreter.program, *PYTHON_OPTIONS, start, *words],
                env=_environment(folder, view, interpreter),
                cwd="/",
                pass_fds=(*own, *program.inherited),
                stdin=or_nothing(streams.input),
                stdout=or_nothing(streams.output),
                stderr=or_nothing(streams.error),
                start_new_session=True,
            )
    finally:
        for descriptor in own:
            os.close(descriptor)


def _order(folder: Path, view: View, interpreter: Interpreter) -> list[str]:
    """The fields of motes.space.guest.monitor.Order."""
    app = folder / "app" if view.script or view.code is None else view.code
    listable = [str(interpreter.standard_library)]
    readable = [str(path) for path in _readable(view, app, interpreter)]
    wheels = "" if view.wheels is None else str(view.wheels)
    return [
        *(str(os.getpid()), str(folder), str(app), wheels, view.script, filters().bare.hex()),
        *(str(len(listable)), *listable, *readable),
    ]


def _readable(view: View, app: Path, interpreter: Interpreter) -> list[Path]:
    """The same that bubblewrap would mount, where it lies on the host."""
    modules = (path for path in interpreter.standard_library.iterdir() if path.name not in interpreter.site_packages)
    libraries = (file for _, file in interpreter.libraries)
    packages = (at for _, at in interpreter.packages)
    granted = [] if view.wheels is None else [view.wheels]
    return [interpreter.program, interpreter.loader, *modules, *libraries, *packages, app, *granted]


def _environment(folder: Path, view: View, interpreter: Interpreter) -> dict[str, str]:
    found = variables(view, tmp=f"{folder}/tmp", programs=str(interpreter.program.parent))
    libraries = os.environ.get("LD_LIBRARY_PATH")
    return found | ({"LD_LIBRARY_PATH": libraries} if libraries else {})
