"""Items of streams through the agent's core: only as many as the caller takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agent.lent_host import DONE, LentHost, function
from agent.test_asking import host as calling_host
from motes.agent.core.effects import Answer, More, RelayMore
from motes.agent.core.streams import break_streams
from motes.agent.service import Agent
from motes.errors import HostLost, TooLarge
from motes.model.call import STATUS_ITEM, WINDOW_ITEMS
from motes.model.instance import EndReason


def a_call() -> tuple[LentHost, bytes, int]:
    host = LentHost(function(streams=True))
    host.lease()
    call = host.call()
    return host, call, host.live()[0]


def item(host: LentHost, number: int, body: bytes = b"1", tag: int = 1) -> None:
    host.do(host.machine.on_item(number, tag, body))


def test_items_go_to_everybody_who_waits_and_the_end_is_the_answer() -> None:
    host, call, number = a_call()
    item(host, number, b"1"), item(host, number, b"2")
    host.reply(number)
    assert [outcome.body for outcome in host.answers(call)] == [b"1", b"2", DONE.body]
    assert [outcome.status for outcome in host.answers(call)] == [STATUS_ITEM, STATUS_ITEM, DONE.status]
    item(host, number)
    assert len(host.answers(call)) == 3, "after the end comes nothing"


def test_an_instance_that_sends_more_than_is_taken_is_ended() -> None:
    host, call, number = a_call()
    for _ in range(WINDOW_ITEMS):
        item(host, number)
    host.do(host.machine.on_more(call, 1))
    assert host.seen(More) == [More(number, 1, 1)]
    item(host, number)
    assert host.live() == [number]
    item(host, number)
    assert host.ends() == [EndReason.PROTOCOL]


def test_a_caller_cannot_open_the_window_wider_than_it_is() -> None:
    host, call, number = a_call()
    item(host, number)
    host.do(host.machine.on_more(call, 2**31))
    assert host.seen(More) == [More(number, 1, 1)]
    host.do(host.machine.on_more(call, 1))
    host.do(host.machine.on_more(b"\0" * 16, 1))
    assert len(host.seen(More)) == 1


def test_items_of_a_call_that_was_given_up_go_nowhere() -> None:
    host = LentHost(function(streams=True, concurrency=3))
    host.lease()
    call = host.call()
    (number,) = host.live()
    host.cancel(call)
    item(host, number)
    assert not host.seen(Answer) and host.live() == [number]


def test_a_stream_whose_connection_broke_ends_with_an_error_for_a_hole_in_it_would_look_whole() -> None:
    host, call, number = a_call()
    item(host, number)
    host.do(break_streams(host.machine, host.now))
    assert isinstance(host.answers(call)[-1].error(), HostLost) and host.ends() == ["cancelled"]
    item(host, number)
    assert len(host.answers(call)) == 2


@pytest.mark.parametrize(("fault", "told"), [(None, "host_lost"), (TooLarge("over what NATS carries"), "too_large")])
def test_a_stream_of_which_an_item_cannot_be_sent_does_not_go_on_without_it(fault: TooLarge | None, told: str) -> None:
    """As one of a MiB where NATS carries a MiB, with the byte that says what it is."""
    host, call, number = a_call()

    def publish(inbox: str, data: bytes) -> bool:
        if fault is not None:
            raise fault
        return False

    agent: Any = SimpleNamespace(machine=host.machine, carry_out=host.do, now=lambda: host.now)
    agent.connection = SimpleNamespace(publish=publish)
    item(host, number)
    Agent._send_item(agent, host.machine.calls[call].replies[0], b"x")  # type: ignore[arg-type]
    assert host.answers(call)[-1].error().code == told and host.ends() == ["cancelled"]


def test_the_gateway_hears_that_items_which_it_has_sent_here_may_be_lost() -> None:
    here = calling_host("f")
    here.call("f")
    asked = [here.ask(here.busy("f")[0], "far.h") for _ in range(2)]
    here.do(break_streams(here.machine, here.now, "_INBOX.other"))
    assert not here.seen(RelayMore)
    here.do(break_streams(here.machine, here.now))
    assert here.seen(RelayMore) == [RelayMore(each.id, 0) for each in asked]


def test_a_stream_of_which_nothing_went_out_yet_is_whole() -> None:
    host, call, _ = a_call()
    host.do(break_streams(host.machine, host.now))
    assert host.answers(call) == [] and host.ends() == []


def test_only_the_stream_that_lost_an_item_ends() -> None:
    host, call, number = a_call()
    other = host.call()
    host.wait(0.1)
    (second,) = set(host.live()) - {number}
    item(host, number), item(host, second)
    host.do(break_streams(host.machine, host.now, other.hex()))
    assert isinstance(host.answers(other)[-1].error(), HostLost)
    assert [outcome.status for outcome in host.answers(call)] == [STATUS_ITEM]
