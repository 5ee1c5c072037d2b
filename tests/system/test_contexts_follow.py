"""The keeper moves, and who commands the cluster from elsewhere follows, by nothing more than going on as before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from system.moving import APP, Machine, machines
from system.running import DEADLINE_S, Away, wait_until

PROGRAM = """
import asyncio, sys
from motes import connect

async def main():
    async with connect() as cluster:
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(await cluster.call("work.double", int(line), timeout_s=30), flush=True)

asyncio.run(main())
"""
"""Calls when it is told to, by one connection."""


def addresses(away: Away, context: str) -> list[str]:
    return list(json.loads((away.context(context) / "keeper.json").read_text())["addresses"])


def move(laptop: Machine, server: Machine) -> None:
    done = laptop.move("server", server.accept())
    assert done.returncode == 0, done
    server.become()
    wait_until(lambda: server.is_up("server") and server.is_up("local"), "the hosts are there")


def test_contexts_and_programs_find_the_keeper_where_it_is_when_the_old_place_is_gone(tmp_path: Path) -> None:
    away = Away(tmp_path / "away")
    with machines(tmp_path, "laptop", "server") as (laptop, server):
        laptop.deploy("work", APP)
        for name in ("shop", "late"):
            laptop.motes("creds", name, "--output", str(tmp_path / f"{name}.creds"))
        laptop.motes("creds", "--owner", "--output", str(tmp_path / "owner.creds"))
        away.motes("context", "add", "mine", "--creds", str(tmp_path / "owner.creds"))
        away.motes("context", "add", "shop", "--creds", str(tmp_path / "shop.creds"))
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**away.environment, "MOTES_CONTEXT": "shop"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdin is not None and program.stdout is not None

        def call(number: int) -> int:
            assert program.stdin is not None and program.stdout is not None
            program.stdin.write(f"{number}\n")
            program.stdin.flush()
            return int(program.stdout.readline())

        try:
            assert call(1) == 2
            assert addresses(away, "shop") == addresses(away, "mine") == [laptop.address]
            move(laptop, server)
            # The program does nothing at all, and follows.
            wait_until(lambda: addresses(away, "shop") == [server.address, laptop.address], "it has followed")
            # A context follows when it is used, by way of the old place, and a file of before does when it is taken.
            assert {each["name"] for each in away.json("--context", "mine", "host", "ls")} == {"local", "server"}
            away.motes("context", "add", "late", "--creds", str(tmp_path / "late.creds"))
            for name in ("mine", "late"):
                assert addresses(away, name) == [server.address, laptop.address], name
            led = {each["name"]: server.address in each["where"] for each in away.json("context", "ls")[1:]}
            assert led == dict.fromkeys(("late", "mine", "shop"), True)
            laptop.down()
            assert call(21) == 42
            for name in ("mine", "shop", "late"):
                assert away.json("--context", name, "call", "work.double", "4") == 8, name
            file = tmp_path / "late.py"
            file.write_text("from motes import function\n\n@function\ndef f() -> int:\n    return 7\n")
            away.motes("--context", "mine", "deploy", str(file))
            assert away.json("--context", "shop", "call", "late.f") == 7
            # And what it gives to others names where the keeper is.
            away.motes("--context", "mine", "creds", "kim", "--output", str(tmp_path / "kim.creds"))
            assert server.address in (tmp_path / "kim.creds").read_text()
        finally:
            program.stdin.close()
            assert program.wait(DEADLINE_S) == 0
            program.stdout.close()


def test_the_owner_follows_also_from_the_machine_that_the_keeper_left_before(tmp_path: Path) -> None:
    """Twice moved: the first place is led to the second, which is gone when it is needed."""
    with machines(tmp_path, "laptop", "server", "third") as (laptop, server, third):
        laptop.deploy("work", APP)
        move(laptop, server)
        done = server.move("third", third.accept())
        assert done.returncode == 0, done
        third.become()
        wait_until(lambda: third.is_up("third"), "it is the keeper")
        assert laptop.json("call", "work.double", "4") == 8
        known = json.loads(laptop.home.keeper_file.read_text())["addresses"]
        assert known == [third.address, server.address]
        server.down()
        assert laptop.json("call", "work.double", "5") == 10
        laptop.deploy("more", APP)
