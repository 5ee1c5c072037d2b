"""Who writes more than is kept is not read for a while: reading without end would take the agent's time."""

from __future__ import annotations

from collections.abc import Callable

OUTPUT_AT_ONCE_BYTES = 256 * 2**10
"""What one daemon or zygote may write between two flushes of the logs; then it waits for the next."""

Writer = tuple[str, int]
"""A release (empty: a daemon's) and an instance's number, or that of the zygote."""


class Outputs:
    """`switch` begins or ends the reading of what a writer writes."""

    def __init__(self, switch: Callable[[Writer, bool], None]) -> None:
        self._switch = switch
        self._written: dict[Writer, int] = {}
        """Bytes since the last flush of the logs."""

    def note(self, writer: Writer, count: int) -> None:
        """So many bytes were written."""
        before = self._written.get(writer, 0)
        self._written[writer] = before + count
        if before <= OUTPUT_AT_ONCE_BYTES < before + count:
            self._switch(writer, False)

    def resume(self) -> None:
        """The logs were flushed: everybody may write again."""
        written, self._written = self._written, {}
        for writer, count in written.items():
            if count > OUTPUT_AT_ONCE_BYTES:
                self._switch(writer, True)
