"""A shell on another machine, by the system's own ssh: its settings, its keys, its questions.

What is to be done goes as a script over standard input, so that neither side's list of processes shows any of it, and
no login shell, whichever it is, reads it. What it finds it says in lines `@@NAME VALUE`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from motes.errors import BadInput, Refused, Unavailable

TIMEOUT_S = 900.0
"""For the longest step, which fetches packages."""
_MARK = "@@"
_SSH_FAILED = 255


class Failed(Unavailable):
    """A script ended with an error; `said` is what it wrote to standard error."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


class Far:
    """The machine `destination`, as ssh takes it. Make one with `reached`."""

    def __init__(self, destination: str, options: list[str]) -> None:
        self.destination = destination
        self._options = options

    def run(self, script: str) -> dict[str, str]:
        """What the script says. Raises Failed, and Unavailable where the machine cannot be reached."""
        try:
            done = subprocess.run(
                ["ssh", *self._options, "--", self.destination, "/bin/sh", "-s"],
                input=script,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
            )
        except FileNotFoundError:
            raise Refused("there is no ssh here; install OpenSSH's client") from None
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{self.destination} was not done within {TIMEOUT_S:g} s") from None
        said = done.stderr.strip()
        last = said.splitlines()[-1] if said else f"exit code {done.returncode}"
        if done.returncode == _SSH_FAILED:
            raise Unavailable(f"ssh does not reach {self.destination}: {last}")
        if done.returncode != 0:
            raise Failed(f"on {self.destination}: {last.removeprefix('motes: ')}", said)
        found = (line.removeprefix(_MARK).partition(" ") for line in done.stdout.splitlines() if line[:2] == _MARK)
        return {name: value.strip() for name, _, value in found}


@contextlib.contextmanager
def reached(destination: str, settings: Path | None) -> Iterator[Far]:
    """One connection for all scripts, so that a password is asked for once; `settings` is a file for `ssh -F`.

    Raises BadInput for what ssh would take as an option of its own.
    """
    if not destination or destination.startswith("-") or any(character.isspace() for character in destination):
        raise BadInput(f"{destination[:80]!r} is no machine; write it as for ssh: user@machine")
    # Its path must be short: a socket's may hold 107 bytes.
    with tempfile.TemporaryDirectory(prefix="motes-ssh-", dir="/tmp" if os.path.isdir("/tmp") else None) as folder:
        options = ["-F", str(settings)] if settings is not None else []
        shared = [*options, "-o", f"ControlPath={folder}/%C", "-o", "ControlMaster=auto", "-o", "ControlPersist=60"]
        try:
            yield Far(destination, shared if os.name == "posix" else options)
        finally:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                command = ["ssh", *options, "-o", f"ControlPath={folder}/%C", "-O", "exit", "--", destination]
                subprocess.run(command, capture_output=True, timeout=10)
