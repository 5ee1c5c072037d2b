"""Sizes and durations as people write them. Without `re`: the decorator imports this."""

from __future__ import annotations

_BYTES = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_ENDLESS = float("inf")


def _parse(text: str | int | float, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    if isinstance(text, int | float):
        value = float(text)
        if not 0 <= value < _ENDLESS:
            raise ValueError(f"a {what} cannot be {'negative' if value < 0 else 'without end'}: {text}")
        return value
    written = text.strip()
    unit = written.lstrip("0123456789.")
    number = written[: len(written) - len(unit)]
    whole, point, part = number.partition(".")
    unit = unit.strip().lower()
    if unit not in units or not whole.isdecimal() or (point and not part.isdecimal()):
        raise ValueError(f"{text!r} is not a {what}; write it like {example!r}")
    if (value := float(number) * units[unit]) >= _ENDLESS:
        raise ValueError(f"a {what} cannot be without end: {text!r}")
    return value


def parse_bytes(text: str | int | float) -> int:
    """`"64 MiB"`, `"1GB"` or a number of bytes, as bytes. Raises ValueError."""
    return int(_parse(text, _BYTES, "size", "64 MiB"))


def parse_seconds(text: str | int | float) -> float:
    """`"30 s"`, `"250 ms"`, `"5 min"` or a number of seconds, as seconds. Raises ValueError."""
    return _parse(text, _SECONDS, "duration", "30 s")


def format_bytes(count: float) -> str:
    """Bytes for people: `"64 MiB"`, `"1.5 GiB"`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if value == int(value) or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.0f} GiB" if value == int(value) or value >= 10 else f"{value:.1f} GiB"


def format_seconds(seconds: float) -> str:
    """Seconds for people: `"30 s"`, `"250 ms"`, `"5 min"`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 or seconds == 0 else f"{seconds * 1e6:.0f} us"
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
