"""A map to kill somebody in the middle of: four workers, and tasks that may be done twice."""

import time

from motes import function


@function(scale=(4, 4), idempotent=True, idle="60 s")
def stamp(seconds: float) -> float:
    """When it ended, on the clock that all processes of a machine share."""
    time.sleep(seconds)
    return time.monotonic()
