"""What an app says of where its packages come from, or of which: Motes takes names and versions from one index only.

Were it passed over, a name that its owner has in a folder, a repository or an index of their own would be fetched from
the public index, where anybody may have taken it. So it is refused, wherever there is a package that it could be about.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from motes.errors import NoPackages

_INDEXES = ("index", "index-url", "extra-index-url", "extra-index-urls", "find-links", "no-index")
_VERSIONS = (
    "constraint-dependencies",
    "override-dependencies",
    "exclude-dependencies",
    "exclude-newer",
    "exclude-newer-package",
    "dependency-metadata",
    "dependency-overrides",
)
_SETTINGS = {
    "uv": (*_INDEXES, *_VERSIONS),
    "uv.pip": (*_INDEXES, *_VERSIONS),
    "pdm": ("source",),
    "poetry": ("source",),
    "rye": ("sources",),
    "pixi.pypi-options": (*_INDEXES, *_VERSIONS),
    "pixi.feature.*.pypi-options": (*_INDEXES, *_VERSIONS),
}
"""By table below [tool]: what is said of all packages."""
_PLACES = (
    "uv.sources",
    "poetry.dependencies",
    "pixi.pypi-dependencies",
    "pixi.target.*.pypi-dependencies",
    "pixi.feature.*.pypi-dependencies",
    "pixi.feature.*.target.*.pypi-dependencies",
)
"""And what is said of one package, by its name."""
_PLACE_KEYS = frozenset({"path", "git", "url", "index", "source", "workspace", "file"})

_MEND = {
    "place": "packages come as wheels by name and version; put the code into the app's folder, or into an index",
    "index": "to use another index, set UV_DEFAULT_INDEX, UV_INDEX or UV_FIND_LINKS where you deploy, and remove this",
    "version": "write the versions into `dependencies`, pin them with `motes deploy --lock`, and remove this",
}


def refuse_elsewhere(file: Path, document: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise NoPackages where `document`, which `file` holds, says of these packages what is not heeded.

    `names` are in their normal form.
    """
    if not names:
        return
    tool = _table(document.get("tool"))
    for table, key in _settings(tool):
        raise _refusal(file, f"[tool.{table}] {key}", "version" if key in _VERSIONS else "index")
    for table, name in _placed(tool, names):
        raise _refusal(file, f"[tool.{table}] {name}", "place")


def refuse_elsewhere_beside(folder: Path, names: Sequence[str]) -> None:
    """The same for what holds for the project in `folder` as well: uv's own file there, and a workspace it is in."""
    if not names:
        return
    own = folder / "uv.toml"
    refuse_elsewhere(own, {"tool": {"uv": _read(own)}}, names)
    for above in folder.resolve().parents:
        file = above / "pyproject.toml"
        document = _read(file)
        if "workspace" in _table(_table(document.get("tool")).get("uv")):
            refuse_elsewhere(file, document, names)
            return


def _settings(tool: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, keys in _SETTINGS.items():
        for name, table in _tables(tool, path):
            yield from ((name, key) for key in keys if table.get(key))


def _placed(tool: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    from packaging.utils import canonicalize_name

    for path in _PLACES:
        for table, places in _tables(tool, path):
            for name, value in places.items():
                said = value if isinstance(value, list) else [value]
                if canonicalize_name(name) in names and any(_PLACE_KEYS & _table(each).keys() for each in said):
                    yield table, name


def _tables(outer: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those at `path` below `outer`, by their whole names; `*` is any name."""
    first, _, rest = path.partition(".")
    for name in tuple(outer) if first == "*" else (first,):
        found = _table(outer.get(name))
        if rest:
            yield from ((f"{name}.{inner}", table) for inner, table in _tables(found, rest))
        else:
            yield name, found


def _refusal(file: Path, what: str, kind: str) -> NoPackages:
    return NoPackages(f"{file}: {what} is not heeded, and without it another package could be taken; {_MEND[kind]}")


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _read(file: Path) -> dict[str, Any]:
    """A file that need not be there; what cannot be read says nothing to uv either."""
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
