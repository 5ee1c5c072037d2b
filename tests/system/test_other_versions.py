"""A host with another Motes than the keeper: what is only new is passed over, what would be misread is refused."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from motes import connect
from motes.bus import subjects
from motes.bus.connection import Connection
from motes.client.deploy import owner_key, prepare
from motes.grants.keys import Tag, sign
from motes.model.keeper import Deploy, Deployed, decode_answer
from motes.model.release import Signed, release_id
from motes.model.wire import OLDEST, WIRE
from system.machines import Machine, Proxied, proxied
from system.programs import WIRE as OTHER
from system.programs import change_programs, own_programs
from system.running import DEADLINE_S, wait_until

APP = """
    from motes import function

    @function
    def one() -> int:
        return 1
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """A keeper without a host of its own, and the machine `b`, which was stopped."""
    with proxied(tmp_path_factory.mktemp("lab")) as made:
        made.join("b").down()
        made.keeper.deploy("work", APP)
        yield made


@pytest.mark.parametrize(
    ("wire", "state", "mend"),
    [(OLDEST - 1, "too old", "for host 'b'"), (WIRE + 1, "too new", "for the keeper")],
)
def test_a_host_that_is_too_old_or_too_new_is_shown_with_what_to_do_and_gets_no_work(
    lab: Proxied, tmp_path: Path, wire: int, state: str, mend: str
) -> None:
    (machine,) = lab.machines
    change_programs(machine, tmp_path / "other", OTHER.format(wire=wire, version="9.8.7"))
    machine.motes("up")
    try:
        lab.wait_for("b", state)
        table = lab.keeper.motes("host", "ls")
        assert "9.8.7" in table and f"install the newer Motes {mend}" in table
        lab.keeper.motes("host", "stop", "--name", "local")
        assert "no host" in lab.keeper.refusal(8, "call", "work.one", "--timeout", "5")
        assert lab.keeper.instances() == []
        # Its owner reads it there, too.
        log = machine.home.log("agent-b")
        wait_until(lambda: f"install the newer Motes {mend}" in log.read_text(), "the agent says so")
    finally:
        lab.keeper.motes("host", "start", "--name", "local")
        machine.down()
        own_programs(machine)
    machine.motes("up")
    lab.wait_for("b", "up")
    machine.down()


def test_a_machine_that_is_too_old_or_too_new_cannot_join_and_is_told_what_to_do(lab: Proxied, tmp_path: Path) -> None:
    for wire, older in ((OLDEST - 1, "this machine"), (WIRE + 1, "the keeper")):
        machine = lab.machine()
        change_programs(machine, tmp_path / f"wire{wire}", OTHER.format(wire=wire, version="9.8.7"))
        told = machine.refusal(3, "join", lab.invite(machine), "--name", "other")
        assert f"{older} has an older Motes" in told and "9.8.7" in told
        assert lab.state("other") == "gone" and not machine.home.keeper_file.exists()


def test_what_a_host_says_beside_all_that_the_keeper_knows_is_passed_over(lab: Proxied) -> None:
    (machine, *_) = lab.machines
    report = {"host": "b", "boot": "f" * 24, "pid": 7, "python": "3.11", "offer": {"spaces": 3, "colour": "green"}}
    report |= {"wire": WIRE, "mood": {"good": True}}
    wait_until(lambda: tell(lab, machine, report) in ("up", "silent"), "it is understood")


def test_a_report_that_only_a_later_keeper_can_read_shows_the_host_all_the_same(lab: Proxied) -> None:
    (machine, *_) = lab.machines
    report = {"host": "b", "boot": "f" * 25, "wire": WIRE + 4, "version": "12.0", "offer": "everything"}
    wait_until(lambda: tell(lab, machine, report) in ("too new", "silent"), "it is seen")
    assert "12.0" in lab.keeper.motes("host", "ls")


def test_what_an_owner_signs_with_a_later_motes_is_kept_and_handed_on_byte_for_byte(lab: Proxied) -> None:
    file = lab.keeper.folder.parent / "later.py"
    file.write_text(textwrap.dedent(APP))
    signed = deploy_with_more(lab, file, "good")
    # What is handed on now is what was stored.
    lab.keeper.wait_until_back("controller", lab.keeper.kill("controller"))
    wait_until(lambda: lab.keeper.run("apps").returncode == 0, "the controller answers")
    machine = lab.join("c")
    lab.keeper.motes("host", "stop", "--name", "local")
    try:
        assert lab.keeper.motes("call", "later.one") == "1\n"
        assert {each["host"] for each in lab.keeper.instances("one")} == {"c"}
        assert asyncio.run(asyncio.wait_for(handed_to(machine, "c", release_id(signed)), DEADLINE_S)) == signed
    finally:
        lab.keeper.motes("host", "start", "--name", "local")
        machine.down()


def test_what_differs_only_in_what_a_later_motes_knows_is_another_release(lab: Proxied) -> None:
    file = lab.keeper.folder.parent / "moody.py"
    file.write_text(textwrap.dedent(APP))
    good = deploy_with_more(lab, file, "good")
    deploy_with_more(lab, file, "good", again=good)
    deploy_with_more(lab, file, "bad")


def deploy_with_more(lab: Proxied, file: Path, mood: str, again: Signed | None = None) -> Signed:
    """Deploy the app as a Motes does that knows one more field of releases, of manifests and of functions.

    `again` is the release that it is, if it is none of its own.
    """

    async def deploy() -> Signed:
        async with connect(lab.keeper.folder) as cluster:
            release = msgspec.msgpack.decode(msgspec.msgpack.encode(await prepare(cluster, file)))
            manifest = release["manifest"]
            for each in (release, manifest, *manifest["workloads"]):
                each["mood"] = {mood: True}
            signed = sign(owner_key(cluster.home), Tag.RELEASE, msgspec.msgpack.encode(release))
            deployed = await cluster.ask("deploy", Deploy(signed), Deployed, DEADLINE_S)
            assert deployed == Deployed(file.stem, release_id(again or signed), changed=again is None)
            return signed

    return asyncio.run(asyncio.wait_for(deploy(), DEADLINE_S))


async def handed_to(machine: Machine, host: str, release: str) -> Signed:
    """What the keeper answers to the host when it asks for the release."""
    user, keeper = f"host-{host}", machine.home.keeper()
    connection = await Connection.open(keeper.servers, machine.home.credentials(user), certificate=keeper.certificate)
    try:
        question = msgspec.msgpack.encode(release)
        answer = await connection.request(subjects.keeper(user, "release-get"), question, DEADLINE_S)
        return decode_answer(answer, Signed)
    finally:
        await connection.close()


def tell(lab: Proxied, machine: Machine, report: dict[str, object]) -> str:
    """Send a report in the name of `b`, whose agent does not run; returns what the keeper shows."""
    report = {**report, "number": time.monotonic_ns()}

    async def send() -> None:
        keeper = machine.home.keeper()
        connection = await Connection.open(
            keeper.servers, machine.home.credentials("host-b"), certificate=keeper.certificate
        )
        connection.publish(subjects.state("b"), msgspec.msgpack.encode(report))
        await connection.flush()
        await connection.close()

    asyncio.run(asyncio.wait_for(send(), DEADLINE_S))
    return lab.state("b")
