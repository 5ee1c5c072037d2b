"""Spaces and releases: made, failed, replaced, forgotten."""

from __future__ import annotations

import msgspec

from agent.lent_host import DONE, LentHost, function
from motes.agent.core.effects import Close, Fetch, Prepare, Spawn, Tell
from motes.agent.core.pool import CRASHES_FREE
from motes.agent.core.state import HELD_BYTES
from motes.bus.server import MAX_PAYLOAD_BYTES
from motes.errors import (
    LoadFailed,
    NotFound,
    SpaceFailed,
    Unavailable,
)
from motes.model.call import STATUS_ERROR, STATUS_TRY_ELSEWHERE
from motes.model.instance import EndReason
from motes.space.opening import MESSAGE_LIMIT


def test_calls_wait_while_their_space_is_made() -> None:
    host = LentHost(by_hand=[Prepare])
    host.lease()
    calls = [host.call() for _ in range(3)]
    assert len(host.seen(Prepare)) == 1 and not host.seen(Spawn)
    host.do(host.machine.on_space_ready("r1", host.now))
    for _ in range(5):
        host.wait(0.01)
        for number in host.busy():
            host.reply(number)
    assert all(host.answers(call) == [DONE] for call in calls)


def test_a_space_that_fails_sends_its_calls_elsewhere_and_is_tried_again_later_each_time() -> None:
    host = LentHost(by_hand=[Prepare])
    host.lease()
    waits = []
    for number in range(1, 4):
        while not isinstance(prepared(host, number, host.call()), bool):
            host.wait(0.25)
        waits.append(host.now)
        host.do(host.machine.on_space_failed("r1", SpaceFailed("no namespaces"), host.now))
    refused = host.call()
    assert isinstance(host.error(refused), SpaceFailed)
    assert host.answers(refused)[0].status == STATUS_TRY_ELSEWHERE
    assert waits[1] - waits[0] < waits[2] - waits[1]


def test_a_release_that_cannot_load_is_the_owners_matter_and_not_tried_elsewhere() -> None:
    host = LentHost(by_hand=[Prepare])
    host.lease()
    call = host.call()
    host.do(host.machine.on_space_failed("r1", LoadFailed("no module named x"), host.now))
    assert isinstance(host.error(call), LoadFailed)
    assert host.answers(call)[0].status == STATUS_ERROR


def test_what_an_app_says_of_its_failure_does_not_make_a_report_too_long_to_be_sent() -> None:
    names = [f"f{number}" for number in range(1000)]
    host = LentHost(*map(function, names), by_hand=[Prepare])
    for name in names:
        host.lease(name)
    host.do(host.machine.on_space_failed("r1", LoadFailed("\N{BUG}" * MESSAGE_LIMIT), host.now))
    held = host.machine.held(host.now)
    assert len(held) == len(names) and all(each.failing for each in held.values())
    assert len(msgspec.msgpack.encode(held)) < MAX_PAYLOAD_BYTES / 4


def test_calls_wait_for_what_is_fetched_soon_and_go_elsewhere_when_much_has_still_to_come() -> None:
    host = LentHost(by_hand=[Fetch, Prepare])
    host.lease()
    early = host.call()
    host.do(host.machine.on_fetching("r1", HELD_BYTES))
    assert host.answers(early) == [] and host.machine.load()["app.f"].fetching == 0
    host.do(host.machine.on_fetching("r1", 100 * 2**20))
    late = host.call()
    for call in (early, late):
        error = host.error(call)
        assert host.answers(call)[0].status == STATUS_TRY_ELSEWHERE
        assert isinstance(error, SpaceFailed) and error.detail["fetching_bytes"] == 100 * 2**20
        assert error.message == "app.f: host 'h' is still fetching what it needs (100 MiB to come)"
    assert host.machine.load()["app.f"].fetching == 100 * 2**20
    host.do(host.machine.on_fetching("r1", 2**20))
    waiting = host.call()
    assert host.answers(waiting) == [] and host.machine.load()["app.f"].fetching == 0
    host.do(host.machine.on_release("r1", host.manifests["r1"], host.now))
    assert len(host.seen(Prepare)) == 1


def test_while_a_new_release_is_fetched_the_old_one_serves() -> None:
    host = LentHost()
    host.lease()
    host.call()
    host.wait(0.01)
    host.reply(host.busy()[0])
    host.by_hand = (Fetch,)
    host.manifests["r2"] = host.manifests["r1"]
    host.lease(release="r2")
    host.do(host.machine.on_fetching("r2", 100 * 2**20))
    call = host.call()
    assert host.answers(call) == [] and all(each.fetching == 0 for each in host.machine.load().values())


def test_a_fetch_that_failed_is_not_under_way() -> None:
    host = LentHost(by_hand=[Fetch])
    host.lease()
    host.do(host.machine.on_fetching("r1", 100 * 2**20))
    host.do(host.machine.on_fetch_failed("r1", Unavailable("no keeper"), host.now))
    host.do(host.machine.on_fetching("r1", 100 * 2**20))
    assert host.machine.load() == {}
    assert "no keeper" in host.error(host.call()).message


def test_a_bundle_that_cannot_be_had_sends_calls_elsewhere_and_is_fetched_again() -> None:
    host = LentHost(by_hand=[Fetch])
    host.lease()
    call = host.call()
    host.do(host.machine.on_fetch_failed("r1", Unavailable("no keeper"), host.now))
    assert isinstance(host.error(call), SpaceFailed)
    (told,) = [each for each in host.seen(Tell) if each.what == "start.failed"]
    assert (told.address, told.release, told.detail) == ("app.f", "r1", "no keeper")
    host.wait(1.0)
    assert len(host.seen(Fetch)) == 2
    host.do(host.machine.on_release("r1", host.manifests["r1"], host.now))
    host.call()
    assert len(host.busy()) == 1


def test_where_every_start_fails_calls_go_elsewhere_instead_of_waiting() -> None:
    host = LentHost(by_hand=[Spawn])
    host.lease()
    call = host.call()
    while not host.answers(call):
        number = host.live()[0]
        host.end(number, EndReason.SPACE_FAILED, "cannot fork")
    assert isinstance(host.error(call), SpaceFailed)
    assert host.answers(call)[0].status == STATUS_TRY_ELSEWHERE
    assert len(host.seen(Spawn)) <= CRASHES_FREE + 2
    assert isinstance(host.error(host.call()), SpaceFailed)
    assert host.machine.held(host.now)["app.f"].failing
    host.wait(60.0)
    assert not host.answers(host.call())


def test_a_start_that_fails_once_costs_its_call_nothing() -> None:
    host = LentHost(by_hand=[Spawn])
    host.lease()
    call = host.call()
    host.end(host.live()[0], EndReason.SPACE_FAILED)
    (number,) = host.live()
    host.do(host.machine.on_started(number, 7, host.now))
    host.reply(number)
    assert host.answers(call) == [DONE]


def test_a_call_whose_start_fails_after_the_lease_has_ended_goes_elsewhere() -> None:
    host = LentHost(by_hand=[Spawn])
    host.lease()
    call = host.call()
    (number,) = host.live()
    host.lease(ceiling=0)
    host.end(number, EndReason.SPACE_FAILED)
    assert isinstance(host.error(call), NotFound)
    assert not host.machine.calls and not host.machine.pools


def test_a_space_that_ends_by_itself_is_made_again_when_needed() -> None:
    host = LentHost()
    host.lease(floor=1)
    host.end(host.live()[0], EndReason.SPACE_FAILED)
    for number in host.live():
        host.end(number, EndReason.SPACE_FAILED)
    host.do(host.machine.on_space_closed("r1", "killed", host.now))
    host.wait(1.0)
    assert len(host.live()) == 1


def test_a_new_release_takes_over_under_load_and_no_call_is_refused() -> None:
    host = LentHost(by_hand=[Prepare])
    host.manifests["r2"] = host.manifests["r1"]
    host.lease(ceiling=4)
    calls = [host.call()]
    host.do(host.machine.on_space_ready("r1", host.now))
    host.lease(ceiling=4, release="r2")
    for step in range(20):
        calls.append(host.call())
        host.wait(0.005)
        for number in host.busy()[:2]:
            host.reply(number)
        if step == 10:
            assert {host.machine.instances[number].release for number in host.live()} == {"r1"}
            host.do(host.machine.on_space_ready("r2", host.now))
    while host.busy():
        host.reply(host.busy()[0])
    assert all(host.answers(call) == [DONE] for call in calls)
    assert {host.machine.instances[number].release for number in host.live()} == {"r2"}
    assert set(host.ends()) == {"replaced"}
    assert [effect.release for effect in host.seen(Close)] == ["r1"]


def test_a_new_release_that_cannot_load_here_leaves_the_old_one_serving() -> None:
    host = LentHost(by_hand=[Prepare])
    host.manifests["r2"] = host.manifests["r1"]
    host.lease(floor=1)
    host.do(host.machine.on_space_ready("r1", host.now))
    host.lease(floor=1, release="r2")
    host.do(host.machine.on_space_failed("r2", SpaceFailed("full"), host.now))
    call = host.call()
    host.reply(host.busy()[0])
    assert host.answers(call) == [DONE]


def test_after_a_quiet_time_the_next_call_finds_the_new_release() -> None:
    host = LentHost(function(idle_s=1.0))
    host.manifests["r2"] = host.manifests["r1"]
    host.lease()
    host.call()
    host.reply(host.busy()[0])
    host.wait(2.0)
    host.lease(release="r2")
    host.call()
    assert [host.machine.instances[number].release for number in host.busy()] == ["r2"]


def test_releases_that_no_lease_names_are_forgotten() -> None:
    host = LentHost()
    for number in range(2, 30):
        host.manifests[f"r{number}"] = host.manifests["r1"]
        host.lease(floor=1, release=f"r{number}")
    host.wait(1.0)
    assert set(host.machine.spaces) == {"r29"}


def prepared(host: LentHost, times: int, call: bytes) -> bool | None:
    host.cancel(call)
    return True if len(host.seen(Prepare)) >= times else None
