"""The work, as each peer calls it."""

import time

TEXT = "x" * 98


def echo(text: str) -> str:
    return text


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def stamp(seconds: float) -> float:
    """When it ended, on the clock that all processes of a machine share."""
    time.sleep(seconds)
    return time.monotonic()
