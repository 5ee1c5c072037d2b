"""Tables for people."""

from __future__ import annotations

import pytest

from motes.cli.events import line_of
from motes.cli.table import age, memory, plain, print_json, print_table, table_lines
from motes.model.instance import Event
from motes.model.keeper import Fetching


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (-5, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")]
)
def test_an_age_has_one_unit(seconds: float, shown: str) -> None:
    assert age(1000.0, 1000.0 + seconds) == shown


@pytest.mark.parametrize("sent", ["\x1b[2J", "\x1b]52;c;eA==\x07", "\x9b31m", "\rmotes: all is well", "\x08", "\0"])
def test_what_an_app_wrote_gives_a_terminal_no_orders(sent: str) -> None:
    assert plain(sent).isprintable()
    assert plain("a\té\n") == "a\té\n" and plain("\x1b") == "\\x1b"


def test_an_event_is_one_line_whatever_it_quotes() -> None:
    event = Event(0.0, "instance.end", "crashed", "h", "a", "f", detail="x\n1970-01-01 00:00:00 app.removed \x1b[2J")
    assert line_of(event).splitlines() == [line_of(event)] and "\x1b" not in line_of(event)


def test_where_only_today_is_looked_at_an_event_is_short() -> None:
    event = Event(0.0, "instance.end", "idle", "h", "a", "f", pid=7)
    assert line_of(event, brief=True)[8:] == " end          idle         a.f at h pid 7"
    assert line_of(event)[19:] == " instance.end   idle         a.f at h pid 7"


def test_memory_that_was_not_measured_is_a_dash() -> None:
    assert (memory(0), memory(2**20)) == ("-", "1 MiB")


def test_columns_line_up_and_numbers_stand_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("app", "calls"), [("a", "1"), ("hello", "1000")], "nothing")
    assert capsys.readouterr().out == "APP    CALLS\na          1\nhello   1000\n"


def test_a_narrow_terminal_cuts_the_longest_names_and_no_number() -> None:
    columns = ("instance", "host", "pid", "release")
    rows = [
        ("a-long-app.with-a-long-function", "a-host-with-a-name", "4194304", "0123456"),
        ("a.f", "b", "1", "0123456"),
    ]
    lines = table_lines(columns, rows, 50)
    assert lines == [
        "INSTANCE         HOST                 PID  RELEASE",
        "a-long-app.wit…  a-host-with-a-…  4194304  0123456",
        "a.f              b                      1  0123456",
    ]
    assert max(map(len, table_lines(columns, rows, 80))) <= 80
    wide = [("a-host-with-a-name", "1023 MiB of 1024 GiB", "up")]
    assert table_lines(("host", "memory", "state"), wide, 40)[1] == "a-host-wit…  1023 MiB of 1024 GiB  up"
    assert "4194304  0123456" in table_lines(columns, rows, 10)[1], "what cannot be cut makes the line longer"


def test_a_cell_is_on_one_line_and_gives_a_terminal_no_orders() -> None:
    assert table_lines(("host", "state"), [("a", "3.11\n\x1b[2J")], None) == ["HOST  STATE", "a     3.11\\n\\x1b[2J"]


def test_nothing_is_cut_short_where_it_goes_to_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("app",), [("x" * 300,)], "nothing")
    assert "x" * 300 in capsys.readouterr().out


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("app",), [("[red]x[/red]",)], "nothing")
    assert "[red]x[/red]" in capsys.readouterr().out


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("app",), [], "no app is deployed")
    assert capsys.readouterr().out == "no app is deployed\n"


def test_json_is_a_list_of_objects(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([Fetching("a", "hash", 1, 3)])
    assert capsys.readouterr().out == '[{"host":"a","archive":"hash","done_bytes":1,"total_bytes":3}]\n'
