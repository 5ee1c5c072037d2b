"""Results as the table of docs/PERFORMANCE.md and as JSON. Pure but for the two files that `write` changes."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.result import Limits, Result, Series

BEGIN = "<!-- the table: written by make bench -->"
END = "<!-- end of the table -->"
DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "PERFORMANCE.md"
DATA = DOCS / "performance.json"

BESIDE = ("the same work beside Ray, Dask, Celery, nats-py", "comes with `make bench-peers`")
LATER = (("messages sent while hosts die; 10,000 hosts simulated", "later"),)


class Data(msgspec.Struct):
    """docs/performance.json."""

    date: str
    machine: dict[str, str]
    results: list[Result]


def merge(old: Sequence[Result], new: Sequence[Result]) -> list[Result]:
    """`old` with the rows that were measured again replaced, in their old places; new rows last."""
    measured = {result.row for result in new}
    merged: list[Result] = []
    for result in old:
        if result.row not in measured:
            merged.append(result)
        elif not any(each.row == result.row for each in merged):
            merged += [each for each in new if each.row == result.row]
    known = {result.row for result in merged}
    return merged + [result for result in new if result.row not in known]


def number(value: float) -> str:
    """Three digits that mean something: `0.0123`, `1.23`, `12.3`, `123`, `12,300`."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{round(value, -2 if size >= 10000 else -1):,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def figure(series: Series, unit: str) -> str:
    """A contender's figure with its spread: `1.2 ms (1.1-1.9, 5 runs)`."""
    if not series.values:
        return "not here"
    text = f"{number(series.middle)} {unit}".rstrip()
    if len(series.values) > 1:
        text += f" ({number(min(series.values))}-{number(max(series.values))}, {len(series.values)} runs)"
    if series.p99 is not None:
        text += f", p99 {number(series.p99)}"
    return text


def limit(limits: Limits, value: float, unit: str) -> str:
    """A limit in words: `at most 1.5 times`, `at least 0.5 times`, `at most 2 ms`."""
    bound = "at most" if limits.better == "less" else "at least"
    return f"{bound} {value:g} " + ("times" if limits.of == "ratio" else unit)


def verdict(result: Result, which: str, value: float) -> str:
    """The limit, with how it was met: `at most 1.5 times: yes` or `...: **missed by 12 %**`."""
    assert result.limits is not None and result.measured is not None
    text = limit(result.limits, value, result.unit).rstrip()
    if result.limits.holds(result.measured, value):
        return f"{text}: yes"
    if value == 0:
        return f"{text}: **missed**" if which == "first_step" else f"{text}: no"
    off = abs(result.measured - value) / value
    by = f"{off + 1:.1f} times" if off >= 1 and result.limits.better == "less" else f"{off * 100:.0f} %"
    return f"{text}: **missed by {by}**" if which == "first_step" else f"{text}: no ({by} off)"


def line(result: Result) -> str:
    """One line of the table."""
    peers = "; ".join(f"{peer.name} {figure(peer, result.unit)}" for peer in result.peers) or "-"
    ratio = "-" if result.ratio is None else number(result.ratio)
    first = goal = "-"
    if result.limits is not None and result.measured is not None:
        first = verdict(result, "first_step", result.limits.first_step)
        goal = verdict(result, "goal", result.limits.goal)
    note = f" ({result.note})" if result.note else ""
    return f"| {result.what}{note} | {figure(result.ours, result.unit)} | {peers} | {ratio} | {first} | {goal} |"


def processor_line(result: Result, series: Series) -> str:
    """Who spent how much processor time for one call."""
    parts = ", ".join(f"{name} {number(value)}" for name, value in series.cpu_us.items())
    return f"| {result.what} | {series.name} | {parts} | {number(sum(series.cpu_us.values()))} |"


def tables(data: Data) -> str:
    """Everything between the two markers."""
    machine = ", ".join(f"{name} {value}" if name else value for name, value in data.machine.items())
    spent = [
        processor_line(result, series)
        for result in data.results
        for series in (result.ours, *result.peers)
        if series.cpu_us
    ]
    is_beside = any(result.row.startswith("beside-") for result in data.results)
    later = LATER if is_beside else (BESIDE, *LATER)
    lines = [
        f"Measured on {data.date}: {machine}.",
        "",
        "| what | Motes: median (min-max, runs) | peers in the same run | ratio to the first | first step | goal |",
        "|---|---|---|---|---|---|",
        *map(line, data.results),
        *(f"| {what} | - | {why} | - | - | - |" for what, why in later),
    ]
    if spent:
        lines += [
            "",
            "CPU microseconds of each process for one call:",
            "",
            "| what | contender | by process | in all |",
            "|---|---|---|---|",
            *spent,
        ]
    return "\n".join(lines)


def replace_between(page: str, table: str) -> str:
    """`page` with what stands between the markers replaced; everything else is kept. Raises ValueError without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no line {BEGIN!r} with {END!r} after it")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def read() -> list[Result]:
    """The results of the last run; empty when there are none."""
    try:
        return msgspec.json.decode(DATA.read_bytes(), type=Data).results
    except FileNotFoundError:
        return []


def write(machine: dict[str, str], results: list[Result]) -> None:
    """Replace the table and the JSON file."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    data = Data(today, machine, results)
    DATA.write_bytes(msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n")
    PAGE.write_text(replace_between(PAGE.read_text(), tables(data)))
