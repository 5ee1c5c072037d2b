"""The Python that runs inside a space: this one's program, standard library and shared libraries."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import msgspec

from motes.errors import SpaceFailed

LISTING_LIMIT_S = 30.0

PACKAGES = ("motes", "msgspec")
"""All of site-packages that a space sees."""

_WHEELS_EXPECT = """
    libgcc_s.so.1 libstdc++.so.6 libm.so.6 libmvec.so.1 libdl.so.2 librt.so.1 libc.so.6 libutil.so.1 libpthread.so.0
    libresolv.so.2 libz.so.1 libatomic.so.1
"""
"""A manylinux wheel may leave these to the machine."""


class Interpreter(msgspec.Struct, frozen=True):
    """The host's files that make a Python inside a space."""

    program: Path
    version: str
    """As in `python3.11`."""
    library_folder: str
    """`lib` or `lib64`: where below its prefix the interpreter looks for its standard library."""
    standard_library: Path
    site_packages: tuple[str, ...]
    """Folders within the standard library that a space must not see."""
    loader: Path
    """The dynamic loader's path, as the program names it."""
    libraries: tuple[tuple[str, Path], ...]
    """Shared libraries: the name they are asked for, and the file."""
    packages: tuple[tuple[str, Path], ...]


@functools.cache
def this_interpreter() -> Interpreter:
    """The interpreter that runs this. Raises SpaceFailed when its shared libraries cannot be listed."""
    program = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    standard_library = Path(sysconfig.get_path("stdlib"))
    loader, libraries = _shared_libraries(program, standard_library)
    hidden = (name for name in ("site-packages", "dist-packages") if (standard_library / name).is_dir())
    return Interpreter(
        program=program,
        version=f"{sys.version_info.major}.{sys.version_info.minor}",
        library_folder=sys.platlibdir,
        standard_library=standard_library,
        site_packages=tuple(hidden),
        loader=loader,
        libraries=libraries,
        packages=tuple((name, _package_folder(name)) for name in PACKAGES),
    )


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SpaceFailed(f"the package {name!r} is not installed beside this interpreter ({sys.executable})")
    return Path(spec.submodule_search_locations[0]).resolve()


def _shared_libraries(program: Path, standard_library: Path) -> tuple[Path, tuple[tuple[str, Path], ...]]:
    """The loader and what it would load for the program and all of the standard library's modules, in one run."""
    modules = [str(path) for path in standard_library.glob("lib-dynload/*.so") if "_tkinter" not in path.name]
    environment = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": ":".join([*modules, *_WHEELS_EXPECT.split()])}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=LISTING_LIMIT_S)
    loader, libraries = parse_listing(done.stdout, set(modules))
    if loader is None:
        raise SpaceFailed(f"cannot list the shared libraries of {program}: {done.stderr.strip()[:300]}")
    return loader, libraries


def parse_listing(listing: str, modules: set[str]) -> tuple[Path | None, tuple[tuple[str, Path], ...]]:
    """The loader's path and the libraries by name, from what the dynamic loader prints (as for `ldd`)."""
    loader: Path | None = None
    libraries: dict[str, Path] = {}
    for line in listing.splitlines():
        name, arrow, found = line.partition(" (0x")[0].strip().partition(" => ")
        if arrow and found.startswith("/"):
            libraries[name] = Path(found)
        elif not arrow and name.startswith("/") and name not in modules:
            loader = Path(name)
    return loader, tuple(sorted(libraries.items()))


def program_paths() -> list[Path]:
    """What must stay readable when this process gives up root: the interpreter and everything on its import path."""
    folders = [Path(sys.base_prefix), Path(sys.prefix), *map(Path, filter(None, sys.path))]
    packages = (_package_folder(name) for name in PACKAGES)
    return [folder for folder in dict.fromkeys([*folders, *packages]) if folder.exists()]
