"""Import the app's code in the zygote and find its functions. This runs the owner's module code."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import os
import resource
import stat
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from motes.model.units import format_bytes
from motes.space.guest.failures import app_traceback, text_of
from motes.space.guest.places import HERE
from motes.space.guest.typed import NotDeployable, Typed

DESCRIPTION_LIMIT = 4000
_NOT_LOADED = ("setup", "conftest", "__init__", "__main__")
"""Top-level files that are scripts of other tools."""


class Refused(Exception):
    """The app cannot be loaded; `traceback` holds the app's own frames, or nothing."""

    def __init__(self, message: str, kind: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.traceback = traceback


class Loaded:
    """A function that was found: its types, where it lives and what was declared of it."""

    def __init__(self, module: str, declared: Any, name: str) -> None:
        self.callable = getattr(declared, "callable", declared)
        self.options: dict[str, Any] = getattr(declared, "options", {})
        self.module = module
        self.typed = Typed(name, self.callable)
        self.name = name
        self.concurrency: int = self.options.get("concurrency", 1)
        self.declared = declared
        self.calls: tuple[str, ...] = self.options.get("calls", ())
        if self.concurrency > 1 and not self.typed.is_async:
            raise NotDeployable(f"function {name!r}: concurrency={self.concurrency} is for `async def` only")

    @property
    def has_loop(self) -> bool:
        """Whether its instances keep an event loop running: for calls beside one another, their own or others'."""
        return self.typed.is_async and (self.concurrency > 1 or bool(self.calls))

    @property
    def begin(self) -> Callable[[], Any] | None:
        """What its instances run once, before their first call."""
        return getattr(self.declared, "start", None)

    def description(self) -> dict[str, Any]:
        """As a motes.model.release.Function in plain data."""
        return {
            "kind": "function",
            "name": self.name,
            "module": self.module,
            "qualname": getattr(self.callable, "__qualname__", self.name),
            "parameter_names": self.typed.parameter_names,
            "description": (inspect.getdoc(self.callable) or "")[:DESCRIPTION_LIMIT],
            "streams": self.typed.streams,
            **self.typed.schema(),
            **self.options,
        }


def load(entries: Sequence[str]) -> dict[str, Loaded]:
    """The app's functions by name: those of `entries` (`file.py:callable`), or all that are declared.

    Raises Refused.
    """
    sys.path[:0] = [HERE.app]
    if os.path.isdir(HERE.wheels):
        sys.path.append(HERE.wheels)
    opened = _open_files()
    own_id = os.getpid()
    found = _named(entries) if entries else _declared()
    if os.getpid() != own_id:
        # Module code forked: this is its child, and no zygote.
        os._exit(0)
    _check_still(opened)
    if not found:
        raise Refused(
            "the app has no function: decorate one with `@function` from motes, or name one as `file.py:callable`"
        )
    for each in found.values():
        _check_calls(each, found)
    return found


def _check_calls(function: Loaded, found: dict[str, Loaded]) -> None:
    for name in function.calls:
        if "." not in name and name not in found:
            raise Refused(
                f"function {function.name!r} declares that it calls {name!r}, which this app does not have"
                f" (it has {', '.join(found)}; write 'app.{name}' for another app's)"
            )


def _named(entries: Sequence[str]) -> dict[str, Loaded]:
    found: dict[str, Loaded] = {}
    for entry in entries:
        file, _, name = entry.partition(":")
        module = _import(file.removesuffix(".py"))
        callable = getattr(module, name, None)
        if not _is_function(callable):
            raise Refused(f"{file} has no callable named {name!r}")
        _add(found, module.__name__, callable, name)
    return found


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def _declared() -> dict[str, Loaded]:
    found: dict[str, Loaded] = {}
    for stem in _stems():
        module = _import(stem)
        for value in _declared_in(module):
            _add(found, stem, value, value.name)
    return found


def _stems() -> list[str]:
    names = sorted(entry.name for entry in os.scandir(HERE.app) if entry.is_file() and entry.name.endswith(".py"))
    stems = [name.removesuffix(".py") for name in names]
    # Others cannot be imported by name, so beside modules they are scripts; a file alone is the app, whatever its name.
    return [stem for stem in stems if (stem.isidentifier() or len(stems) == 1) and stem not in _NOT_LOADED]


def _declared_in(module: ModuleType) -> list[Any]:
    """The functions declared in `module` itself, in the order of their lines; imported ones belong to another file."""
    declare = sys.modules.get("motes.declare")
    if declare is None:
        return []
    values = [value for value in vars(module).values() if isinstance(value, declare.Function)]
    unique = list(dict.fromkeys(values))
    return [value for value in unique if value.callable.__module__ == module.__name__]


def _add(found: dict[str, Loaded], module: str, declared: Any, name: str) -> None:
    if name in found:
        raise Refused(f"two functions are named {name!r}: in {found[name].module}.py and {module}.py; rename one")
    try:
        found[name] = Loaded(module, declared, name)
        found[name].description()
    except NotDeployable as error:
        raise Refused(str(error)) from None


def _import(stem: str) -> ModuleType:
    if not os.path.isfile(f"{HERE.app}/{stem}.py"):
        raise Refused(f"the app has no file {stem}.py")
    sys.argv = [f"{HERE.app}/{stem}.py"]
    try:
        if stem in sys.stdlib_module_names or not stem.isidentifier():
            return _import_as_the_apps_own(stem)
        return importlib.import_module(stem)
    except SystemExit as error:
        raise Refused(
            f"{stem}.py ends the process when it is imported (exit {error.code});"
            " put what it runs under `if __name__ == '__main__':`",
            "SystemExit",
            app_traceback(error),
        ) from None
    except MemoryError as error:
        error.__traceback__ = None  # The frames hold the memory that telling needs.
        raise Refused(
            f"{stem}.py: MemoryError: the modules need more memory than they may have while they are imported"
            f" ({format_bytes(_memory_limit_bytes())}); load what is large inside the function",
            "MemoryError",
        ) from None
    except BaseException as error:
        kind = type(error).__name__
        raise Refused(f"{stem}.py: {kind}: {text_of(error)}", kind, app_traceback(error)) from None


def _memory_limit_bytes() -> int:
    """What harden_zygote has set, over all that this process maps."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


def _import_as_the_apps_own(stem: str) -> ModuleType:
    """A file may be named like a standard module, which others need under that name, or as no module can be."""
    spec = importlib.util.spec_from_file_location(f"app_{stem}", f"{HERE.app}/{stem}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{stem}.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def _check_still(opened: set[int]) -> None:
    """A fork copies neither threads nor the other end of a connection: refuse what would be broken in each instance."""
    gc.collect()
    threads = len(os.listdir("/proc/self/task")) - 1
    if threads:
        raise Refused(
            f"the app's modules left {threads} thread(s) running when they were imported;"
            " start them inside the function"
        )
    sockets = [number for number in _open_files() if number not in opened and _is_socket(number)]
    if sockets:
        raise Refused(
            f"the app's modules left {len(sockets)} socket(s) open when they were imported;"
            " open them inside the function"
        )
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    raise Refused("the app's modules started processes when they were imported; functions may not")


def _open_files() -> set[int]:
    return {number for number in map(int, os.listdir("/proc/self/fd")) if _exists(number)}


def _exists(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
