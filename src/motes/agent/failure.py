"""What becomes of a mistake in the agent's own work: whoever waits for that work hears that it failed."""

from __future__ import annotations

import logging

from motes.errors import MotesError, SpaceFailed

_log = logging.getLogger("motes.agent")


def as_failure(error: Exception, what: str) -> MotesError:
    """The error to tell; `what` is what the host was to do. One that nobody foresaw goes to the log as well."""
    if isinstance(error, MotesError):
        return error
    _log.error("the host could not %s", what, exc_info=error)
    return SpaceFailed(f"the host could not {what}: {error!r}; its log says more")
