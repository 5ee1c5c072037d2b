"""The spans of a router's calls: the caller's, and below it one for each host that the call was sent to."""

from __future__ import annotations

import msgspec

from motes.model.call import STATUS_OK, Context, Outcome
from motes.tracing import Span, Tracer


class CallSpans:
    """By call id, those that are under way."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._under_way: dict[bytes, list[Span]] = {}

    def begin(self, call_id: bytes, app: str, workload: str, context: Context) -> Context:
        """A call begins; returns what goes with it."""
        span = self._tracer.begin(f"{app}.{workload}", "client", context.trace, app=app, workload=workload)
        self._under_way[call_id] = [span]
        return msgspec.structs.replace(context, trace=span.traceparent)

    def send(self, call_id: bytes, host: str, context: Context) -> Context:
        """It is sent to a host; returns what goes with it there."""
        span = self._tracer.begin(f"send to {host}", "producer", context.trace, host=host)
        self._under_way.setdefault(call_id, []).append(span)
        return msgspec.structs.replace(context, trace=span.traceparent)

    def end(self, call_id: bytes, outcome: Outcome | None) -> None:
        """It is settled, or with None given up."""
        error = "given up" if outcome is None else "" if outcome.status == STATUS_OK else outcome.error().message
        for span in reversed(self._under_way.pop(call_id, [])):
            span.end(error)
