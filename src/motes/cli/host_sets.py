"""`motes host show`, `name`, `unname`: what one host is, and in which sets the cluster's owner puts it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from motes.errors import NotFound
from motes.model.units import format_bytes

if TYPE_CHECKING:
    from motes.model.host import HostStatus


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print an object, as `motes host ls --json` does for each.")
def show(name: str, as_json: bool) -> None:
    """Show one host: what it is by its own word and by yours, for `place=`, and what it lends.

    \b
    Example:
      motes host show laptop
    """
    from motes.cli.session import with_cluster
    from motes.cli.table import plain, print_json

    hosts = with_cluster(lambda cluster: cluster.hosts())
    found = next((host for host in hosts if host.name == name), None)
    if found is None:
        there = ", ".join(host.name for host in hosts) or "none"
        raise NotFound(f"no host {name!r}; there are: {there}")
    if as_json:
        print_json(found)
        return
    for what, text in _lines(found):
        click.echo(f"{what:<10} {plain(text)}")


def _lines(host: HostStatus) -> list[tuple[str, str]]:
    if not host.is_there:
        from motes.cli.host import absent

        return [("host", f"{host.name}, {absent(host)}"), *_by_your_word(host)]
    used, lends = host.used, host.lends
    memory = f"{format_bytes(used.get('memory_bytes', 0))} of {format_bytes(lends.memory_bytes)}"
    return [
        ("host", f"{host.name}, {host.state}"),
        *_by_your_word(host),
        ("labels", ", ".join(lends.labels) or "-"),
        ("machine", lends.machine or "-"),
        ("processor", host.architecture or "-"),
        ("python", host.python),
        ("motes", host.version or "-"),
        ("serves", ", ".join(lends.serve) or "all apps of the cluster's owner"),
        ("lends", f"{lends.cpus:g} cpus, {memory} memory, {host.spaces} of {lends.spaces} spaces"),
    ]


def _by_your_word(host: HostStatus) -> list[tuple[str, str]]:
    return [
        ("own", "yes" if host.is_own else f"no: it joined (motes host name own {host.name} makes it so)"),
        ("sets", ", ".join(host.sets) or "-"),
    ]


def _set_command(verb: str, is_in: bool) -> click.Command:
    @click.argument("name_of_set", metavar="SET")
    @click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
    @click.option("--json", "as_json", is_flag=True, help="Print an object: set, hosts.")
    def run(name_of_set: str, hosts: tuple[str, ...], as_json: bool) -> None:
        from motes.cli.session import with_cluster
        from motes.model.keeper import NameHosts

        wanted = NameHosts(name_of_set, list(hosts), is_in)
        with_cluster(lambda cluster: cluster.ask("host-name", wanted, bool))
        if as_json:
            click.echo(json.dumps({"set": name_of_set, "hosts": hosts}))
        else:
            click.echo(f"{', '.join(hosts)}: {'in' if is_in else 'no more in'} set {name_of_set}")

    return click.command(verb, help=_HELP[verb])(run)


_HELP = {
    "name": """Put hosts in the set SET, for place="named:SET"; in the set `own` they are your own.

    No host can do so itself. One that leaves the cluster leaves its sets.

    \b
    Example:
      motes host name lab nas laptop
      motes host name own laptop
    """,
    "unname": """Take hosts out of the set SET; what may run only there leaves them at once.

    \b
    Example:
      motes host unname lab laptop
    """,
}
name = _set_command("name", is_in=True)
unname = _set_command("unname", is_in=False)
