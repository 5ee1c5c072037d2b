"""The PATH of `deploy` and `dev`."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from motes.cli.target import target_of, ways_in
from motes.model.release import Daemon, Function, Manifest


def test_a_path_is_a_file_or_a_folder() -> None:
    target = target_of("some/hello.py", None, None, None)
    assert (target.path, target.entries, target.command) == (Path("some/hello.py"), (), ())


def test_a_callable_is_named_after_a_colon() -> None:
    target = target_of("some/plain.py:greet", "hello", None, None)
    assert (target.path, target.entries, target.name) == (Path("some/plain.py"), ("plain.py:greet",), "hello")


def test_a_colon_in_the_name_of_a_file_that_is_there_is_just_that(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert target_of(str(folder), None, None, None).path == folder


def test_a_command_is_split_as_a_shell_does() -> None:
    target = target_of("bot", None, "python bot.py --name 'a b'", 8000)
    assert (target.command, target.port) == (("python", "bot.py", "--name", "a b"), 8000)


@pytest.mark.parametrize(("cmd", "port"), [(None, 8000), ("", None), ("  ", None), ("python 'bot.py", None)])
def test_a_command_that_is_none_is_wrong_usage(cmd: str | None, port: int | None) -> None:
    with pytest.raises(click.UsageError):
        target_of("bot", None, cmd, port)


def test_every_workload_says_how_it_is_reached() -> None:
    workloads = (Function("greet", "hello", "greet"), Daemon("web", ("a", "b c"), 80), Daemon("bot", ("bot",)))
    greet, web, bot = ways_in(Manifest("hello", workloads), "http://127.0.0.1:8080")
    assert greet["url"] == "http://127.0.0.1:8080/hello/greet"
    assert web == {
        "name": "web",
        "kind": "daemon",
        "command": "a 'b c'",
        "url": "http://hello.localhost:8080/",
        "curl": "curl http://hello.localhost:8080/",
    }
    assert bot == {"name": "bot", "kind": "daemon", "command": "bot"}
