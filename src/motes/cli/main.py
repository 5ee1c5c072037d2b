"""The `motes` command: subcommands imported when they are used, and errors said in one line.

Exit codes: 0 done, 1 failed, 2 wrong usage, and each family of errors its own (errors.py, EXIT_CODES below).
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec

import click

from motes.cli.linux import refuse_elsewhere
from motes.contexts import CONTEXT_VARIABLE, home_of
from motes.errors import MotesError

COMMANDS = {
    "up": "Start the cluster of this machine.",
    "down": "Stop it.",
    "dev": "Run a file or folder in a private cluster, and again whenever it changes.",
    "run": "Run a script once, in a space, without a cluster.",
    "deploy": "Deploy a file or folder as an app.",
    "call": "Call a function.",
    "apps": "List the apps.",
    "ps": "List the running instances.",
    "top": "Show live what runs, how fast, and what happens.",
    "events": "Show what started and ended, and why.",
    "logs": "Show what an app has printed.",
    "usage": "Show what ran where, whose, and what it used.",
    "rm": "Remove an app.",
    "creds": "Make, list and withdraw callers' keys, for other machines and other languages.",
    "context": "Choose the cluster that commands act on, also on other machines.",
    "host": "List the hosts, start one here, add, drain and remove others.",
    "lend": "Say or change what this machine lends, when, and to which apps.",
    "pause": "Lend nothing of this machine until `motes resume`.",
    "resume": "Lend again.",
    "invite": "Let another machine join this cluster.",
    "join": "Join the cluster that made an invite.",
    "service": "Have the machine's start bring this up, by systemd.",
    "leave": "Take this machine out of the cluster that it joined.",
    "keeper": "Have another machine be the keeper.",
    "doctor": "Say what this machine can do, and how to mend what it cannot.",
    "demo": "Show it all at work.",
}
"""Every command with its one line of help, so that `motes --help` imports none of them."""

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad input or refused, 4 no such thing, 5 timed out, "
    "6 the app failed, 7 a host failed, 8 the cluster failed or does not run, 130 interrupted."
)
INTERRUPTED = 130
_BROKEN_PIPE = 141


class LazyGroup(click.Group):
    """Commands by name, each in its own module `motes.cli.<name>` as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if find_spec(f"motes.cli.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        refuse_elsewhere(cmd_name)
        found = importlib.import_module(f"motes.cli.{cmd_name}").command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--context",
    metavar="NAME",
    expose_value=False,
    callback=lambda _, __, name: _act_on(name),
    help="The cluster to act on, this once; see motes context.",
)
def cli() -> None:
    """The cloud for processes: Python functions and daemons in tiny process spaces.

    \b
    Example:
      motes up
      motes deploy hello.py
      motes call hello.greet Ada
    """


def _act_on(context: str | None) -> None:
    if context is not None:
        home_of(context)
        # For whatever this command starts as well.
        os.environ[CONTEXT_VARIABLE] = context


def main() -> None:
    """Run the command line; the one place where an error becomes a line and an exit code."""
    sys.exit(_run())


def _run() -> int:
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MotesError as error:
        say(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def say(error: MotesError) -> None:
    """The error in one line, after the app's own traceback or the log that shows why, if there is one."""
    from motes.cli.table import plain

    for shown in ("traceback", "log"):
        if text := str(error.detail.get(shown) or "").rstrip():
            click.echo(plain(text), err=True)
    click.echo(plain(f"motes: {error.message}"), err=True)


if __name__ == "__main__":
    main()
