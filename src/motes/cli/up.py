"""`motes up`: start the cluster of this machine."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import click

from motes.errors import BadInput, Refused
from motes.home import Home

DEFAULT_PORT = 7423
DEFAULT_WEB_PORT = 7424
"""Of WebSockets; 443 where only that is let through."""
LONGEST_FILE = 2**20
_NOTHING_TO_LISTEN_FOR = (
    "with --nats other machines reach the NATS itself, at its URLs; the keeper has nothing to listen with: leave"
    " --listen and --listen-ws"
)


@click.command(short_help="Start the cluster of this machine.")
@click.option(
    "--http",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to serve HTTP; port 0 is any free port.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Let other machines join at this address, from now on at each start; `off` ends that. Port: 7423 if not said.",
)
@click.option(
    "--listen-ws",
    metavar="HOST:PORT",
    help="Let them join over WebSocket too, as through proxies; `off` ends that. Port: 7424 if not said.",
)
@click.option(
    "--nats",
    metavar="URL,...",
    help="Live in this NATS, which you run, from now on at each start; `off` ends that. Goes with --creds.",
)
@click.option("--creds", metavar="FILE", help="A signing key of the account there that is the cluster's own.")
@click.option("--nats-ca", metavar="FILE", help="The authority that vouches for it. Default: those of the system.")
@click.option(
    "--system-creds",
    metavar="FILE",
    help="A user of its system account, to see who comes and goes, and end who goes for good.",
)
@click.option("--foreground", is_flag=True, help="Stay, and end the cluster at Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: http, nats, home, pid, already.")
def command(
    http: str,
    listen: str | None,
    listen_ws: str | None,
    nats: str | None,
    creds: str | None,
    nats_ca: str | None,
    system_creds: str | None,
    foreground: bool,
    as_json: bool,
) -> int:
    """Start the cluster of this machine and return when it takes calls.

    Its state lies in $MOTES_HOME; what was deployed before runs again. When it runs already, this says so.

    \b
    Example:
      motes up
      motes up --http 127.0.0.1:0 --json
      motes up --nats tls://nats.example:4222 --creds motes.nk
    """
    from motes.supervisor.launch import END_WITH_PARENT, launch

    home = Home()
    if nats is not None:
        if listen is not None or listen_ws is not None:
            raise Refused(_NOTHING_TO_LISTEN_FOR)
        _live_in(home, nats, creds, nats_ca, system_creds)
    elif creds or nats_ca or system_creds:
        raise click.UsageError("--creds, --nats-ca and --system-creds go with --nats URL")
    if listen is not None:
        _listen(home, listen)
    if listen_ws is not None:
        _listen_web(home, listen_ws)
    launched = launch(home, http, END_WITH_PARENT if foreground else ())
    already = launched.supervisor is None
    # Before anything is said: whoever reads it may tell this process to end at once.
    stays = _pass_signals_on(launched.supervisor) if foreground and launched.supervisor else None
    if already:
        _refuse_another(home, launched.facts["http"])
    if as_json:
        click.echo(json.dumps({**launched.facts, "already": already}))
    else:
        click.echo(_told(home, launched.facts["http"], already))
    return stays.wait() if stays else 0


def _refuse_another(home: Home, runs_at: str) -> None:
    """Raises Refused where it runs, and not as was asked for; BadInput for what is no address at all."""
    import click.core

    from motes.supervisor.address import host_and_port

    context = click.get_current_context()
    if context.get_parameter_source("http") is not click.core.ParameterSource.COMMANDLINE:
        return
    wanted = str(context.params["http"])
    host, port = host_and_port(wanted)
    is_there = runs_at.removeprefix("http://") in (wanted, f"{host}:{port}")
    is_any = not port and runs_at.removeprefix("http://").rpartition(":")[0] == host
    if not (is_there or is_any or home.keeper_file.exists()):
        raise Refused(
            f"motes is up already and serves HTTP at {runs_at}; where it does is settled at its start (first: motes"
            f" down; then: motes up --http {wanted})"
        )


def _told(home: Home, http: str, already: bool) -> str:
    up = f"motes is up{' already' if already else ''}"
    paused = " (paused: this machine lends nothing until `motes resume`)" if home.paused_file.exists() else ""
    if not home.keeper_file.exists():
        return f"{up}: {http}{paused}"
    from motes.cli.lend import now
    from motes.cli.table import plain

    why = "" if paused else next(filter(None, (now(home, name)["away"] for name in sorted(home.offers()))), "")
    servers = home.keeper().servers
    if why:
        return plain(f"{up}, but does not lend to the cluster at {servers} now: {why}")
    return f"{up}: lends to the cluster at {servers}{paused}"


def _live_in(home: Home, url: str, creds: str | None, nats_ca: str | None, system_creds: str | None) -> None:
    from motes.grants import issuing
    from motes.supervisor import tenancy

    _check_may_change(home, "its NATS is the keeper's (there: motes up --nats)", "and its NATS is settled at its start")
    if home.listen() is not None:
        raise Refused(f"{_NOTHING_TO_LISTEN_FOR} (this home listens: motes up --listen off)")
    if url == "off":
        tenancy.end(home)
        return
    servers = tenancy.servers_in(url)
    if creds is None:
        raise BadInput(f"--creds FILE is missing, which holds a signing key of the account for Motes; {issuing.HOW}")
    authorities = None if nats_ca is None else _read("--nats-ca", nats_ca)
    system = None if system_creds is None else _read("--system-creds", system_creds)
    tenancy.begin(home, servers, _read("--creds", creds), authorities, system)


def _read(option: str, file: str) -> str:
    """The beginning of it, far longer than any of these is."""
    try:
        with Path(file).open(errors="replace") as stream:
            return stream.read(LONGEST_FILE)
    except OSError as error:
        raise BadInput(f"{option} {file} cannot be read: {error.strerror}") from None


def _listen(home: Home, text: str) -> None:
    from motes.supervisor import founding

    _check_may_listen(home)
    if text == "off":
        home.listen_file.unlink(missing_ok=True)
        return
    founding.listen(home, *parse_listen(text))


def _listen_web(home: Home, text: str) -> None:
    _check_may_listen(home)
    if home.listen() is None:
        raise Refused("other machines cannot reach this cluster at all; let them first: motes up --listen 0.0.0.0")
    home.set_listen(web=None if text == "off" else dict(zip(("host", "port"), parse_web(text), strict=True)))


def _check_may_listen(home: Home) -> None:
    _check_may_change(
        home, "it listens for nobody (on the keeper: motes up --listen)", "and where it listens is settled at its start"
    )
    if home.foreign() is not None:
        raise Refused(_NOTHING_TO_LISTEN_FOR)


def _check_may_change(home: Home, joined: str, runs: str) -> None:
    from motes.supervisor.launch import running

    home.refuse_joined(joined)
    if running(home) is not None:
        raise Refused(f"the cluster runs already, {runs} (first: motes down)")


def parse_web(text: str) -> tuple[str, int]:
    """The same of `--listen-ws`. Raises BadInput."""
    return parse_listen(text, DEFAULT_WEB_PORT)


def parse_listen(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """`HOST:PORT` or `HOST` as its two parts. Raises BadInput."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(default_port)
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not host or bare_ipv6 or not port.isdigit() or not 0 < int(port) <= 65535:
        raise BadInput(f"--listen {text!r} is no address; write it like 0.0.0.0:{DEFAULT_PORT} or [::]:{DEFAULT_PORT}")
    return host, int(port)


def _pass_signals_on(supervisor: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Whoever tells this process to end tells the supervisor."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.terminate())
    return supervisor
