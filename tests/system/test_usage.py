"""What ran where is told by both sides, and nothing of it is lost, told twice or altered without being noticed."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from motes.grants.kept import FOLDER
from system.machines import needs_namespaces, network
from system.running import Keeper, RunningCluster, wait_until
from system.test_full_disk import WITH_ANOTHER_MACHINE, on_a_small_disk

APP = """
    import time
    from motes import function

    @function
    def echo(text: str) -> str:
        return text

    @function(reuse="call")
    def spin(seconds: float) -> float:
        began = time.process_time()
        while time.process_time() - began < seconds: pass
        return seconds
"""


STAYING = """
    from motes import function

    @function(idle="10 min")
    def stay() -> None: ...
"""


class Pair(Keeper):
    """A keeper, and another machine, `far`, that has joined it and runs everything."""

    _count = 0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "keeper")
        self.far = RunningCluster(folder / "far")
        self.app = ""

    def start(self) -> None:
        self.listen()
        self.far.join(self, "far")
        self.motes("host", "stop", "--name", "local")

    def use_new_app(self) -> None:
        """Each test has its own, so that it sees what it made itself."""
        self._count += 1
        self.app = f"work{self._count}"
        self.deploy(self.app, APP)

    def echo(self, times: int, text: str = "abc") -> None:
        for _ in range(times):
            assert self.json("call", f"{self.app}.echo", text) == text


def started(folder: Path) -> Iterator[Pair]:
    with Pair(folder) as made, made.far:
        made.start()
        yield made


@pytest.fixture(scope="module")
def lasting_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    yield from started(tmp_path_factory.mktemp("usage"))


@pytest.fixture
def pair(lasting_pair: Pair) -> Pair:
    lasting_pair.use_new_app()
    return lasting_pair


@pytest.fixture
def own_pair(tmp_path: Path) -> Iterator[Pair]:
    """For one test, which may take it apart."""
    for made in started(tmp_path):
        made.use_new_app()
        yield made


def receipts(cluster: RunningCluster, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cluster.motes("usage", "--format", "jsonl", *words).splitlines()]


def numbers(cluster: RunningCluster) -> list[int]:
    return [each["number"] for each in receipts(cluster)]


def calls(cluster: RunningCluster, *words: str) -> int:
    return sum(int(each["calls"]) for each in cluster.json("usage", *words))


def wait_for_calls(pair: Pair, count: int) -> None:
    """Until the keeper has heard of so many to the test's app; there are no more."""
    wait_until(lambda: calls(pair, "--app", pair.app) >= count, f"{count} calls are accounted for")
    assert calls(pair, "--app", pair.app) == count


def holds(payload: str, signature: str, signer: str, tag: bytes) -> bytes:
    """A signature checked as a third party does it, without Motes: returns the payload. Raises InvalidSignature."""
    signed = bytes.fromhex(payload)
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(bytes.fromhex(signature), tag + signed)
    return signed


def test_both_sides_have_proof_of_what_ran_and_a_third_party_can_check_it(pair: Pair) -> None:
    pair.echo(3)
    pair.json("call", f"{pair.app}.spin", "0.3")
    wait_for_calls(pair, 4)
    mine = ("--app", pair.app)
    (total,) = pair.json("usage", *mine)
    assert (total["app"], total["host"], total["starts"]) == (pair.app, "far", 2)
    assert 0.28 <= total["cpu_s"] < 5.0 and total["memory_byte_s"] > 2**20 and total["instance_s"] >= 0.3
    assert (total["in_bytes"], total["out_bytes"]) == (3 * len('"abc"') + 3, 3 * len('"abc"') + 3)
    assert total["owner"] == pair.home.public_key("owner").read_text()
    # The machine that only lends knows the same, from its own folder.
    wait_until(lambda: calls(pair.far, *mine) == 4)
    last = numbers(pair.far)[-1]
    kept, heard = ([each for each in receipts(side, *mine) if each["number"] <= last] for side in (pair.far, pair))
    assert kept == heard and kept
    key = pair.home.public_key("controller").read_text()
    for each in kept:
        holds(each["batch_payload"], each["batch_signature"], each["batch_signer"], b"motes batch 1\0")
        inner = holds(each["receipt_payload"], each["receipt_signature"], key, b"motes receipt 1\0")
        assert bytes.fromhex(each["batch_payload"]) in inner and abs(each["heard_at"] - each["ended_at"]) < 60
    rows = list(csv.DictReader(io.StringIO(pair.motes("usage", "--format", "csv", *mine))))
    assert [row["receipt_signature"] for row in rows][: len(kept)] == [each["receipt_signature"] for each in kept]


def test_usage_is_shown_of_an_app_a_host_and_a_time(pair: Pair) -> None:
    pair.echo(2)
    wait_for_calls(pair, 2)
    mine = ("--app", pair.app)
    table = pair.motes("usage", *mine).splitlines()
    assert table[0].split()[:3] == ["APP", "HOST", "CALLS"] and table[1].split()[:3] == [pair.app, "far", "2"]
    assert calls(pair, *mine, "--host", "far") == 2
    assert calls(pair, *mine, "--host", "local") == 0 and calls(pair, *mine, "--since", "0") == 0
    assert pair.motes("usage", "--app", "none") == "nothing was used in that time\n"
    assert "names no app" in pair.refusal(3, "usage", "--app", "../x")
    assert "names no host" in pair.refusal(3, "usage", "--host", "*")
    wrong = pair.run("usage", "--since", "yesterday")
    assert wrong.returncode == 2 and "is not a duration" in wrong.stderr


def test_a_host_that_is_killed_loses_nothing_that_was_acknowledged_and_goes_on_in_its_chain(pair: Pair) -> None:
    pair.echo(5)
    wait_for_calls(pair, 5)
    before = receipts(pair)
    agent = pair.far.kill("agent-far")
    pair.far.wait_until_back("agent-far", agent)
    pair.echo(4)
    wait_for_calls(pair, 9)
    after = receipts(pair)
    assert after[: len(before)] == before
    assert [each["number"] for each in after] == list(range(1, len(after) + 1))
    assert len({each["boot"] for each in after if each["app"] == pair.app}) == 2


def test_what_is_used_while_the_keeper_falls_and_rises_is_told_when_it_is_back(pair: Pair) -> None:
    pair.echo(2)
    for process in ("controller", "nats-server"):
        pid = pair.kill(process)
        pair.wait_until_back(process, pid)
        wait_until(lambda: pair.run("apps").returncode == 0)
    wait_for_calls(pair, 2)
    assert all(not each["missing"] and each["counts"] for each in receipts(pair))


def test_a_frozen_keeper_delays_the_receipts_and_loses_none(pair: Pair) -> None:
    pair.echo(3)
    log = pair.far.home.log("agent-far")
    before = log.read_text().count("has not taken what was used")
    pair.kill("controller", signal.SIGSTOP)
    tries = "the host has tried in vain"
    wait_until(lambda: log.read_text().count("has not taken what was used") > before, tries)
    pair.kill("controller", signal.SIGCONT)
    wait_until(lambda: pair.run("apps").returncode == 0)
    wait_for_calls(pair, 3)
    assert all(not each["missing"] and each["counts"] for each in receipts(pair))


def test_a_host_that_has_lost_its_receipts_goes_on_where_the_keeper_knows_that_it_was(pair: Pair) -> None:
    """As one that was killed after the keeper had kept a batch and before it could note that."""
    pair.echo(3)
    wait_for_calls(pair, 3)
    pair.far.down()
    shutil.rmtree(pair.far.home.host("far") / FOLDER)
    pair.far.up()
    wait_until(lambda: pair.hosts().get("far") == "up")
    pair.echo(1)
    wait_for_calls(pair, 4)
    found = numbers(pair)
    assert found == list(range(found[0], found[0] + len(found)))


def test_a_receipt_that_somebody_altered_on_the_machine_that_lends_is_noticed_there(pair: Pair) -> None:
    pair.echo(3)
    pair.far.down()
    assert calls(pair, "--app", pair.app) == 3, "what a stopped host used last is told before it goes"
    file = sorted((pair.far.home.host("far") / FOLDER).glob("receipts-*"))[-1]
    whole = file.read_bytes()
    at = len(whole) // 2
    file.write_bytes(whole[:at] + (b"A" if whole[at : at + 1] != b"A" else b"B") + whole[at + 1 :])
    done = pair.far.run("usage")
    assert done.returncode == 8 and "a receipt of host far was altered" in done.stderr, done
    file.write_bytes(whole)
    assert calls(pair.far, "--app", pair.app) == 3
    pair.far.up()


def test_a_machine_that_was_removed_and_joins_again_has_another_key_and_both_chains_hold(own_pair: Pair) -> None:
    own_pair.echo(2)
    wait_for_calls(own_pair, 2)
    own_pair.motes("host", "rm", "far")
    own_pair.far.motes("leave")
    own_pair.far.join(own_pair, "far")
    own_pair.echo(3)
    wait_for_calls(own_pair, 5)
    wait_until(lambda: calls(own_pair.far) == 3)
    assert len({each["batch_signer"] for each in receipts(own_pair)}) == 2


def test_while_the_keepers_disk_is_full_hosts_keep_their_batches(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(textwrap.dedent(STAYING))
    done = on_a_small_disk(
        tmp_path,
        WITH_ANOTHER_MACHINE,
        """
        $MOTES deploy $APPS/work.py >/dev/null || exit 93
        cat /dev/zero >$DISK/filler 2>/dev/null || true
        $MOTES call work.stay || exit 94
        while ! grep -q "the keeper's disk is full" $OTHER/logs/agent-far.log; do sleep 0.1; done
        test -z "$($MOTES usage --format jsonl)" || exit 95
        rm $DISK/filler
        """,
        """
        while ! $MOTES usage 2>/dev/null | grep -q far; do sleep 0.1; done
        $MOTES usage || exit 96
        MOTES_HOME=$OTHER $MOTES down >/dev/null
        $MOTES down >/dev/null
        """,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert done.stdout.splitlines()[-1].split()[:3] == ["work", "far", "1"]


@needs_namespaces
def test_what_a_machine_spent_while_it_was_cut_off_is_told_when_it_is_back(tmp_path: Path) -> None:
    with network(tmp_path) as lan:
        far = lan.machine()
        far.motes("join", lan.keeper.invite(), "--name", "far")
        wait_until(lambda: "far" in {host["name"] for host in lan.keeper.json("host", "ls")})
        lan.keeper.motes("host", "stop", "--name", "local")
        lan.keeper.deploy("work", STAYING)
        assert lan.keeper.motes("call", "work.stay") == "null\n"
        wait_until(lambda: receipts(lan.keeper), "it has told something before")
        told = numbers(lan.keeper)
        lan.cut(far)
        unsent = far.home.host("far") / FOLDER / "unsent"
        wait_until(lambda: len(unsent.read_bytes().split()) >= 2, "it has signed batches that nobody has heard")
        assert numbers(lan.keeper) == told
        lan.mend(far)
        wait_until(lambda: len(receipts(lan.keeper)) >= len(told) + 2, "it has told them")
        found = receipts(lan.keeper)
        assert [each["number"] for each in found] == list(range(1, len(found) + 1))
        assert all(each["counts"] and not each["missing"] for each in found)
        assert any(each["heard_at"] - each["ended_at"] > 5.0 for each in found)
