"""What ran where is told by both sides, and nothing of it is lost, told twice or altered without being noticed."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from system.running import RunningCluster, wait_until
from system.test_joining import Keeper

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


class Pair(Keeper):
    """A keeper with a host of its own, and another machine, `far`, that has joined it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "keeper")
        self.far = RunningCluster(folder / "far")

    def start(self) -> None:
        self.listen()
        self.join()
        self.deploy("work", APP)

    def join(self) -> None:
        self.far.motes("join", self.invite(), "--name", "far")
        wait_until(lambda: self.hosts().get("far") == "up", "far is up")

    def only(self, host: str) -> None:
        """Place everything there."""
        if host == "far":
            self.motes("host", "stop", "--name", "local")
        else:
            self.motes("host", "start", "--name", "local")
            self.far.motes("pause")

    def echo(self, times: int, text: str = "abc") -> None:
        for _ in range(times):
            assert self.json("call", "work.echo", text) == text


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.far.down()
        made.down()


def receipts(cluster: RunningCluster, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cluster.motes("usage", "--format", "jsonl", *words).splitlines()]


def calls(cluster: RunningCluster, *words: str) -> int:
    return sum(int(each["calls"]) for each in cluster.json("usage", *words))


def wait_for_calls(cluster: RunningCluster, count: int, *words: str) -> None:
    wait_until(lambda: calls(cluster, *words) >= count, f"{count} calls are accounted for")
    assert calls(cluster, *words) == count


def holds(payload: str, signature: str, signer: str, tag: bytes) -> bytes:
    """A signature checked as a third party does it, without Motes: returns the payload. Raises InvalidSignature."""
    signed = bytes.fromhex(payload)
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(bytes.fromhex(signature), tag + signed)
    return signed


def test_both_sides_have_proof_of_what_ran_on_each_host_and_a_third_party_can_check_it(pair: Pair) -> None:
    pair.only("far")
    pair.echo(3)
    pair.json("call", "work.spin", "0.3")
    wait_for_calls(pair, 4)
    (total,) = pair.json("usage")
    assert (total["app"], total["host"], total["starts"]) == ("work", "far", 2)
    assert 0.28 <= total["cpu_s"] < 5.0 and total["memory_byte_s"] > 2**20 and total["instance_s"] >= 0.3
    assert (total["in_bytes"], total["out_bytes"]) == (3 * len('"abc"') + 3, 3 * len('"abc"') + 3)
    assert total["owner"] == (pair.home.public_key("owner")).read_text()
    # The machine that only lends knows the same, from its own folder.
    wait_until(lambda: calls(pair.far) == 4)
    number = max(each["number"] for each in receipts(pair.far))
    kept, heard = ([each for each in receipts(cluster) if each["number"] <= number] for cluster in (pair.far, pair))
    assert kept == heard and kept
    key = pair.home.public_key("controller").read_text()
    for each in kept:
        holds(each["batch_payload"], each["batch_signature"], each["batch_signer"], b"motes batch 1\0")
        inner = holds(each["receipt_payload"], each["receipt_signature"], key, b"motes receipt 1\0")
        assert bytes.fromhex(each["batch_payload"]) in inner and abs(each["heard_at"] - each["ended_at"]) < 60
    table = pair.motes("usage")
    assert table.splitlines()[0].split()[:3] == ["APP", "HOST", "CALLS"] and " far " in table
    rows = list(csv.DictReader(io.StringIO(pair.motes("usage", "--format", "csv"))))
    assert [row["receipt_signature"] for row in rows][: len(kept)] == [each["receipt_signature"] for each in kept]


def test_usage_is_shown_of_an_app_a_host_and_a_time(pair: Pair) -> None:
    pair.deploy("other", APP)
    pair.only("far")
    pair.echo(2)
    assert pair.json("call", "other.echo", "x") == "x"
    wait_for_calls(pair, 3)
    assert calls(pair, "--app", "other") == 1 and calls(pair, "--host", "far") == 3
    assert calls(pair, "--host", "local") == 0 and calls(pair, "--since", "0") == 0
    assert pair.motes("usage", "--app", "none") == "nothing was used in that time\n"
    assert "names no app" in pair.refusal(3, "usage", "--app", "../x")
    assert "names no host" in pair.refusal(3, "usage", "--host", "*")
    assert "is not a duration" in pair.refusal(3, "usage", "--since", "yesterday")


def test_a_host_that_is_killed_loses_nothing_that_was_acknowledged_and_goes_on_in_its_chain(pair: Pair) -> None:
    pair.far.motes("pause")
    pair.echo(5)
    wait_for_calls(pair, 5)
    before = receipts(pair)
    agent = pair.kill("agent-local")
    pair.wait_until_back("agent-local", agent)
    pair.echo(4)
    wait_for_calls(pair, 9)
    after = receipts(pair)
    assert after[: len(before)] == before
    assert [each["number"] for each in after] == list(range(1, len(after) + 1))
    assert len({each["boot"] for each in after}) == 2


def test_what_is_used_while_the_keeper_is_away_is_told_when_it_is_back(pair: Pair) -> None:
    pair.far.motes("pause")
    pair.echo(2)
    for process in ("controller", "nats-server"):
        pid = pair.kill(process)
        pair.wait_until_back(process, pid)
        wait_until(lambda: pair.run("call", "work.echo", "x").returncode == 0, "calls are taken again")
    made = 2 + 2
    wait_until(lambda: pair.run("usage").returncode == 0)
    wait_until(lambda: calls(pair) >= made, "what was used is told")
    assert all(not each["missing"] and each["counts"] for each in receipts(pair))


def test_what_a_stopped_host_used_last_is_told_before_it_goes(pair: Pair) -> None:
    pair.only("far")
    pair.echo(3)
    pair.far.down()
    assert calls(pair) == 3


def test_a_receipt_whose_answer_was_lost_counts_once(pair: Pair) -> None:
    """The agent is killed after the keeper has kept the batch and before it could note that: it sends it again."""
    pair.only("far")
    pair.echo(3)
    wait_for_calls(pair, 3)
    folder = pair.far.home.host("far") / "receipts"
    pair.far.down()
    (file,) = folder.glob("receipts-*")
    file.unlink()
    pair.far.up()
    wait_until(lambda: pair.hosts().get("far") == "up")
    pair.echo(1)
    wait_for_calls(pair, 4)
    numbers = [each["number"] for each in receipts(pair)]
    assert numbers == list(range(1, len(numbers) + 1)), "it goes on where the keeper knows that it was"


def test_a_receipt_that_somebody_altered_on_the_machine_that_lends_is_noticed_there(pair: Pair) -> None:
    pair.only("far")
    pair.echo(3)
    pair.far.down()
    (file,) = (pair.far.home.host("far") / "receipts").glob("receipts-*")
    whole = file.read_bytes()
    at = len(whole) // 2
    file.write_bytes(whole[:at] + (b"A" if whole[at : at + 1] != b"A" else b"B") + whole[at + 1 :])
    done = pair.far.run("usage")
    assert done.returncode == 8 and "was altered" in done.stderr and "do not hold" in done.stderr.replace("does", "do")
    file.write_bytes(whole)
    assert calls(pair.far) == 3
    shutil.rmtree(file.parent)
    assert pair.far.motes("usage") == "nothing was used in that time\n"


def test_a_machine_that_was_removed_and_joins_again_has_another_key_and_both_chains_hold(pair: Pair) -> None:
    pair.only("far")
    pair.echo(2)
    wait_for_calls(pair, 2)
    pair.motes("host", "rm", "far")
    pair.far.motes("leave")
    assert calls(pair.far) == 2, "what ran here stays known here"
    pair.join()
    pair.echo(3)
    wait_for_calls(pair, 5)
    wait_until(lambda: calls(pair.far) == 5)
    assert len({each["batch_signer"] for each in receipts(pair)}) == 2
    assert {each["host"] for each in receipts(pair)} == {"far"}


def test_another_clusters_receipts_are_left_out(pair: Pair, tmp_path: Path) -> None:
    pair.only("far")
    pair.echo(2)
    pair.far.motes("leave")
    other = Keeper(tmp_path / "other")
    other.listen()
    try:
        pair.far.motes("join", other.invite(), "--name", "far")
        done = pair.far.run("usage")
        assert (done.returncode, done.stdout) == (0, "nothing was used in that time\n")
        assert "receipts of other clusters are left out" in done.stderr
    finally:
        pair.far.down()
        other.down()


def test_a_frozen_keeper_delays_the_receipts_and_loses_none(pair: Pair) -> None:
    pair.far.motes("pause")
    pair.echo(3)
    pair.kill("controller", signal.SIGSTOP)
    log = pair.home.log("agent-local")
    wait_until(lambda: "has not taken what was used" in log.read_text(), "the host has tried in vain")
    pair.kill("controller", signal.SIGCONT)
    wait_until(lambda: pair.run("usage").returncode == 0)
    wait_for_calls(pair, 3)
    numbers = [each["number"] for each in receipts(pair)]
    assert numbers == list(range(1, len(numbers) + 1))
