"""What the pages say is in the code: every path, name and command in them exists."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

import motes
from motes import errors
from motes.cli.creds import CredsGroup
from motes.cli.main import cli
from motes.client.cluster import Cluster

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src" / "motes"
PAGES = ["README.md", *(f"docs/{page.name}" for page in (REPOSITORY / "docs").glob("*.md"))]
OF_THE_READER = {"hello.py", "job.py", "bot.py", "/tmp/", "app.py", "words.py", "shop.py", "slow.py"}
OF_THE_READER |= {"all_of_them.py", "cart.py", "square.py", "sofa.py"}
"""Files in examples."""
OF_OTHERS = {"", "LD_LIBRARY_PATH", "MOTES_READY_FD", "MOTES_ORDERS_FD"}
"""Variables whose names a user gives, that a system sets, and that one process of Motes hands to another."""


def text(page: str) -> str:
    return (REPOSITORY / page).read_text()


def in_code(page: str) -> list[str]:
    """What stands between backticks, and what is set in as code."""
    prose, blocks = [], []
    for line in text(page).splitlines():
        (blocks if line.startswith("    ") else prose).append(line)
    return [*re.findall(r"`([^`]+)`", "\n".join(prose)), *blocks]


def found(path: str) -> Path | None:
    """The file or folder of that name: from the repository's or the package's root, or in one of its parts."""
    parts = () if "/" in path.rstrip("/") else (*SOURCE.glob(f"*/{path}"), *SOURCE.glob(f"*/core/{path}"))
    return next((each for each in (REPOSITORY / path, SOURCE / path, *parts) if each.exists()), None)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    named = {
        path for code in in_code(page) for path in re.findall(r"(?<![\w./<>-])([a-z_/]+(?:\.py|/))(?![\w<$])", code)
    }
    assert [path for path in named if found(path) is None and path not in OF_THE_READER] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", text(page))
    assert [link for link in links if not (REPOSITORY / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_function_that_a_page_names_is_in_its_file(page: str) -> None:
    for path, name in re.findall(r"`([a-z_/]+\.py):(\w+)`", text(page)):
        file = found(path)
        assert file is not None and re.search(rf"\bdef {name}\(", file.read_text()), f"{path}:{name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_exists(page: str) -> None:
    assert [(line, why) for line in command_lines(page) if (why := unknown_in(words_of(line)))] == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("motes frobnicate", "no command frobnicate"),
        ("motes host frobnicate", "no command frobnicate"),
        ("motes host drain --frobnicate NAME", "no option --frobnicate"),
        ("motes --frobnicate ps", "no option --frobnicate"),
        ("motes deploy app.py --place own -x", "no option -x"),
        ("motes run --memory 1GiB script.py --frobnicate", ""),
        ("motes call app.f --timeout=5 -1", ""),
        ("motes host start --name b --lend cpus=2 ...", ""),
        ("motes creds --owner", ""),
        ("motes up [--listen 0.0.0.0]", ""),
    ],
)
def test_a_command_that_is_none_is_seen(line: str, why: str) -> None:
    assert unknown_in(words_of(line)) == why


def command_lines(page: str) -> list[str]:
    """What is typed on a page, from `motes` on, to the end of that command."""
    lines = [line for code in in_code(page) for line in code.splitlines()]
    found = [re.findall(r"(?:^|\$ |; |&& |\| )(motes [^;|&>#`]+)", line.strip()) for line in lines]
    return [each.strip() for line in found for each in line]


def words_of(line: str) -> list[str]:
    """As a shell takes them apart; brackets only say what may be left out."""
    bare = re.sub(r"[\[\]]", " ", re.split(r"   |\.\.\. ", line)[0])
    try:
        return shlex.split(bare)[1:]
    except ValueError:
        return bare.split()[1:]


def unknown_in(words: list[str]) -> str:
    """Which command or option of `motes WORDS` there is not; empty where there are all."""
    command: click.Command = cli
    waiting = iter(words)
    for word in waiting:
        if isinstance(command, CredsGroup) and word not in command.commands:
            command = command.commands["make"]
        if word.startswith("-") and len(word) > 1:
            name = word.partition("=")[0]
            option = next((each for each in command.params if name in (*each.opts, *each.secondary_opts)), None)
            if option is None:
                if name == "--help" or re.fullmatch(r"-\d.*|--", name):
                    continue
                return f"no option {name}"
            if "=" not in word and isinstance(option, click.Option) and not option.is_flag:
                next(waiting, None)
        elif isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", word):
            found = command.get_command(click.Context(command), word)
            if found is None:
                return f"no command {word}"
            command = found
        elif isinstance(command, click.Group) or not command.context_settings.get("allow_interspersed_args", True):
            return ""
    return ""


def test_every_part_of_the_package_is_on_the_architecture_page() -> None:
    parts = text("docs/ARCHITECTURE.md").partition("## The parts")[2].partition("\n## ")[0]
    packages = {f"{each.parent.name}/" for each in SOURCE.glob("*/__init__.py")}
    modules = {each.name for each in SOURCE.glob("[a-z]*.py")}
    assert packages | modules <= set(re.findall(r"\b[a-z]+(?:/|\.py)", parts))


def test_the_page_of_errors_has_each_one_as_it_is() -> None:
    rows = [
        [word.strip(" `") for word in line.split("|")[1:5]]
        for line in text("docs/ERRORS.md").splitlines()
        if "| `" in line
    ]
    leaves = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MotesError)]
    leaves = [kind for kind in leaves if not kind.__subclasses__()]
    assert rows == [[kind.__name__, kind.code, str(kind.http_status), str(kind.exit_code)] for kind in leaves]


def test_the_tree_of_errors_has_each_one_where_it_belongs() -> None:
    drawn: list[tuple[int, str]] = [
        (line.index(name), name)
        for line in (errors.__doc__ or "").splitlines()
        for name in re.findall(r"^    (?:[│ ]* *[├└]── )?([A-Z]\w+)(?:  |$)", line)
    ]

    def of(kind: type[errors.MotesError], indent: int) -> Iterator[tuple[int, str]]:
        yield indent, kind.__name__
        for child in kind.__subclasses__():
            yield from of(child, indent + 4)

    assert drawn == list(of(errors.MotesError, 4))


def test_the_page_of_options_has_each_one_with_its_default() -> None:
    page = text("docs/OPTIONS.md")
    decorator = page.partition("## `@function`")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", decorator, re.MULTILINE))
    declared = inspect.signature(motes.function).parameters
    expected = {name: each.default for name, each in declared.items() if each.kind is each.KEYWORD_ONLY}
    assert {name: ast.literal_eval(default) for name, default in rows.items()} == expected


def test_the_page_of_options_has_every_method_of_a_cluster_as_it_is() -> None:
    table = text("docs/OPTIONS.md").partition("## A cluster in a program")[2].partition("\n## ")[0]
    named = re.findall(r"`([Cc]luster\.\w+.*?|connect\(.*?)`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE)))
    public = {name: each for name, each in vars(Cluster).items() if not name.startswith("_")}
    assert sorted(named) == sorted([f"connect{_parameters(motes.connect)}", *map(_in_short, public, public.values())])


def _in_short(name: str, member: object) -> str:
    if isinstance(member, property):
        return f"cluster.{name}"
    if isinstance(member, classmethod):
        return f"Cluster.{name}{_parameters(getattr(Cluster, name))}"
    return f"cluster.{name}{_parameters(functools.partial(getattr(Cluster, name), None))}"


def _parameters(function: Callable[..., object]) -> str:
    found = [str(each.replace(annotation=each.empty)) for each in inspect.signature(function).parameters.values()]
    return f"({', '.join(found)})"


def test_the_page_of_options_has_every_variable_that_is_read() -> None:
    table = text("docs/OPTIONS.md").partition("## Environment")[2].partition("\n## ")[0]
    outside = [file.read_text() for file in SOURCE.rglob("*.py") if "guest" not in file.parts]
    reads = r"os\.environ(?:\.get\(|\.pop\(|\[)(\w+|\"\w+\")|(\"\w+\") in os\.environ"
    read = {first or second for code in outside for first, second in re.findall(reads, code)}
    constants = dict(pair for code in outside for pair in re.findall(r'^([A-Z_]+) = "(\w+)"$', code, re.MULTILINE))
    variables = {each.strip('"') if '"' in each else constants.get(each, "") for each in read}
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == {
        each for each in variables if each not in OF_OTHERS and not each.startswith("OTEL_")
    }


def test_the_page_of_options_has_every_option_of_every_command() -> None:
    table = text("docs/OPTIONS.md").partition("## Commands")[2].partition("\n## ")[0]
    named: dict[str, set[str]] = {}
    commands: list[str] = []
    for first, options in re.findall(r"^\| (.*?) ?\| (`-.*?) \|", table, re.MULTILINE):
        commands = re.findall(r"`(.*?)`", first) or commands
        for command in commands:
            named.setdefault(command, set()).update(re.findall(r"`(-.*?)`", options))
    assert named == dict(_options_of("", cli))


def _options_of(name: str, command: click.Command) -> Iterator[tuple[str, set[str]]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None
            yield from _options_of(f"{name} {each}".strip(), found)
        return
    options = [each for each in command.params if isinstance(each, click.Option)]
    if options:
        yield name, {text for each in options for text in (*each.opts, *each.secondary_opts)}
