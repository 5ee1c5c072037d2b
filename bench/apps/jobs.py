"""Four instances, for jobs of very different length."""

import time

from motes import function


@function(scale=(4, 4))
def job(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
