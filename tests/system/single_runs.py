"""An app whose calls say that they begin: where nothing may run twice, it shows what has."""

from __future__ import annotations

from collections import Counter

_APP = """
    import time
    from motes import function

    @function(idle="60 s")
    def once(name: str) -> str:
        print("began", name, flush=True)
        time.sleep({pause_s})
        return name

    @function(scale=(1, 1))
    def single() -> int:
        return 1
"""


def app(pause_s: float) -> str:
    """Its source: `once` may run only once for each name and takes so long, and of `single` one is always there."""
    return _APP.format(pause_s=pause_s)


def runs(written: str) -> Counter[str]:
    """How often each call has begun, by its name, as the function itself wrote."""
    return Counter(line.partition(" ")[2] for line in written.splitlines() if line.startswith("began "))
