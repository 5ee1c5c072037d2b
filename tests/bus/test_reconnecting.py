"""How often a connection is tried again, and what is said of several addresses."""

from __future__ import annotations

import asyncio
import logging

import pytest

from conftest import NatsServer
from motes.bus.connection import REFUSAL, Connection, is_not_taken, most_telling, next_wait_s
from motes.errors import Unavailable, Untrusted
from motes.grants import jwt, roles
from motes.grants.keys import Key
from waiting import until

GONE = Unavailable("connect call failed")
REFUSED = Unavailable("no connection", refused=REFUSAL)
ANOTHER = Untrusted("another cluster answers there")


def test_a_server_that_is_away_is_tried_four_times_a_second_and_one_that_refuses_once_a_minute_in_the_end() -> None:
    wait_s = 0.05
    for _ in range(40):
        wait_s = next_wait_s(wait_s, GONE)
    assert wait_s == 0.25
    asked, asked_s = 0, 0.0
    while asked_s < 3600:
        wait_s = next_wait_s(wait_s, REFUSED)
        asked, asked_s = asked + 1, asked_s + wait_s
    assert wait_s == 60.0 and asked < 75
    assert next_wait_s(wait_s, GONE) == 0.25
    assert next_wait_s(1.0, GONE, 1.0) == 1.0


def test_of_several_addresses_the_one_counts_that_knows_most() -> None:
    assert most_telling([GONE, ANOTHER, REFUSED]) is REFUSED
    assert most_telling([GONE, ANOTHER]) is ANOTHER
    assert most_telling([GONE, Unavailable("a dead loopback")]) is GONE


def test_a_key_that_opens_nothing_any_more_is_said_once_and_tried_until_it_does(
    own_nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        user = own_nats_server.home.credentials("gateway")
        connection = await Connection.open(own_nats_server.url, user)
        try:
            connection.credentials = jwt.credentials(Key.generate(), roles.host("other"))
            own_nats_server.stop()
            await until(lambda: connection.trouble is not None)
            assert not is_not_taken(connection.trouble)
            own_nats_server.start()
            await until(lambda: is_not_taken(connection.trouble))
            first = connection.trouble
            await until(lambda: connection.trouble is not first)
            connection.credentials = user
            await until(lambda: connection.connected)
            assert connection.trouble is None
        finally:
            await connection.close()

    with caplog.at_level(logging.INFO, "motes.bus"):
        asyncio.run(asyncio.wait_for(story(), 60.0))
    assert len([each for each in caplog.records if REFUSAL in each.getMessage()]) == 1
