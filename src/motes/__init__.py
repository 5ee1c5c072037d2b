"""Motes, the cloud for processes. `from motes import function, connect`."""

from __future__ import annotations

import sys

from motes.version import __version__ as __version__

TYPE_CHECKING = False
"""As in `typing`, which takes longer to import than the decorator and all that it needs."""

if TYPE_CHECKING:
    from typing import Any

    from motes.client.cluster import connect as connect
    from motes.declare import Function as Function
    from motes.declare import function as function
    from motes.declare import remote as remote
    from motes.errors import MotesError as MotesError

_HOMES = {
    "function": "motes.declare",
    "Function": "motes.declare",
    "remote": "motes.declare",
    "connect": "motes.client.cluster",
    "MotesError": "motes.errors",
}
__all__ = ["Function", "MotesError", "__version__", "connect", "function", "remote"]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: importing motes for the decorator is cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'motes' has no attribute {name!r}")
    home = _HOMES[name]
    __import__(home)
    return getattr(sys.modules[home], name)
