"""Make another machine a host of this cluster, or a keeper, over ssh. Each step first looks whether it is done."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from motes import contexts
from motes.cli import far_scripts
from motes.cli.far import Failed, Far
from motes.errors import BadInput, NotFound, Refused, Unavailable
from motes.home import Home
from motes.model.names import is_name
from motes.model.naming import name_like

if TYPE_CHECKING:
    from motes.client.cluster import Cluster
    from motes.grants.creds import Creds

INVITE_S = 900.0
UP_TIMEOUT_S = 30.0
"""How long a host that has joined may take to be in the list of hosts."""
LOOK_S = 0.2
Say = Callable[[str, str], None]
"""Told each step and what came of it."""


class Machine(NamedTuple):
    """What was found there."""

    python: str
    version: str
    installed: str
    """The hash of the version that is installed, or nothing."""
    controller: str
    """The public key of the cluster's controller, where it has joined one; that is no other cluster's."""
    host: str
    """What it is called there, or nothing."""
    is_founded: bool
    """Whether it is a keeper itself."""
    listens: bool


def look(far: Far) -> Machine:
    """Raises Refused where Motes cannot be installed."""
    found = far.run(far_scripts.LOOK)
    if found.get("system") != "Linux":
        raise Refused(
            f"{far.destination} runs {found.get('system', 'an unknown system')}; hosts and keepers need Linux"
        )
    if "python" not in found and "installed" not in found:
        raise Refused(f"{far.destination} has no Python 3.11 or later; install it there (as: apt install python3)")
    if "venv" not in found and "installed" not in found:
        raise Refused(f"the Python of {far.destination} has no venv; install it there (as: apt install python3-venv)")
    hosts = _json(found.get("hosts"))
    return Machine(
        found.get("python", ""),
        found.get("version", ""),
        found.get("installed", ""),
        found.get("controller", "none") if "joined" in found else "",
        next(iter(hosts), ""),
        "founded" in found,
        "listens" in found,
    )


def install(far: Far, machine: Machine, say: Say) -> None:
    """This very version, in a virtual environment of its own."""
    from motes.cli.wheel import this_version

    say("Python", f"{machine.version or 'its own'}{f', {machine.python}' if machine.python else ''}")
    wheel = this_version()
    if machine.installed == wheel.hash:
        say("motes", "this version is there already")
        return
    say("motes", "installing this version, with what it needs from the package index ...")
    try:
        far.run(far_scripts.install(machine.python, wheel))
    except Failed as error:
        raise Unavailable(f"{error.message} (nothing else was done there)", log=error.said) from None
    say("motes", "installed in ~/.local/lib/motes")


def add_host(far: Far, name: str | None, lend: str, say: Say) -> dict[str, Any]:
    """It joins the cluster of the context in force, and comes back with its machine: `{"name", "service"}`."""
    from motes.cli.invite import way_in
    from motes.grants.keys import load_public

    # First of all: without it nothing there is of use.
    addresses, certificate = way_in(Home())
    own = load_public(Home().public_key("controller")).hex()
    machine = look(far)
    if machine.is_founded:
        raise Refused(f"{far.destination} is the keeper of a cluster of its own")
    if machine.controller not in ("", own):
        raise Refused(f"{far.destination} has joined another cluster (there: motes leave)")
    if machine.controller and name not in (None, machine.host):
        raise Refused(f"{far.destination} is host {machine.host!r} already; to change its name (there: motes leave)")
    install(far, machine, say)
    if machine.controller:
        name = machine.host
        say("join", f"it is host {name!r} already")
    else:
        name = _join(far, addresses, certificate, name, lend)
        say("join", f"it is host {name!r}")
    service = _have_it_started(far, "127.0.0.1:0", say)
    _wait(name)
    say("host", f"{name} is up")
    return {"name": name, "service": service}


def add_keeper(far: Far, name: str, listen: str, http: str, say: Say) -> dict[str, Any]:
    """It becomes the keeper of a cluster of its own, named here by a context: `{"name", "service", "where"}`."""
    context = contexts.path_of(name)
    machine = look(far)
    if machine.controller:
        raise Refused(f"{far.destination} is a host of another cluster (there: motes leave)")
    install(far, machine, say)
    if machine.is_founded and machine.listens:
        say("keeper", "it is one already")
    else:
        far.run(far_scripts.found(listen, http))
        say("keeper", f"it listens at {listen}")
    service = _have_it_started(far, http, say)
    if context.exists():
        say("context", f"{name!r} is there already")
    else:
        from motes.cli.context import add_client

        add_client(name, _key_of(far))
        say("context", f"{name!r}: motes --context {name} host ls")
    return {"name": name, "service": service, "where": Home(contexts.home_of(name)).keeper().servers}


def _join(far: Far, addresses: tuple[str, ...], certificate: bytes, name: str | None, lend: str) -> str:
    from motes.cli.invite import invited
    from motes.cli.session import with_cluster

    invite = with_cluster(lambda cluster: invited(cluster, addresses, certificate, INVITE_S, 1))
    told = _json(far.run(far_scripts.join(invite.line(), name, lend)).get("joined"))
    if not is_name(str(told.get("name"))):
        raise Unavailable(f"{far.destination} does not say as what it has joined (see: motes host ls)")
    return str(told["name"])


def _have_it_started(far: Far, http: str, say: Say) -> bool:
    """By systemd where there is one, else by hand: whether it starts with its machine."""
    told = far.run(far_scripts.start(http))
    if "refused" in told:
        say("service", f"not installed: {told['refused'].removeprefix('motes: ')}")
        return False
    service = _json(told.get("service"))
    lingers = "starts with the machine" if service.get("linger") else "starts when its user logs in"
    say("service", f"{service.get('unit')} {lingers}")
    return True


def _wait(name: str) -> None:
    """Until the keeper lists it. Raises Unavailable."""
    from motes.cli.session import with_cluster

    async def wait(cluster: Cluster) -> None:
        deadline = time.monotonic() + UP_TIMEOUT_S
        while name not in {each.name for each in await cluster.hosts() if each.is_there and each.state != "silent"}:
            if time.monotonic() > deadline:
                raise Unavailable(f"host {name!r} has joined and is not heard (there: motes up, and see its logs)")
            await asyncio.sleep(LOOK_S)

    with_cluster(wait)


def _key_of(far: Far) -> Creds:
    """The owner's key of the cluster there, with the name by which ssh knows the machine as one more address."""
    from motes.grants import creds
    from motes.model.invite import is_address

    try:
        found = creds.parse(base64.b64decode(far.run(far_scripts.KEY)["creds"]).decode())
    except (KeyError, ValueError) as error:
        raise NotFound(f"{far.destination} gives no key of its owner ({error})") from None
    if not found.addresses:
        raise Refused(f"the keeper on {far.destination} does not listen (there: motes down, motes up --listen 0.0.0.0)")
    address = f"{machine_of(far.destination)}:{found.addresses[0].rpartition(':')[2]}"
    known = (address,) if is_address(address) and address not in found.addresses else ()
    return found._replace(addresses=(*found.addresses, *known))


def machine_of(destination: str) -> str:
    """The machine's name in what ssh takes: `user@machine`, `ssh://user@machine:port`, or a name in its settings."""
    return destination.removeprefix("ssh://").rpartition("@")[2].partition("/")[0].partition(":")[0]


def name_of(destination: str) -> str:
    """What a context is called for that machine."""
    return name_like(machine_of(destination).partition(".")[0]) or "keeper"


def _json(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        raise BadInput(f"what stands there cannot be read: {str(text)[:80]!r}") from None
    return found if isinstance(found, dict) else {}
