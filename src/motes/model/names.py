"""What may name an app, workload, host or user. Stdlib only."""

from __future__ import annotations

HOST_PREFIX = "host-"
"""A host's agent is the user `host-<name>`."""
GUEST_PREFIX = "guest-"
"""The bearer of an invite is the user `guest-<digits of its key>`."""
KEEPER = "keeper"
"""The controller's user, and the sender of its events."""
GATEWAY, GATEWAY_ANSWERS, GATEWAY_STREAMS = "gateway", "gateway-answers", "gateway-streams"
"""The gateway's users: where it calls, where it answers, and where it connects to daemons on other machines."""
OWN_USER = "local"
"""The machine owner's own command line."""

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
"""A name as a pattern, for who checks types by it."""
MOST_LABELS = 32
"""Of one host; each is a name."""
MOST_SERVED = 64
"""Apps that a host names which it serves, when it does not serve all."""
MOST_CHARACTERS = 63


def is_name(text: str) -> bool:
    """Whether `text` may name an app, workload, host or user: a letter or digit, then up to 62 of `A-Za-z0-9_-`."""
    # Not by `re`: the decorator imports this, and importing that takes longer than all the rest.
    if not 0 < len(text) <= MOST_CHARACTERS or not text.isascii():
        return False
    return text[0].isalnum() and text.replace("-", "").replace("_", "").isalnum()


def is_workload(text: str) -> bool:
    """Whether `text` may be `app.workload`."""
    app, _, workload = text.partition(".")
    return is_name(app) and is_name(workload)
