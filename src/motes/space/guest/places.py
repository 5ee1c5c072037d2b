"""Where things lie in this space: at the same places in each, or at the host's own where nothing can be mounted."""

from __future__ import annotations


class Places:
    """`readable` is everything that may be read; None where nothing else is mounted at all."""

    app = "/app"
    wheels = "/wheels"
    tmp = "/tmp"
    writable: tuple[str, ...] = ("/tmp", "/dev/shm")
    readable: tuple[str, ...] | None = None
    listable: tuple[str, ...] = ()
    """Folders of which the names may be read, and nothing else."""
    roots: tuple[str, ...] = ()
    """A shorter list that covers both: for who is held to these already."""

    @property
    def are_bare(self) -> bool:
        """Whether these are the host's own, and so are paths, processes and devices."""
        return self.readable is not None


HERE = Places()
"""This process's; the monitor of a space without namespaces sets it before anything else runs (guest/monitor.py)."""
