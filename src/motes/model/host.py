"""What a host lends, and what it tells of itself."""

from __future__ import annotations

from typing import Annotated

import msgspec

from motes.model.bounds import MOST_LISTED, Count, Epoch, Number, Short, Size
from motes.model.instance import InstanceReport
from motes.model.names import MOST_LABELS, MOST_SERVED, is_name, is_workload
from motes.model.totals import Totals
from motes.model.walls import Walls

PROOF_BYTES = 16
"""Of a lease that was given, in a host's report."""


class Offer(msgspec.Struct, frozen=True):
    """What a host's owner lends: cores, memory and the most process spaces (instances) at a time."""

    cpus: Number = 2.0
    memory_bytes: Size = 2**30
    spaces: Count = 100
    disk_bytes: Size = 20 * 2**30
    """For code and packages, and for what is written where spaces have folders on the disk."""
    idle_class: bool = False
    """Whether all of it runs only when the machine has nothing else to do."""
    labels: Annotated[tuple[Short, ...], msgspec.Meta(max_length=MOST_LABELS)] = ()
    """Words of its owner's for what it is, as `gpu` or `attic`: names (motes.model.names)."""
    machine: Short = ""
    """Which machine it is: hosts of one machine go away together."""
    serve: Annotated[tuple[Short, ...], msgspec.Meta(max_length=MOST_SERVED)] = ()
    """The apps that it serves, by name; none: all of the cluster's owner."""

    def serves(self, app: str) -> bool:
        """Whether the app may run there, as far as its owner decides that."""
        return not self.serve or app in self.serve


DISMISSED = "dismissed"
"""The `boot` of a lease that no agent is meant by: the host was removed."""


class Lease(msgspec.Struct, frozen=True):
    """The controller's permission for one host to run up to `ceiling` instances of one workload.

    A capacity lease does not expire; a lease with a higher `epoch` for the same workload replaces it, and `ceiling` 0
    ends it. `floor` instances are kept even when nobody calls.
    """

    host: str
    app: str
    workload: str
    release: str
    ceiling: int
    floor: int
    epoch: int
    proof: bytes = b""
    """With it the host shows to a later controller that it has this lease: what the controller's own key made of it."""
    boot: str = ""
    """The start of the host's agent that this is for. One that is for another start says to all others in the host's
    name that they are not the host; without an `app` it says nothing else."""

    @property
    def address(self) -> str:
        return f"{self.app}.{self.workload}"


class Load(msgspec.Struct, frozen=True, array_like=True):
    """How busy one workload is on one host."""

    queued: Count = 0
    busy: Count = 0
    idle: Count = 0
    fetching: Size = 0
    """Bytes that have still to come before it can run here, when they are many: calls had better go elsewhere."""


class Beat(msgspec.Struct, frozen=True, array_like=True):
    """An agent's heartbeat, every BEAT_INTERVAL_S. `boot` is new at each start of the agent."""

    host: Short
    boot: Short
    number: int
    load: Annotated[dict[str, Load], msgspec.Meta(max_length=MOST_LISTED)] = {}
    """By address (`app.workload`), for workloads that have an instance or a call waiting."""
    connection: Size = 0
    """Counts those that the agent has had: with another one, what was sent to the one before may not have arrived."""


LONGEST_FAILING = 300
"""Of an app's own words; a report has some for each workload, and must not become too long to be sent."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A lease as the agent holds it: its epoch, release and ceiling, and how the workload fares on this host."""

    epoch: Epoch
    release: str
    ceiling: Count
    instances: Count = 0
    wanted: Count = 0
    """How many instances the waiting calls would need; above `ceiling` the host asks for a higher one."""
    calls: Size = 0
    """Calls ended since the agent's start."""
    idle_s: Number = 0.0
    """Seconds since the last call."""
    failing: str = ""
    """Why its starts fail here, or empty; of what an agent tells the first LONGEST_FAILING characters."""
    proof: Annotated[bytes, msgspec.Meta(max_length=PROOF_BYTES)] = b""
    """The lease's own `proof`."""
    floor: Count = 0


class HostReport(msgspec.Struct, frozen=True):
    """An agent's state, sent at its start, when a lease changes, and each REPORT_INTERVAL_S.

    A later start of the agent has a `boot` that is greater as text, where the host's clock did not go back.
    """

    host: Short
    boot: Short
    pid: Count
    offer: Offer
    python: Short
    draining: bool = False
    spaces_used: Count = 0
    memory_bytes: Size = 0
    cpu_s: Number = 0.0
    held: Annotated[dict[str, Held], msgspec.Meta(max_length=MOST_LISTED)] = {}
    """By address; every lease the agent has accepted and not been told to end."""
    number: Epoch = 0
    """Counts this boot's reports: one that is not higher than the last comes late, and says nothing new."""
    platform: Short = ""
    """One of motes.model.platform.PLATFORMS, or empty."""
    running: Annotated[dict[str, list[Count]], msgspec.Meta(max_length=MOST_LISTED)] = {}
    """By address, the process ids of the instances whose start was told and whose end was not."""
    walls: Short = Walls.BOTH
    """What its spaces are made of, a motes.model.walls.Walls; empty where none can be made."""
    version: Short = ""
    """Of Motes."""
    architecture: Short = ""
    """Its processor, such as `aarch64`."""
    wire: Count = 1
    """The version of what it says and understands (motes.model.wire); who tells none speaks the first."""
    connection: Size = 0
    """The number that nats-server gave its connection; 0 when it does not say."""
    server_id: Short = ""
    """Of the nats-server that gave it, for each counts its own; empty when it does not say."""
    away: Short = ""
    """Why it lends nothing just now, by its owner's terms; empty while it lends. It is `draining` then as well."""


OFF, PAUSED = "off", "paused"
"""States of a host that has joined and is not there: as its owner has said, or nobody knows why."""


class HostStatus(msgspec.Struct, frozen=True):
    """A host as the controller sees it, for `motes host ls`."""

    name: str
    pid: int
    state: str
    """One of `up`, `away`, `draining`, `drained`, `silent`, `too old`, `too new`, `off`, `paused`."""
    lends: Offer
    used: dict[str, float]
    spaces: int
    python: str = ""
    platform: str = ""
    walls: str = Walls.BOTH
    version: str = ""
    architecture: str = ""
    is_own: bool = True
    sets: tuple[str, ...] = ()
    """In which sets the cluster's owner has put it."""
    advice: str = ""
    """What to do about a host that gets no work."""
    away: str = ""
    """Why it lends nothing just now."""
    seen_at: float = 0.0
    """Of one that is off or paused: when it was last there, in Unix time; 0: not since anybody has noted it."""

    @property
    def is_there(self) -> bool:
        """Whether anything is known of it but that it has joined."""
        return self.state not in (OFF, PAUSED)


class HostInstances(msgspec.Struct, frozen=True):
    """The answer to `host.<id>.ps`."""

    host: str
    instances: list[InstanceReport]
    load: Annotated[dict[str, Load], msgspec.Meta(max_length=MOST_LISTED)] = {}
    """By address."""
    totals: Annotated[dict[str, Totals], msgspec.Meta(max_length=MOST_LISTED)] = {}
    """By address, also of workloads that have no instance now."""
    daemons: Annotated[tuple[Short, ...], msgspec.Meta(max_length=MOST_LISTED)] = ()
    """Which of the addresses are those of daemons: what passes to these no host sees."""

    def is_of(self, host: str) -> bool:
        """Whether it is about that host only, and about what can be: people are shown it, and a terminal obeys."""
        if {self.host, *(each.host for each in self.instances)} != {host}:
            return False
        told = {*self.totals, *self.load, *self.daemons, *(f"{each.app}.{each.workload}" for each in self.instances)}
        return all(map(is_workload, told)) and all(is_name(each.release) for each in self.instances if each.release)


BEAT_INTERVAL_S = 0.25
REPORT_INTERVAL_S = 1.0
SILENCE_S = 1.0
"""A router passes over a host that it has not heard for this long."""
