"""What hosts and apps say reaches a person's terminal: none of it may be an order to that.

A terminal that obeys can be told to fill the clipboard, to show other text than was said, or to type."""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import Iterator

import msgspec
import pytest

from motes.bus.connection import Message
from motes.grants import jwt, keys, roles
from motes.model.host import Beat, HostInstances
from motes.model.totals import Totals
from system.people import People, with_people
from system.running import RunningCluster, wait_until
from system.terminal import in_a_terminal

ORDER = "\x1b]0;taken\x1b\\"
EIGHT_BIT = "\x9d0;taken\x9c"
BACKWARDS = "\u202etaken"

LOUD = f"""
    from typing import Annotated, Any
    import msgspec
    from motes import function

    ORDERS = {[ORDER, EIGHT_BIT, BACKWARDS]!r}
    Named = Annotated[str, msgspec.Meta(title=ORDERS[0])]

    @function
    def cry(order: int) -> Any:
        return ORDERS[order]

    @function
    def forge() -> Any:
        return msgspec.Raw(b'"' + ORDERS[0].encode() + b'"')

    @function
    def named(it: list[Named]) -> Named:
        return it[0]
"""


def gives_no_orders(shown: str) -> bool:
    return not any(order in shown for order in (ORDER, EIGHT_BIT, BACKWARDS)) and "\x1b]0" not in shown


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster with the app `loud`, and credentials for the host `evil`, of which no agent runs."""
    with RunningCluster(tmp_path_factory.mktemp("terminal") / "home") as cluster:
        cluster.up()
        cluster.deploy("loud", LOUD)
        account = keys.load_or_create(cluster.home.key("account"))
        cluster.home.save_credentials(jwt.credentials(account, roles.host("evil")))
        yield cluster


def test_what_is_shown_of_a_deployed_app(cluster: RunningCluster) -> None:
    file = cluster.folder.parent / "loud.py"
    shown = cluster.motes("deploy", str(file))
    assert "named(it: list[" in shown and "taken" in shown and gives_no_orders(shown)


@pytest.mark.parametrize("order", [EIGHT_BIT, BACKWARDS])
def test_a_result(cluster: RunningCluster, order: str) -> None:
    shown = cluster.motes("call", "loud.cry", str([ORDER, EIGHT_BIT, BACKWARDS].index(order)))
    assert gives_no_orders(shown) and json.loads(shown) == order


def test_a_result_that_is_no_json(cluster: RunningCluster) -> None:
    """An instance, or its host, answers with any bytes."""
    shown = cluster.motes("call", "loud.forge")
    assert "taken" in shown and gives_no_orders(shown)


def test_what_a_host_says_of_its_version(cluster: RunningCluster) -> None:
    told = {"host": "evil", "boot": "b", "pid": 1, "wire": 99, "version": f"9{ORDER}{BACKWARDS}"}

    shown: list[str] = []

    def look() -> None:
        wait_until(lambda: cluster.hosts().get("evil") == "too new", "the host shows")
        shown[:] = [cluster.motes("host", *words) for words in (("ls",), ("show", "evil"), ("ls", "--json"))]

    async def work(people: People) -> None:
        host = await people.connect("host-evil")
        looking = asyncio.create_task(asyncio.to_thread(look))
        while not (await asyncio.wait((looking,), timeout=0.2))[0]:
            host.publish("report.evil.state", msgspec.msgpack.encode(told))
        looking.result()

    with_people(cluster, work)
    assert all("taken" in each and gives_no_orders(each) for each in shown)


def test_what_a_host_prints_in_the_name_of_no_workload(cluster: RunningCluster) -> None:
    workload = ORDER.replace(" ", "")
    line = {"at": 1, "host": "evil", "app": "loud", "workload": workload, "pid": 1, "text": "printed\n"}
    follows = cluster.start("logs", "loud", "-f")
    assert follows.stdout is not None

    async def work(people: People) -> None:
        host = await people.connect("host-evil")
        while not select.select([follows.stdout], [], [], 0.1)[0]:
            host.publish(f"report.evil.log.loud.{workload}", msgspec.json.encode(line))
            await host.flush()

    try:
        with_people(cluster, work)
        shown = follows.stdout.readline()
        assert "printed" in shown and gives_no_orders(shown)
    finally:
        follows.terminate()
        follows.communicate()


def test_what_a_host_says_that_it_runs(cluster: RunningCluster) -> None:
    """`motes top` shows what hosts answer."""
    answer = msgspec.msgpack.encode(HostInstances("evil", [], totals={f"loud.{ORDER}": Totals(calls=1)}))
    asked = 0

    async def work(people: People) -> None:
        host = await people.connect("host-evil")

        def tell(message: Message) -> None:
            nonlocal asked
            asked += 1
            host.publish(message.reply, answer)

        await host.subscribe("host.evil.ps", tell)
        number = 0
        # What was asked for before the last time is on the screen.
        while asked < 4:
            number += 1
            host.publish("beat.evil", msgspec.msgpack.encode(Beat("evil", "b", number)))
            await asyncio.sleep(0.1)
            screen.drain()

    with in_a_terminal(cluster, "top") as screen:
        with_people(cluster, work)
        screen.drain()
    assert b"workload" in screen.shown and gives_no_orders(screen.shown.decode(errors="replace"))
