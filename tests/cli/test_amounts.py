"""Options that take a duration or a size: what is none is wrong usage, for every command that has one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli.test_help import commands
from motes.cli.amounts import Amount

MOTES = str(Path(sys.executable).with_name("motes"))
BAD = ("2mo", "soon", "inf", "nan", "-5s", "1e3", "", "9" * 400)
OPTIONS = [
    (name, parameter)
    for name, command in commands()
    for parameter in command.params
    if isinstance(parameter, click.Option) and isinstance(parameter.type, Amount)
]
IDS = [f"{name} {option.opts[0]}" for name, option in OPTIONS]


def test_the_commands_that_take_a_duration_or_a_size_are_these() -> None:
    assert sorted(IDS) == [
        "call --timeout",
        "invite --expires",
        "keeper move --forward",
        "run --memory",
        "run --timeout",
        "run --tmp",
        "usage --since",
    ]


def test_no_other_option_takes_one_by_another_way() -> None:
    words = ("TIME", "SIZE", "S", "SECONDS", "BYTES")
    others = [
        f"{name} {each.opts[0]}"
        for name, command in commands()
        for each in command.params
        if each.metavar in words and not isinstance(each.type, Amount)
    ]
    assert others == []


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=IDS)
@pytest.mark.parametrize("text", BAD)
def test_what_is_no_amount_is_wrong_usage_and_names_the_option(name: str, option: click.Option, text: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        option.process_value(click.Context(click.Command(name)), text)
    assert option.opts[0] in refused.value.format_message()


@pytest.mark.parametrize("option", [option for _, option in OPTIONS if isinstance(option.default, str)])
def test_what_holds_when_nothing_is_said_is_an_amount(option: click.Option) -> None:
    value, _ = option.handle_parse_result(click.Context(click.Command("motes")), {}, [])
    assert value > 0


@pytest.mark.parametrize(
    "words",
    [
        ("invite", "--expires", "2mo"),
        ("keeper", "move", "far", "line", "--forward", "soon"),
        ("run", "--tmp", "9" * 400),
    ],
)
def test_the_program_says_so_in_one_line_whether_a_cluster_runs_or_not(tmp_path: Path, words: tuple[str, ...]) -> None:
    script = tmp_path / "script.py"
    script.write_text("")
    given = (*words, str(script)) if words[0] == "run" else words
    environment = {"MOTES_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([MOTES, *given], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == "", done
    assert done.stderr.splitlines()[-1].startswith(f"Error: Invalid value for '{words[-2]}': "), done.stderr
