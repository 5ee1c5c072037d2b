"""What may name an app, workload, host or user. Stdlib only."""

from __future__ import annotations

import re

HOST_PREFIX = "host-"
"""A host's agent is the user `host-<name>`."""
GATEWAY = "gateway"
"""The gateway's user."""
KEEPER = "keeper"
"""The controller's user, and the sender of its events."""
GATEWAY, GATEWAY_ANSWERS = "gateway", "gateway-answers"
"""The gateway's users: where it calls, and where it answers."""
OWN_USER = "local"
"""The machine owner's own command line."""

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
_NAME = re.compile(NAME)


def is_name(text: str) -> bool:
    """Whether `text` may name an app, workload, host or user: a letter or digit, then up to 62 of `A-Za-z0-9_-`."""
    return _NAME.fullmatch(text) is not None
