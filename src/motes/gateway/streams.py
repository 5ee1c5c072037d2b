"""The items of a stream over HTTP, for who asks for them by Accept: server-sent events, or JSON lines.

An error before the first item is a problem, as for any call. After it the status is out: server-sent events then end
with an event `error` that holds the problem, JSON lines with the problem as their last line, and in both cases the
response is cut off before its proper end, so that nobody takes it for whole.
https://html.spec.whatwg.org/multipage/server-sent-events.html, https://jsonlines.org
"""

from __future__ import annotations

from motes.gateway.call_request import Headers, header, media_type
from motes.gateway.problems import Problem

EVENTS = b"text/event-stream"
LINES = b"application/x-ndjson"
_ASKED = {EVENTS: EVENTS, LINES: LINES, b"application/jsonl": LINES}


def asked_for(headers: Headers) -> bytes | None:
    """EVENTS or LINES when Accept names one of them, else None."""
    for each in (header(headers, b"accept") or b"").split(b","):
        if (kind := _ASKED.get(media_type(each))) is not None:
            return kind
    return None


def head(kind: bytes) -> Headers:
    """No cache and no proxy may hold items back."""
    return [(b"content-type", kind), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]


def item(kind: bytes, data: bytes) -> bytes:
    """One item; JSON of one has no line break in it."""
    return b"data: %b\n\n" % data if kind == EVENTS else data + b"\n"


def last_words(kind: bytes, problem: Problem) -> bytes:
    """What stands in the place of the items that do not come."""
    body = problem.body()
    return b"event: error\ndata: %b\n\n" % body if kind == EVENTS else body + b"\n"
