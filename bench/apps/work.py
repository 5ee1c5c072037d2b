"""Functions to measure with."""

import time

from motes import function


@function(idle="60 s")
def echo(text: str) -> str:
    return text


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
