"""Work that may be done twice, for hosts that are lost in the middle."""

import time

from motes import function


@function(scale=(2, None), idempotent=True, idle="60 s")
def work(number: int) -> int:
    time.sleep(0.002)
    return number


@function(idle="60 s")
def once(number: int) -> int:
    time.sleep(0.002)
    return number
