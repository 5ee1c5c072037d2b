"""Help: every command has some, with an example, and asking for it imports little."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import click
import pytest

from motes.cli.main import COMMANDS, cli
from motes.errors import MotesError
from motes.model.instance import EndReason, StartReason

HEAVY = ("asyncio", "cryptography", "msgspec", "nats", "rich", "uvicorn", "uvloop")


def commands() -> list[tuple[str, click.Command]]:
    """Every command and subcommand, by what a user types."""
    context = click.Context(cli)
    found = [(name, cli.get_command(context, name)) for name in COMMANDS]
    flat = [(name, command) for name, command in found if command is not None]
    for name, command in list(flat):
        if isinstance(command, click.Group):
            flat += [(f"{name} {sub}", command.commands[sub]) for sub in command.commands]
    return flat


def test_every_command_that_is_listed_is_there() -> None:
    assert cli.list_commands(click.Context(cli)) == list(COMMANDS)


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_has_help_with_an_example(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=name))
    assert "Example:" in text
    assert f"motes {name}" in text.partition("Example:")[2]


def test_the_exit_codes_are_told() -> None:
    text = cli.get_help(click.Context(cli))
    kinds = {kind.exit_code for kind in tree(MotesError)} | {0, 2, 130}
    assert all(re.search(rf"\b{code} [a-z]", text.partition("Exit codes:")[2]) for code in kinds), kinds


def test_the_reasons_of_events_are_all_told() -> None:
    events = cli.get_command(click.Context(cli), "events")
    assert events is not None and events.help is not None
    told = re.findall(r"one of\s([a-z_,\s]+)", events.help)
    assert [re.findall(r"\w+", each) for each in told] == [list(StartReason), list(EndReason)]


def tree(kind: type[MotesError]) -> list[type[MotesError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in tree(child))]


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_option_says_what_it_does(name: str, command: click.Command) -> None:
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


@pytest.mark.parametrize("words", [["--help"], ["deploy", "--help"], ["call", "--help"], ["ps", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
from motes.cli.main import cli
cli.main({words!r}, standalone_mode=False)
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n"


def test_nothing_of_opentelemetry_is_imported_unless_it_is_configured() -> None:
    program = """
import asyncio, sys
import motes.agent.service, motes.gateway.functions
from motes.router.dispatcher import Dispatcher
Dispatcher()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
