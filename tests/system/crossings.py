"""What a crossing is: something that a user of the cluster must not be able to do, with what stands in its way.

The attack is carried out by a real user at a real cluster. Whoever founds a cluster holds the key of its account, and
so may a test: with it a wall is taken away by issuing the attacker a token with a wider role, or by handing over a key.
Each wall has to hold alone, and without any the attack must succeed, so that no attack is written that cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from motes.bus.connection import Connection, Message
from motes.client.cluster import Cluster
from motes.grants import jwt, roles
from motes.grants.keys import Key, load_or_create
from motes.grants.roles import Role
from motes.model.host import HostReport, Offer
from motes.model.names import HOST_PREFIX
from system.people import People
from system.running import RunningCluster


class Rights(NamedTuple):
    """What an attacker has."""

    role: Role
    keys: frozenset[str] = frozenset()
    """Secret keys of others that it holds, by their name in the home."""
    knows: frozenset[str] = frozenset()
    """What else it has come to know, in the words of the attack."""


class Wall(NamedTuple):
    """What stands in the way, in words, and the same rights without it."""

    what: str
    without: Callable[[Rights], Rights]


class Scene:
    """A cluster in the middle of an attack: the attacker's and other people's connections, closed at its end."""

    def __init__(self, cluster: RunningCluster, people: People, rights: Rights) -> None:
        self.cluster = cluster
        self.people = people
        self.rights = rights
        self._owner: Cluster | None = None

    async def attacker(self) -> Connection:
        """A connection of the attacker's user, with the rights that it has."""
        return await self.join(self.rights.role)

    async def local(self) -> Connection:
        """A second connection in the name of the honest host."""
        return await self.join(roles.host("local"))

    async def state(self, host: str) -> str:
        """As `motes host ls` says; what was sent to the controller before is behind it then."""
        return {each.name: each.state for each in await (await self.owner()).hosts()}.get(host, "gone")

    async def until_state(self, host: str, wanted: str) -> None:
        while await self.state(host) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def join(self, role: Role) -> Connection:
        """A connection of a new user, as the account's key lets it be made."""
        return await self.people.connect(role.user, jwt.credentials(self.key("account"), role))

    async def keeper(self) -> Connection:
        """What the controller connects as: it hears and may say everything."""
        return await self.people.connect("keeper")

    async def owner(self) -> Cluster:
        """The machine's owner, who sees how things are."""
        self._owner = self._owner or await self.people.program("local")
        return self._owner

    def key(self, name: str) -> Key:
        """A key of the cluster's home."""
        return load_or_create(self.cluster.home.key(name))

    def key_of_attacker(self, wanted: str) -> Key:
        """The key of that name if the attacker holds it, else one that it made itself."""
        return self.key(wanted) if wanted in self.rights.keys else Key.generate()


Attack = Callable[[Scene], Awaitable[bool]]
"""Carries it out, and says whether it succeeded."""


class Crossing(NamedTuple):
    """`who` must not be able to do `does`."""

    who: Role
    does: str
    attack: Attack
    walls: tuple[Wall, ...]

    def __str__(self) -> str:
        return f"{self.who.user} {self.does}".replace(" ", "-")

    def without(self, *kept: Wall) -> Rights:
        """The attacker's rights where only these walls stand."""
        rights = Rights(self.who)
        for wall in self.walls:
            rights = rights if wall in kept else wall.without(rights)
        return rights


# From here on: walls.


def may_not_publish(*subjects: str) -> Wall:
    def without(rights: Rights) -> Rights:
        return rights._replace(role=rights.role._replace(publish=(*rights.role.publish, *subjects)))

    return Wall(f"may not publish to {', '.join(subjects)}", without)


def may_not_hear(*subjects: str) -> Wall:
    def without(rights: Rights) -> Rights:
        return rights._replace(role=rights.role._replace(subscribe=(*rights.role.subscribe, *subjects)))

    return Wall(f"may not hear {', '.join(subjects)}", without)


def may_publish_only(bytes_: int) -> Wall:
    return Wall(
        f"may publish {bytes_} bytes",
        lambda rights: rights._replace(role=rights.role._replace(payload_bytes=roles.NO_LIMIT)),
    )


def may_hear_only(subscriptions: int) -> Wall:
    return Wall(
        f"may have {subscriptions} subscriptions",
        lambda rights: rights._replace(role=rights.role._replace(subscriptions=roles.NO_LIMIT)),
    )


def has_no_key(name: str) -> Wall:
    return Wall(f"has not the {name}'s key", lambda rights: rights._replace(keys=rights.keys | {name}))


def does_not(what: str) -> Wall:
    """`what` is in the words of the attack, which asks `scene.rights.knows` for it."""
    return Wall(f"does not {what}", lambda rights: rights._replace(knows=rights.knows | {what}))


def is_not(role: Role) -> Wall:
    """For what a user is asked by its name: nothing but being that user would help."""
    return Wall(f"is not {role.user}", lambda rights: rights._replace(role=role))


# From here on: what many attacks look for.


class Ear:
    """Hears a subject, and says whether something came."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.heard: list[Message] = []

    @classmethod
    async def at(cls, connection: Connection, subject: str, queue: str = "") -> Ear:
        ear = cls(connection)
        await connection.subscribe(subject, ear.heard.append, queue)
        return ear

    async def hears_of(self, *senders: Connection) -> bool:
        """Whether anything has come of all that these have sent by now."""
        for each in (*senders, self._connection):
            await each.flush()
        return bool(self.heard)


def sample(pattern: str) -> str:
    """A subject that the pattern is about."""
    return pattern.replace("*", "other").replace(">", "other.x")


def report_of(host: str, boot: str = "1", number: int = 1, draining: bool = False) -> HostReport:
    """What a host says of itself that lends nothing, so that no work of others comes to it."""
    offer = Offer(cpus=0.1, memory_bytes=1, spaces=0)
    return HostReport(host, boot, 1, offer, "3.11.7", draining=draining, number=number)


def user_of(host: str) -> str:
    return HOST_PREFIX + host
