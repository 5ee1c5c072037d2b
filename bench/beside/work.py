"""The work, as each peer calls it."""

import time

TEXT = "x" * 98


def echo(text: str) -> str:
    return text


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
