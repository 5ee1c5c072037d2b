"""A systemd for one unit, as far as its commands show: it reads the unit, starts what that says, and starts it again.

Installed as `systemctl` and `loginctl` in a folder of the PATH. Like the real one it goes by the text that it has read
at the last daemon-reload, gives what it starts the unit's environment only, and ends it by KillMode=mixed. Each command
is noted in $FAKE_SYSTEMD/asked. Where $FAKE_SYSTEMD/refuses stands, lingering is refused; where `mute` stands, all is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ.get("FAKE_SYSTEMD", ""))
SYSTEM = Path("/etc/systemd/system")


def folder(user: bool) -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "systemd" / "user" if user else SYSTEM


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def words(value: str) -> list[str]:
    return [word.replace("%%", "%") for word in shlex.split(value)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main_pid() -> int:
    with contextlib.suppress(OSError, ValueError):
        pid = int((STATE / "pid").read_text())
        return pid if alive(pid) else 0
    return 0


def start() -> int:
    """As after a boot as well: nothing but the unit says what runs."""
    if main_pid():
        return 0
    unit = settings((STATE / "loaded").read_text())
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "LANG": "C"}
    for line in unit.get("Environment", ()):
        for pair in words(line):
            name, _, value = pair.partition("=")
            environment[name] = value
    command = [word.replace("$$", "$") for word in words(unit["ExecStart"][0])]
    with open(STATE / "journal", "a") as journal:
        process = subprocess.Popen(
            command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=journal, stderr=journal,
            start_new_session=True,
        )  # fmt: skip
    (STATE / "pid").write_text(str(process.pid))
    return 0


def stop() -> int:
    if pid := main_pid():
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
    (STATE / "pid").unlink(missing_ok=True)
    return 0


def systemctl(user: bool, verb: str, *rest: str) -> int:
    if (STATE / "mute").exists():
        print("Failed to connect to bus: No medium found", file=sys.stderr)
        return 1
    name = next((word for word in rest if not word.startswith("-")), "")
    file, now = folder(user) / name, "--now" in rest
    link = STATE / "enabled"
    if verb == "show":
        print("Version=252")
    elif verb == "daemon-reload":
        (STATE / "loaded").unlink(missing_ok=True)
        for unit in folder(user).glob("*.service"):
            (STATE / "loaded").write_text(unit.read_text())
    elif verb == "is-active":
        print("active" if main_pid() else "inactive")
        return 0 if main_pid() else 3
    elif verb == "is-enabled":
        if not file.exists():
            print(f"Failed to get unit file state for {name}: No such file or directory", file=sys.stderr)
            return 1
        print("enabled" if link.exists() else "disabled")
        return 0 if link.exists() else 1
    elif verb in ("enable", "disable", "start", "restart", "stop") and file.exists():
        if not (STATE / "loaded").exists() or not re.search(r"^WantedBy=", file.read_text(), re.MULTILINE):
            print(f"Failed to {verb} unit: Unit {name} is not loaded.", file=sys.stderr)
            return 1
        if verb in ("enable", "disable"):
            link.touch() if verb == "enable" else link.unlink(missing_ok=True)
        if verb in ("disable", "restart", "stop") and (now or verb != "disable"):
            stop()
        if verb in ("enable", "start", "restart") and (now or verb != "enable"):
            return start()
    else:
        print(f"Failed to {verb} unit: Unit file {name} does not exist.", file=sys.stderr)
        return 1
    return 0


def loginctl(verb: str, *rest: str) -> int:
    if verb == "show-user":
        print("yes" if (STATE / "lingers").exists() else "no")
    elif (STATE / "refuses").exists():
        print("Could not enable linger: Access denied", file=sys.stderr)
        return 1
    else:
        (STATE / "lingers").touch()
    return 0


def main() -> int:
    program, asked = Path(sys.argv[0]).name, sys.argv[1:]
    with open(STATE / "asked", "a") as file:
        file.write(" ".join([program, *asked]) + "\n")
    if program == "loginctl":
        return loginctl(*asked)
    user = asked[:1] == ["--user"]
    return systemctl(user, *asked[user:])


if __name__ == "__main__":
    sys.exit(main())
