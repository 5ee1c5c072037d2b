"""Functions to measure with."""

import time

from motes import function


@function(idle="60 s")
def echo(text: str) -> str:
    return text


@function(calls=[echo], idle="60 s")
def caller(text: str, count: int) -> list[float]:
    """How long each of so many calls of `echo` took, one after the other, in seconds."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        echo.remote(text)
        taken.append(time.perf_counter() - began)
    return taken


@function(reuse="call")
def fresh(text: str) -> str:
    return text


@function(idle="300 ms")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@function(idle="60 s")
def stay(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
