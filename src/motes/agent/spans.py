"""The spans of one host: an agent's for each call that arrives, and below it the instance's work."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from motes.agent.core.effects import Reply
from motes.agent.core.pool import Instance
from motes.model.call import STATUS_ITEM, STATUS_OK, Context, Outcome
from motes.tracing import Span, Tracer

MOST_UNDER_WAY = 20_000


class HostSpans:
    """By where the answer goes, those that are under way."""

    def __init__(self, tracer: Tracer, host: str) -> None:
        self._tracer = tracer
        self._host = host
        self._under_way: dict[Reply, Span] = {}

    def arrived(self, reply: str, address: str, context: Context) -> Context:
        """A call is here; returns the context of calls that it makes. One that nobody traces has no span here."""
        if not context.trace or len(self._under_way) >= MOST_UNDER_WAY:
            return context
        span = self._tracer.begin(address, "server", context.trace, host=self._host, caller=context.caller)
        self._under_way[reply] = span
        return msgspec.structs.replace(context, trace=span.traceparent)

    def answered(self, replies: Sequence[Reply], outcome: Outcome | None) -> None:
        """It has an outcome, or with None nobody waits for it any more."""
        if outcome is not None and outcome.status == STATUS_ITEM:
            return
        for reply in replies:
            span = self._under_way.pop(reply, None)
            if span is not None:
                span.end(_error_of(outcome))

    def worked(self, instance: Instance, tag: int, outcome: Outcome, worked_s: float) -> None:
        """An instance has worked on a call for `worked_s`, as it says."""
        call = instance.calls_now.get(tag)
        if call is not None and call.context.trace:
            name, release, pid = f"{instance.address} in its process", instance.release, instance.pid
            trace, error = call.context.trace, _error_of(outcome)
            self._tracer.past(name, worked_s, trace, error, host=self._host, release=release, pid=pid)


def _error_of(outcome: Outcome | None) -> str:
    if outcome is None:
        return "given up"
    return "" if outcome.status == STATUS_OK else outcome.error().message
