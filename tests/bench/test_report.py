"""The table of docs/PERFORMANCE.md, and what is kept around it."""

import pytest
from bench.report import BEGIN, END, Data
from bench.result import Limits, Result, Series

from bench import report


def result(row="call", values=(2.0, 4.0, 3.0), peers=(1.0, 2.0, 1.5), limits=None, **more):
    ours, peer = Series("Motes", list(values)), Series("bare", list(peers))
    return Result(row, f"the {row}", "us", ours, [peer], limits, **more)


def test_a_figure_shows_the_median_and_the_spread():
    assert report.figure(Series("Motes", [2.0, 400.0, 3.0]), "us") == "3.00 us (2.00-400, 3 runs)"
    assert report.figure(Series("Motes", [2.0], p99=9.5), "us") == "2.00 us, p99 9.50"
    assert report.figure(Series("Ray", []), "us") == "not here"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234, "1,230"),
        (45678, "45,700"),
    ],
)
def test_numbers_have_about_three_digits(value, text):
    assert report.number(value) == text


def test_a_limit_that_is_missed_says_by_how_much():
    less = result(limits=Limits(1.5, 1.0))
    assert report.verdict(less, "first_step", 1.5) == "at most 1.5 times: **missed by 33 %**"
    assert report.verdict(less, "goal", 1.0) == "at most 1 times: no (2.0 times off)"
    more = result(values=(100.0,), peers=(250.0,), limits=Limits(0.5, 1.0, better="more"))
    assert report.verdict(more, "first_step", 0.5) == "at least 0.5 times: **missed by 20 %**"


def test_a_limit_that_holds_is_met():
    own = result(limits=Limits(4, 2, of="value"))
    assert report.verdict(own, "first_step", 4) == "at most 4 us: yes"
    assert own.meets("first_step") and not own.meets("goal")
    assert result().meets("first_step") is None


def test_a_line_of_the_table_has_every_column():
    cells = report.line(result(limits=Limits(3, 1), note="two instances")).split("|")[1:-1]
    assert [cell.strip() for cell in cells] == [
        "the call (two instances)",
        "3.00 us (2.00-4.00, 3 runs)",
        "bare 1.50 us (1.00-2.00, 3 runs)",
        "2.00",
        "at most 3 times: yes",
        "at most 1 times: no (2.0 times off)",
    ]


def test_there_is_no_ratio_to_a_peer_that_lost_nothing():
    assert result(peers=(0.0, 0.0, 0.0)).ratio is None
    assert "| - | - | - |" in report.line(result(peers=(0.0, 0.0, 0.0)))


def test_rows_measured_again_replace_the_old_ones_in_their_places():
    old = [result("a"), result("b"), result("b"), result("c")]
    new = [result("b", values=(9.0,)), result("d")]
    merged = report.merge(old, new)
    assert [each.row for each in merged] == ["a", "b", "c", "d"]
    assert merged[1].ours.values == [9.0]


def test_the_processors_table_adds_up_what_a_call_costs():
    own = result()
    own.ours.cpu_us = {"caller": 10.0, "agent": 20.0}
    text = report.tables(Data("2026-01-01", {"cores": "2"}, [own]))
    assert "| the call | Motes | caller 10.0, agent 20.0 | 30.0 |" in text
    assert "make bench-peers" in text
    own.row = "beside-call"
    assert "make bench-peers" not in report.tables(Data("2026-01-01", {"cores": "2"}, [own]))


def test_hand_written_notes_around_the_table_are_kept():
    page = f"# Performance\n\n{BEGIN}\nold\n{END}\n\n## Missed\nby hand\n"
    assert report.replace_between(page, "new") == f"# Performance\n\n{BEGIN}\nnew\n{END}\n\n## Missed\nby hand\n"


def test_a_page_without_the_markers_is_left_alone():
    with pytest.raises(ValueError, match="has no line"):
        report.replace_between("# Performance\n", "new")
