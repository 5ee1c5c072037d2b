"""What a router needs to know of an app: who may be called, and how."""

from __future__ import annotations

from typing import Any

import msgspec


class Route(msgspec.Struct, frozen=True):
    """One workload's way: the hosts that hold a lease for it now."""

    kind: str
    """`function` or `daemon`."""
    hosts: tuple[str, ...] = ()
    idempotent: bool = False
    timeout_s: float = 30.0
    parameters: dict[str, Any] = {}
    """JSON Schema of the body, so that a caller can turn text into what the function expects."""
    parameter_names: tuple[str, ...] = ()
    result: dict[str, Any] = {}
    """JSON Schema of the result, for the app's page and its OpenAPI document."""
    streams: bool = False
    """It gives items one after the other, and `result` is the schema of one."""
    calls: tuple[str, ...] = ()
    """The addresses of the functions that it may call."""


class Routes(msgspec.Struct, frozen=True):
    """An app's routes by workload; a higher `epoch` replaces a lower one. No workloads: the app is gone."""

    app: str
    epoch: int
    workloads: dict[str, Route]
