"""A real systemd of a test's own: `systemd --user` as root, below control groups that it cannot leave."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from system.running import DEADLINE_S, is_alive, wait_until

PROGRAM = Path("/lib/systemd/systemd")
_GROUPS = Path("/sys/fs/cgroup")
_BEGIN = """
for folder in $FOLDERS; do mkdir -p "$folder" && echo $$ > "$folder/cgroup.procs" || exit 77; done
mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec "$0" --user --log-target=console
"""
"""systemd takes over the group that it is in, with all that is in it: so that must be one of its own."""


def why_not() -> str:
    """Why no such systemd can run here; empty when one can."""
    if os.geteuid() != 0 or not PROGRAM.exists():
        return "a systemd of the test's own needs root and /lib/systemd/systemd"
    if not any(os.access(each / "cgroup.procs", os.W_OK) for each in _roots()):
        return "a systemd of the test's own needs control groups that it may make"
    return ""


def _roots() -> list[Path]:
    """Where the trees of groups begin: one, or with version 1 several, of which systemd does not use `cpuset`."""
    if (_GROUPS / "cgroup.controllers").exists():
        return [_GROUPS]
    found = [each for each in _GROUPS.glob("*") if each.is_dir() and not each.is_symlink()]
    return [each for each in found if each.name != "cpuset" and (each / "cgroup.procs").exists()]


class OwnSystemd:
    def __init__(self, folder: Path) -> None:
        self.runtime, self.settings = folder / "runtime", folder / "settings"
        for each in (self.runtime, self.settings):
            each.mkdir(mode=0o700)
        self._folders = [each / f"motes-test-{os.getpid()}" for each in _roots()]
        self._log = folder / "systemd.log"
        self.environment = {"XDG_RUNTIME_DIR": str(self.runtime), "XDG_CONFIG_HOME": str(self.settings)}

    def systemctl(self, *words: str) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(["systemctl", "--user", *words], env=environment, capture_output=True, text=True)
        return done.stdout.strip()

    def boot(self) -> None:
        """Start it: it starts what is enabled."""
        environment = {**os.environ, **self.environment, "FOLDERS": " ".join(map(str, self._folders))}
        with open(self._log, "ab") as log:
            command = ["unshare", "--mount", "sh", "-c", _BEGIN, str(PROGRAM)]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(lambda: self.systemctl("show", "--property=Version"), "systemd runs")

    def lose_power(self) -> None:
        """Everything below it is gone at once."""
        self._process.kill()
        self._process.wait(DEADLINE_S)
        wait_until(lambda: not self._kill_all(), "nothing is left")

    def _kill_all(self) -> bool:
        """Whether anything was still there."""
        pids = {int(pid) for each in self._groups() for pid in (each / "cgroup.procs").read_text().split()}
        for pid in filter(is_alive, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    def _groups(self) -> list[Path]:
        """Its groups, the deepest first."""
        found = [each.parent for folder in self._folders for each in folder.rglob("cgroup.procs")]
        return sorted(found, key=lambda each: len(each.parts), reverse=True)

    def remove(self) -> None:
        self.lose_power()
        for each in self._groups():
            each.rmdir()


@contextlib.contextmanager
def own_systemd(folder: Path) -> Iterator[OwnSystemd]:
    made = OwnSystemd(folder)
    try:
        made.boot()
        yield made
    finally:
        made.remove()
