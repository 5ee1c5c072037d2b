"""The keeper moves to another machine: keys, desired state and streams, while apps go on."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from motes.client.cluster import Cluster
from motes.grants.keys import Key, Nkey
from motes.home import Home
from motes.supervisor import control
from system.moving import APP, has_secrets, machines, stopped_at
from system.running import DEADLINE_S, family, wait_until


def test_the_keeper_moves_and_everything_goes_on(tmp_path: Path) -> None:
    with machines(tmp_path, "laptop", "server", "third") as (laptop, server, third):
        laptop.deploy("work", APP)
        assert laptop.json("call", "work.double", "21") == 42
        leases = laptop.home.credentials("keeper")
        done = laptop.move("server", server.accept())
        assert done.returncode == 0, done
        server.become()
        assert server.is_keeper and not laptop.is_keeper
        assert has_secrets(server) and not has_secrets(laptop)
        assert not laptop.home.user("keeper").exists() and server.home.credentials("keeper") != leases
        wait_until(lambda: all(map(server.is_up, ("local", "server", "third"))), "all are there")
        assert server.json("call", "work.double", "21") == 42
        # The owner stays where he is, with his key, and acts on the cluster from there.
        assert laptop.json("call", "work.double", "4") == 8
        laptop.deploy("more", APP)
        assert server.json("call", "more.double", "5") == 10
        assert "the owner's key is not on this machine" in server.refusal(3, "rm", "more")
        assert [each["app"] for each in server.json("apps")] == ["more", "work"]
        # Each comes back after a restart.
        for each in (laptop, server, third):
            each.down()
        server.up()
        for each in (laptop, third):
            each.up()
        wait_until(lambda: all(map(server.is_up, ("local", "server", "third"))), "all are back")
        assert server.json("call", "work.double", "21") == 42


def test_what_is_accepted_while_it_moves_is_there_afterwards_and_calls_go_on(tmp_path: Path) -> None:
    """One program deploys without end, another calls without end; the second meets no failure at all."""
    accepted: list[str] = []
    has_moved = threading.Event()
    calls: list[int] = []
    failed: list[Exception] = []

    with machines(tmp_path, "laptop", "server") as (laptop, server):
        laptop.deploy("work", APP)

        def deploy() -> None:
            number = 0
            while not has_moved.is_set():
                number += 1
                file = tmp_path / f"app{number}.py"
                file.write_text(f"from motes import function\n\n@function\ndef f() -> int:\n    return {number}\n")
                if laptop.run("deploy", str(file)).returncode == 0:
                    accepted.append(file.stem)

        async def call() -> None:
            async with asyncio.timeout(120):
                cluster = await Cluster.open(laptop.home)
                while not has_moved.is_set():
                    try:
                        assert await cluster.call("work.double", len(calls), timeout_s=30) == 2 * len(calls)
                        calls.append(1)
                    except Exception as error:
                        failed.append(error)
                    await asyncio.sleep(0.01)
                await cluster.close()

        beside = [threading.Thread(target=deploy), threading.Thread(target=lambda: asyncio.run(call()))]
        for each in beside:
            each.start()
        try:
            wait_until(lambda: len(accepted) >= 2 and calls, "both are at it")
            before = len(calls)
            assert laptop.move("server", server.accept()).returncode == 0
            server.become()
            during = len(calls)
            wait_until(lambda: len(calls) > during + 20, "calls go on at the new place")
        finally:
            has_moved.set()
            for each in beside:
                each.join()
        assert during > before and failed == []
        assert {each["app"] for each in server.json("apps")} == {"work", *accepted}


def test_all_goes_on_while_the_code_is_copied_and_what_changes_meanwhile_moves_as_well(tmp_path: Path) -> None:
    """The move stands still when the code is there: apps come, change and go, and a host is removed."""
    with machines(tmp_path, "laptop", "server", "third") as (laptop, server, third):
        for name in ("work", "gone", "changed"):
            laptop.deploy(name, APP.replace("double", name))
        stopped = stopped_at(tmp_path, "motes.moving.giving:Giving.freeze")
        moving = laptop.begin_move("server", server.accept(), **stopped)
        try:
            wait_until(lambda: (tmp_path / "killed").exists(), "the code is there")
            assert laptop.is_keeper
            laptop.motes("rm", "gone")
            laptop.deploy("changed", APP.replace("2 *", "3 *"))
            laptop.deploy("late", APP)
            leaver = Key(third.home.credentials("host-third").secret).nkey(Nkey.USER)
            laptop.motes("host", "rm", "third")
            moving.send_signal(signal.SIGCONT)
            out, err = moving.communicate(timeout=DEADLINE_S)
            assert moving.returncode == 0, (out, err)
        finally:
            moving.kill()
            moving.communicate()
        server.become()
        assert [each["app"] for each in server.json("apps")] == ["changed", "late", "work"]
        wait_until(lambda: server.is_up("server") and server.is_up("local"), "the hosts are there")
        assert server.json("call", "work.work", "5") == 10
        assert server.json("call", "changed.double", "5") == 15
        assert server.json("call", "late.double", "5") == 10
        # nats-server has known from its first moment who is let in no more.
        assert any(leaver in each.get("revocations", {}) for each in accounts(server.home))
        assert not server.is_up("third")


def accounts(home: Home) -> list[dict[str, Any]]:
    """What nats-server was configured with of each account."""
    config = json.loads(home.nats_config.read_text())
    bodies = [token.split(".")[1] for token in config["resolver_preload"].values()]
    return [json.loads(base64.urlsafe_b64decode(body + "=="))["nats"] for body in bodies]


def test_it_moves_on_and_back_again(tmp_path: Path) -> None:
    """Epochs and generations rise on every machine; a host that was away meanwhile finds the newest."""
    with machines(tmp_path, "first", "second", "third") as (first, second, third):
        first.deploy("work", APP)
        assert first.move("second", second.accept()).returncode == 0
        second.become()
        wait_until(lambda: all(map(second.is_up, ("local", "second", "third"))), "all are there")
        third.down()
        # Where the keeper was, it forwards no more: the machine wants its address for itself.
        done = second.move("local", first.accept())
        assert done.returncode == 0, done
        first.become()
        assert first.is_keeper and not second.is_keeper and not has_secrets(second)
        wait_until(lambda: all(map(first.is_up, ("local", "second"))), "all are there")
        # Second leads there.
        third.up()
        wait_until(lambda: first.is_up("third"), "it has followed twice")
        assert first.json("call", "work.double", "21") == 42
        first.motes("rm", "work")
        # A joined machine leaves, and is taken out by its name.
        assert second.json("leave")["told"] is True
        assert "no host 'local' has joined" in first.refusal(4, "host", "rm", "local")
        wait_until(lambda: not first.is_up("second"))


def test_the_machine_that_it_left_falls_asleep_and_wakes_up(tmp_path: Path) -> None:
    """As a laptop does whose lid is closed: everything on it stands still, and nobody is told."""
    with machines(tmp_path, "laptop", "server", "third") as (laptop, server, third):
        laptop.deploy("work", APP)
        assert laptop.move("server", server.accept()).returncode == 0
        server.become()
        wait_until(lambda: all(map(server.is_up, ("local", "server", "third"))), "all are there")
        asleep = family(int(control.ask(laptop.home, "status", DEADLINE_S)["pid"]))
        for pid in asleep:
            os.kill(pid, signal.SIGSTOP)
        try:
            for number in range(5):
                assert server.json("call", "work.double", str(number), "--timeout", "20") == 2 * number
            wait_until(lambda: not server.is_up("local"), "the laptop is missed")
            third.down()
            third.up()
            wait_until(lambda: server.is_up("third"), "it knows where the keeper is")
        finally:
            for pid in reversed(asleep):
                os.kill(pid, signal.SIGCONT)
        wait_until(lambda: server.is_up("local"), "the laptop is back")
        laptop.deploy("late", APP)
        assert server.json("call", "late.double", "21", "--timeout", "30") == 42
