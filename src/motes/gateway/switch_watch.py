"""Whether a daemon takes up a WebSocket."""

from __future__ import annotations

import httptools


class SwitchWatch:
    """Reads a daemon's answer to a WebSocket request up to its status: 101, another, or 0 for what is no answer."""

    def __init__(self, rest: bytes) -> None:
        self.rest = rest
        self.status: int | None = None
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            self.status = self.status or 0

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.status is None and (status == 101 or status >= 200):
            self.status = int(status)
