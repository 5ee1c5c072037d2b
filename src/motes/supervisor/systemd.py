"""The systemd of this machine, or of this user, by its own commands."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

from motes.errors import Refused, Unavailable
from motes.files import replace
from motes.supervisor import unit

TIMEOUT_S = 120.0
"""Over the unit's own time to end."""
_SYSTEM_UNITS = Path("/etc/systemd/system")


class Systemd:
    """Knows the one unit; `system`: the machine's own systemd, not the user's."""

    def __init__(self, system: bool) -> None:
        self.system = system
        self.user = getpass.getuser()
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self.file = (_SYSTEM_UNITS if system else settings / "systemd" / "user") / unit.NAME

    def read(self) -> str:
        """The unit's text; empty when there is none."""
        try:
            return self.file.read_text()
        except OSError:
            return ""

    def write(self, text: str) -> None:
        """Replace it as a whole. Raises Unavailable."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            replace(self.file, text, mode=0o644)
        except OSError as error:
            raise Unavailable(f"{self.file} cannot be written: {error.strerror or error}") from error

    def do(self, *words: str) -> None:
        """A word of systemctl, which must succeed. Raises Refused and Unavailable."""
        done = self._systemctl(*words)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise Unavailable(
                f"{' '.join(map(str, done.args))} failed: {said[-1] if said else done.returncode}"
                f" (see: journalctl {'' if self.system else '--user '}-u {unit.NAME})"
            )

    def check(self) -> None:
        """Raises Unavailable where this systemd does not answer, and Refused where there is none."""
        done = self._systemctl("show", "--property=Version")
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            mend = (
                "is this machine run by systemd?"
                if self.system
                else "log in as this user and not by su or sudo, or let an administrator say: loginctl enable-linger"
                f" {self.user}"
            )
            raise Unavailable(f"systemd does not answer: {said[-1] if said else done.returncode} ({mend})")

    def state(self) -> str:
        """`active`, `inactive`, `failed`, ... as systemd says it; `unknown` where it says nothing."""
        try:
            return self._systemctl("is-active", unit.NAME).stdout.strip() or "unknown"
        except Refused:
            return "unknown"

    def is_enabled(self) -> bool:
        try:
            return self._systemctl("is-enabled", unit.NAME).stdout.strip() == "enabled"
        except Refused:
            return False

    def linger(self) -> str:
        """Let the user's units run without a login; empty when that is so, else why it is refused."""
        if self.system or self.lingers():
            return ""
        try:
            done = subprocess.run(
                ["loginctl", "enable-linger"],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                env=self._environment(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it says nothing"])[-1]

    def lingers(self) -> bool:
        """Whether units run without a login."""
        if self.system:
            return True
        try:
            done = subprocess.run(
                ["loginctl", "show-user", self.user, "--property=Linger", "--value"],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                env=self._environment(),
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.stdout.strip() == "yes"

    def _systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["systemctl", *([] if self.system else ["--user"]), *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=self._environment())
        except FileNotFoundError:
            raise Refused(
                "there is no systemd here (systemctl is not found); have what starts this machine run, in its place:"
                " motes up --foreground"
            ) from None
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{' '.join(command)} did not end within {TIMEOUT_S:g} s") from None

    def _environment(self) -> dict[str, str]:
        # Whoever came by ssh or su may lack it, though the user's systemd runs.
        own = f"/run/user/{os.getuid()}"
        return {**({"XDG_RUNTIME_DIR": own} if os.path.isdir(own) else {}), **os.environ}
