"""Make an installed folder of packages the same wherever it was made, and ready to run in a space."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path

PYTHON = "#!/python/bin/python3"
"""The interpreter's place in every space."""
PLACE = "/wheels"
COMPILE_TIMEOUT_S = 600.0
_OF_THIS_MACHINE = ("direct_url.json", "uv_cache.json", "uv_build.json", "INSTALLER", "REQUESTED")
_ENTRY = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<name>[\w.]+)", re.ASCII)
_SCRIPT = """{python}
import sys
from {module} import {first}
sys.exit({name}())
"""


def finish(folder: Path, python: str) -> None:
    """Remove what tells of this machine, give commands the space's Python, and compile where this Python is `python`.

    `python` is a version such as `3.11`. Nothing of the packages is run.
    """
    (folder / ".lock").unlink(missing_ok=True)
    for info in folder.glob("*.dist-info"):
        for name in _OF_THIS_MACHINE:
            (info / name).unlink(missing_ok=True)
        _leave_out_commands(info / "RECORD")
    _adapt_commands(folder)
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        _compile(folder)


def _leave_out_commands(record: Path) -> None:
    if record.exists():
        lines = record.read_text().splitlines(keepends=True)
        # A new file: this one may be the same as one in uv's cache.
        record.unlink()
        names = [f".dist-info/{name}," for name in _OF_THIS_MACHINE]
        kept = [
            line for line in lines if not line.startswith(("bin/", "../")) and not any(map(line.__contains__, names))
        ]
        record.write_text("".join(kept))


def _adapt_commands(folder: Path) -> None:
    commands = folder / "bin"
    for command in commands.iterdir() if commands.is_dir() else ():
        content = command.read_bytes()
        first = content.partition(b"\n")[0]
        if first.startswith(b"#!") and (b"python" in first or first == b"#!/bin/sh"):
            command.unlink()
            if b"python" in first:
                command.write_bytes(PYTHON.encode() + content[len(first) :])
                command.chmod(0o755)
    for file in folder.glob("*.dist-info/entry_points.txt"):
        for name, module, attribute in _entries(file):
            commands.mkdir(exist_ok=True)
            script = commands / name
            script.unlink(missing_ok=True)
            text = _SCRIPT.format(python=PYTHON, module=module, first=attribute.partition(".")[0], name=attribute)
            script.write_text(text)
            script.chmod(0o755)


def _entries(file: Path) -> list[tuple[str, str, str]]:
    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # Names keep their case.
    try:
        parser.read_string(file.read_text(errors="replace"))
    except ConfigError:
        return []
    found = parser["console_scripts"].items() if parser.has_section("console_scripts") else ()
    matches = [(name, _ENTRY.match(value)) for name, value in found if re.fullmatch(r"\w[\w.-]*", name, re.ASCII)]
    return [(name, match["module"], match["name"]) for name, match in matches if match is not None]


def _compile(folder: Path) -> None:
    """Byte code beside each source, so that no app wakes by compiling; what does not compile is left as it is."""
    options = ["-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", PLACE]
    command = [sys.executable, "-I", "-S", "-m", "compileall", *options, str(folder)]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMPILE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        for cache in folder.rglob("__pycache__"):
            shutil.rmtree(cache, ignore_errors=True)
