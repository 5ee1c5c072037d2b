"""`motes call`: call a function and print its result."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from motes.cli.amounts import DURATION
from motes.cli.session import with_cluster
from motes.errors import BadInput, NotFound, TooLarge

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.model.routes import Route


@click.command(short_help="Call a function.", context_settings={"ignore_unknown_options": True})
@click.argument("address", metavar="APP.FUNCTION")
@click.argument("words", nargs=-1, metavar="[JSON | TEXT | - | NAME=VALUE ...]")
@click.option("--json", is_flag=True, expose_value=False, help="Changes nothing: a result is JSON in any case.")
@click.option(
    "--timeout",
    "timeout_s",
    type=DURATION,
    help="How long to wait, as 5 or '500 ms'. Default: what the function declares.",
)
def command(address: str, words: tuple[str, ...], timeout_s: float | None) -> None:
    """Call a function and print its result as JSON.

    A function with one parameter takes one value; one with several takes NAME=VALUE for each, or one JSON object. A
    parameter that is a text takes what you type as it is, unless you type a JSON string ("..."). A bytes parameter
    likewise, and a JSON string for it holds base64. Where text is one of several possibilities, JSON is taken as JSON
    and the rest as text. Everything else is JSON. A value of - is read from standard input.

    What a generator gives is shown line by line, as it comes.

    When the function fails, its traceback is shown and the exit code is 6.

    \b
    Example:
      motes call hello.greet Ada
      motes call shop.add a=2 b=3
      motes call index.parse - < source.py
    """

    async def call(cluster: Cluster) -> None:
        from motes.cli.arguments import body_of, takes
        from motes.cli.table import plain_json
        from motes.client.cluster import split_address

        app, workload = split_address(address)
        route = await _route(cluster, app, workload)
        body = body_of(address, route, words, _read_stdin)
        try:
            # A stream's items are lines, shown as they come; anything else is one line.
            async for item in cluster.stream_bytes(app, workload, body, timeout_s):
                click.echo(plain_json(item))
        except BadInput as error:
            raise BadInput(f"{error.message}; it takes {takes(route)}", **error.detail) from None

    with_cluster(call)


async def _route(cluster: Cluster, app: str, workload: str) -> Route:
    route = (await cluster.routes(app)).workloads.get(workload)
    if route is None:
        raise NotFound(f"app {app!r} has no function {workload!r} (see `motes apps`)")
    if route.kind != "function":
        port = cluster.home.cluster()["http"].rpartition(":")[2]
        where = f"at http://{app}.localhost:{port}/" if port else "over HTTP, on its keeper's machine"
        raise BadInput(f"{app}.{workload} is a daemon, not a function; reach it {where}")
    return route


def _read_stdin() -> bytes:
    from motes.model.release import PAYLOAD_LIMIT_BYTES
    from motes.model.units import format_bytes

    data = sys.stdin.buffer.read(PAYLOAD_LIMIT_BYTES + 1)
    if len(data) > PAYLOAD_LIMIT_BYTES:
        limit = format_bytes(PAYLOAD_LIMIT_BYTES)
        raise TooLarge(f"the input is over {limit}, the most that one call carries", limit_bytes=PAYLOAD_LIMIT_BYTES)
    return data
