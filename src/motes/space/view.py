"""What exists for the processes in a space, and its translation into bubblewrap's arguments.

The translation is a pure function. Mounts apply in order, so whatever lies inside another mount comes after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from motes.model.release import MIB
from motes.space.guest.nest import COVER, DEVICES
from motes.space.guest.places import Places
from motes.space.interpreter import Interpreter

GUEST_ID = 1000
"""The user and group inside; etc/passwd names it."""

APP_FOLDER, WHEELS = Places.app, Places.wheels
_PYTHON = "/python"
_LIBRARIES = "/python/so"
_IMPORTS = "/motes"
_ETC = Path(__file__).parent / "guest" / "etc"
_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")

PYTHON_OPTIONS = ("-I", "-S", "-B", "-X", "utf8", "-c")
"""Isolated from site and environment; the program text comes behind."""

Arguments = list[str]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that exists for the processes in one space; what is not here does not exist for them.

    The defaults are the least: the code, 16 MiB of /tmp, no network, no system.
    """

    code: Path | None = None
    """A folder; read-only at /app."""
    script: str = ""
    """The name in /app of one file, instead of a folder; its content is handed over by descriptor."""
    wheels: Path | None = None
    """A folder of installed packages; read-only, on the import path behind /app."""
    tmp_bytes: int = 16 * MIB
    shared_memory_bytes: int = MIB
    """The size of /dev/shm."""
    memory_bytes: int = 512 * MIB
    """No process in the space may allocate more; an instance's own limit lies below it."""
    processes: int = 1
    """How many processes and threads a daemon may have; 1: it may not fork or exec either."""
    system: bool = False
    """/usr, read-only: shells, tools and libraries."""
    open_files: int = 256
    hostname: str = "space"
    environment: tuple[tuple[str, str], ...] = ()
    nests: bool = False
    """Its instances get namespaces of their own, for there is no Landlock (motes.space.guest.nest)."""


def bubblewrap_arguments(
    view: View, interpreter: Interpreter, *, disable_user_namespaces: bool, script: int = -1
) -> Arguments:
    """Bubblewrap's options for `view`, without the filter and the command. `script` is open on the script's content."""
    return [
        *_walls(view, disable_user_namespaces),
        *_environment(view),
        *_system(view),
        *_etc(),
        *_python(view, interpreter),
        *_devices(view),
        *_code(view, script),
        # The root and /dev are memory without a limit: nobody may write there.
        *("--remount-ro", "/"),
        *("--chdir", APP_FOLDER),
    ]


def _walls(view: View, disable_user_namespaces: bool) -> Arguments:
    return [
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        "--unshare-cgroup-try",
        *(["--disable-userns"] if disable_user_namespaces and not view.nests else []),
        *("--uid", str(GUEST_ID), "--gid", str(GUEST_ID), "--hostname", view.hostname),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session"),
    ]


def _environment(view: View) -> Arguments:
    wheels = f"{WHEELS}/bin:" if view.wheels else ""
    found = variables(view, tmp="/tmp", programs=f"{_PYTHON}/bin:{wheels}/usr/local/bin:/usr/bin:/bin")
    found = {"LD_LIBRARY_PATH": _LIBRARIES, **({"PYTHONPATH": WHEELS} if view.wheels else {}), **found}
    return ["--clearenv", *(word for name, value in found.items() for word in ("--setenv", name, value))]


def variables(view: View, *, tmp: str, programs: str) -> dict[str, str]:
    """The environment of everything in a space; `programs` is its PATH."""
    return {
        "HOME": tmp,
        "TMPDIR": tmp,
        "USER": "mote",
        "LANG": "C.UTF-8",
        "PATH": programs,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # One arena: each further one reserves address space for every thread. One thread for numpy's
        # libraries: a thread in the zygote would be lost in each fork.
        **dict.fromkeys(("MALLOC_ARENA_MAX", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        **dict(view.environment),
    }


def _system(view: View) -> Arguments:
    if not view.system:
        return []
    return [
        *("--ro-bind", "/usr", "/usr"),
        *(word for folder in _SYSTEM_FOLDERS for word in ("--ro-bind-try", folder, folder)),
    ]


def _etc() -> Arguments:
    names = ("passwd", "group", "hosts", "nsswitch.conf")
    return ["--dir", "/etc", *(word for name in names for word in ("--ro-bind", str(_ETC / name), f"/etc/{name}"))]


def _python(view: View, interpreter: Interpreter) -> Arguments:
    named = f"python{interpreter.version}"
    standard_library = f"{_PYTHON}/{interpreter.library_folder}/{named}"
    return [
        *("--ro-bind", str(interpreter.program), f"{_PYTHON}/bin/{named}"),
        *("--symlink", named, f"{_PYTHON}/bin/python3", "--symlink", named, f"{_PYTHON}/bin/python"),
        *("--ro-bind", str(interpreter.standard_library), standard_library),
        *(word for name in interpreter.site_packages for word in _nothing_at(f"{standard_library}/{name}")),
        *_loader(view, str(interpreter.loader)),
        *(word for name, file in interpreter.libraries for word in ("--ro-bind", str(file), f"{_LIBRARIES}/{name}")),
        *(word for name, at in interpreter.packages for word in ("--ro-bind", str(at), f"{_IMPORTS}/{name}")),
    ]


def _loader(view: View, path: str) -> Arguments:
    """The dynamic loader, at the path that programs name; the system's folders hold it already."""
    if view.system and path.startswith(tuple(f"{folder}/" for folder in ("/usr", *_SYSTEM_FOLDERS))):
        return []
    return ["--ro-bind", path, path]


def _nothing_at(place: str) -> Iterator[str]:
    yield from ("--size", "4096", "--tmpfs", place, "--remount-ro", place)


def _devices(view: View) -> Arguments:
    proc = ("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys")
    tmp = ("--size", str(view.tmp_bytes), "--tmpfs", "/tmp")
    if view.nests:
        # What Landlock would leave of /dev, and a folder on which an instance builds its own /proc.
        devices = (word for name in DEVICES for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}"))
        return [
            *proc,
            *("--dir", "/dev", "--symlink", "/proc/self/fd", "/dev/fd"),
            *devices,
            *("--dir", f"{COVER}/self"),
            *tmp,
        ]
    return [
        *proc,
        *("--dev", "/dev", "--size", str(view.shared_memory_bytes), "--tmpfs", "/dev/shm"),
        *("--remount-ro", "/dev"),
        *tmp,
    ]


def _code(view: View, script: int) -> Arguments:
    return [
        *("--dir", APP_FOLDER),
        *(["--ro-bind", str(view.code), APP_FOLDER] if view.code else []),
        *(["--perms", "0444", "--ro-bind-data", str(script), f"{APP_FOLDER}/{view.script}"] if view.script else []),
        *(["--ro-bind", str(view.wheels), WHEELS] if view.wheels else []),
    ]


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module`'s `main(arguments)` in the space's Python, isolated from site and environment."""
    start = f"import sys; sys.path.append({_IMPORTS!r}); from {module} import main; main(sys.argv[1:])"
    return [f"{_PYTHON}/bin/python3", *PYTHON_OPTIONS, start, *arguments]
