"""What one instance may use, and what it has used."""

from __future__ import annotations

import msgspec

from motes.model.release import MIB


class Limits(msgspec.Struct, frozen=True):
    """The most that one instance may use; the kernel holds it to each."""

    memory_bytes: int = 64 * MIB
    """Memory it may allocate beyond what the zygote has."""
    file_bytes: int = 16 * MIB
    """The size of one file."""
    open_files: int = 256


class Usage(msgspec.Struct, frozen=True):
    """What a process, or all processes of a space, used."""

    cpu_s: float
    memory_bytes: int
    """Private memory: for an instance what it has beyond its zygote."""
    threads: int
