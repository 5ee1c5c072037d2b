"""Spans for OpenTelemetry, sent over OTLP (the extra `otel`), when its own variables say where to.

`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` turns it on; without them nothing is imported.
A call is four spans: its caller's, the router's for each host that it was sent to, the agent's, and the instance's.
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from contextvars import ContextVar
from typing import Any

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
incoming: ContextVar[str] = ContextVar("incoming", default="")
"""The span that the request which is being answered belongs to, as its header traceparent says."""
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_log = logging.getLogger("motes.tracing")


def is_configured() -> bool:
    """Whether spans are wanted."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(os.environ.get(each) for each in ENDPOINTS)


def note_incoming(header: bytes) -> None:
    """A request's traceparent; what is none does not count."""
    text = header.decode("latin-1")
    if _TRACEPARENT.fullmatch(text):
        incoming.set(text)


@functools.cache
def tracer(part: str) -> Tracer | None:
    """For one part of Motes, as `agent`; None when nobody wants spans, or what sends them is not installed."""
    if not is_configured():
        return None
    try:
        return Tracer(part)
    except ImportError as error:
        _log.warning("no spans are sent: %s; install what sends them with: pip install 'motes[otel]'", error)
        return None


class Span:
    """One span under way. `traceparent` names it for those below, as in W3C Trace Context."""

    def __init__(self, span: Any) -> None:
        self._span = span
        told = span.get_span_context()
        self.traceparent = f"00-{told.trace_id:032x}-{told.span_id:016x}-{int(told.trace_flags):02x}"

    def end(self, error: str = "", at: float | None = None) -> None:
        """It is over, at Unix time `at` or now; `error` says what went wrong."""
        from opentelemetry.trace import StatusCode

        if error:
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end(None if at is None else int(at * 1e9))


class Tracer:
    """Makes spans. A program that has an SDK set up keeps it; else there is one that sends to the endpoint."""

    def __init__(self, part: str) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        found = trace.get_tracer_provider()
        provider = found if isinstance(found, TracerProvider) else _provider(part)
        self._tracer = provider.get_tracer("motes")
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = trace.SpanKind

    def begin(self, name: str, kind: str, parent: str = "", at: float | None = None, **attributes: str | int) -> Span:
        """A span from Unix time `at`, or now. `parent` is a traceparent; empty: the program's current span."""
        context = self._propagator.extract({"traceparent": parent}) if parent else None
        span = self._tracer.start_span(
            name,
            context,
            self._kinds[kind.upper()],
            {f"motes.{key}": value for key, value in attributes.items()},
            start_time=None if at is None else int(at * 1e9),
        )
        return Span(span)

    def past(self, name: str, seconds: float, parent: str, error: str = "", **attributes: str | int) -> None:
        """A span that ends now and took `seconds`."""
        now = time.time()
        self.begin(name, "internal", parent, now - seconds, **attributes).end(error, now)


def _provider(part: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"motes.{part}"}
    provider = TracerProvider(resource=Resource.create(named))
    # It has a thread and a bounded queue of its own: a collector that is away holds nobody up.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
