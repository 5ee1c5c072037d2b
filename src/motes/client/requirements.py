"""What an app says that it needs: a PEP 723 header in its file, or `[project]` in its folder's pyproject.toml."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from motes.client.elsewhere import refuse_elsewhere, refuse_elsewhere_beside
from motes.errors import NoPackages

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OWN_NAME = "motes"
"""Every space has it."""
_HEADER = re.compile(r"(?m)^# /// (?P<kind>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


class Requirements(NamedTuple):
    """`lines` as in a requirements file, sorted; `python` as in `requires-python`; `lock` is where pins lie."""

    lines: tuple[str, ...]
    python: str
    lock: Path

    @property
    def fingerprint(self) -> str:
        """Of the requirements, for the lock file to name."""
        return hashlib.sha256("\n".join((self.python, *self.lines)).encode()).hexdigest()


def requirements_of(path: Path) -> Requirements:
    """What the file or folder says that it needs; no lines when it says nothing. Raises NoPackages."""
    if path.is_dir():
        file, lock = path / "pyproject.toml", path / "requirements.lock"
        document = _parsed(file, _text(file))
        table = document.get("project", {})
        if isinstance(table, dict) and "dependencies" in table.get("dynamic", ()):
            raise NoPackages(f"{file}: its dependencies are dynamic; write them down in [project] dependencies")
    else:
        file, lock = path, path.with_suffix(".requirements.lock")
        table = document = _parsed(file, _header(file))
    if not isinstance(table, dict):
        raise NoPackages(f"{file}: [project] is no table")
    python, lines = table.get("requires-python", ""), table.get("dependencies", [])
    if not isinstance(python, str) or not isinstance(lines, list) or not all(isinstance(each, str) for each in lines):
        raise NoPackages(f"{file}: dependencies must be a list of texts, and requires-python a text")
    wanted = [found for each in lines if (found := _checked(file, each)) is not None]
    names = [_normal(each.name) for each in wanted]
    refuse_elsewhere(file, document, names)
    if path.is_dir():
        refuse_elsewhere_beside(path, names)
    return Requirements(tuple(sorted(map(str, wanted))), python, lock)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise NoPackages(f"{file} cannot be read: {error}") from None


def _header(file: Path) -> str:
    try:
        text = file.read_text(errors="replace")
    except OSError:
        # Whoever packs it says what is wrong with it.
        return ""
    found = [match for match in _HEADER.finditer(text) if match["kind"] == "script"]
    if len(found) > 1:
        raise NoPackages(f"{file} has {len(found)} headers `# /// script`; it may have one (PEP 723)")
    if not found:
        return ""
    lines = found[0]["content"].splitlines(keepends=True)
    return "".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)


def _parsed(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NoPackages(f"{file}: its dependencies cannot be read: {error}") from None


def _checked(file: Path, line: str) -> Requirement | None:
    """What a line requires; None for Motes itself."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        raise NoPackages(f"{file}: {line!r} is no requirement: {error}") from None
    if requirement.url:
        raise NoPackages(
            f"{file}: {line!r} names an address; packages come as wheels from a package index, so write a name and a"
            " version, or put the code into the app's folder"
        )
    return None if _normal(requirement.name) == OWN_NAME else requirement


def _normal(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)
