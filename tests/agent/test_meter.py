"""What each app uses is added up from one cut to the next, once."""

from __future__ import annotations

from pytest import approx

from agent.lent_host import DONE, LentHost, function
from motes.agent.core.limits import Usage
from motes.model.call import Outcome
from motes.model.host import Lease
from motes.model.instance import EndReason
from motes.model.receipt import Permit, Spent

MIB = 2**20


def cut(host: LentHost, cpu_s: dict[str, float] | None = None) -> Spent:
    """What the one app used."""
    return host.machine.cut(cpu_s or {}, host.now).get("app", Spent())


def test_calls_starts_and_the_bytes_of_bodies_and_answers_are_counted_once() -> None:
    host = LentHost()
    host.lease()
    host.call(body=b"12345")
    host.reply(host.busy()[0], Outcome(0, b"123"))
    assert cut(host) == Spent(calls=1, starts=1, in_bytes=5, out_bytes=3)
    assert cut(host) == Spent()
    host.call(body=b"1")
    host.reply(host.busy()[0], DONE)
    assert cut(host) == Spent(calls=1, in_bytes=1, out_bytes=1)


def test_the_items_of_a_stream_are_bytes_of_an_answer() -> None:
    host = LentHost(function(streams=True))
    host.lease()
    host.call(body=b"")
    number = host.busy()[0]
    (tag,) = host.machine.instances[number].calls_now
    host.do(host.machine.on_item(number, tag, b"1234"))
    assert cut(host).out_bytes == 4
    host.reply(number, Outcome(0, b""))
    assert cut(host).out_bytes == 0


def test_instances_are_there_from_their_start_to_their_end_whenever_the_accounts_are_cut() -> None:
    host = LentHost(function(idle_s=1000.0))
    host.now = 100.0
    host.lease(floor=2)
    host.wait(3.0)
    assert cut(host).instance_s == approx(6.0)
    host.wait(2.0)
    host.end(host.live()[0], EndReason.CRASHED)
    host.wait(0.5)
    living = len(host.live()) - 1
    assert cut(host).instance_s == approx(2.0 + 2.5 + 0.5 * living)


def test_an_instance_that_lives_between_two_looks_is_counted_with_its_cpu_time() -> None:
    host = LentHost(function(reuse="call"))
    host.lease()
    host.call()
    host.now += 0.05
    host.reply(host.busy()[0], cpu_s=0.04)
    assert host.live() == []
    spent = cut(host)
    assert (spent.instance_s, spent.cpu_s) == (approx(0.05), approx(0.04))


def test_memory_counts_for_as_long_as_until_the_next_look_and_what_is_shared_too() -> None:
    host = LentHost(function(idle_s=1000.0))
    host.lease(floor=1)
    (number,) = host.live()
    for _ in range(5):
        host.do(host.machine.on_usage({number: Usage(0.0, 2 * MIB)}, 5 * MIB, host.now, {"app": 3 * MIB, "b": MIB}))
        host.now += 0.25
    spent = host.machine.cut({}, host.now)
    assert spent["app"].memory_byte_s == approx(5 * MIB * 1.0)
    assert spent["b"].memory_byte_s == approx(MIB * 1.0)


def test_cpu_time_is_what_the_kernel_has_counted_since_the_last_cut() -> None:
    host = LentHost()
    assert cut(host, {"app": 1.5}).cpu_s == approx(1.5)
    assert cut(host, {"app": 1.75}).cpu_s == approx(0.25)
    assert cut(host, {"app": 1.75}) == Spent()
    # Too little for a batch of its own is not forgotten.
    assert cut(host, {"app": 1.7505}) == Spent()
    assert cut(host, {"app": 1.7515}).cpu_s == approx(0.0015)


def test_an_app_that_hides_its_processes_from_the_kernels_sum_is_counted_by_what_was_seen() -> None:
    host = LentHost(function(idle_s=1000.0))
    host.lease(floor=1)
    (number,) = host.live()
    host.do(host.machine.on_usage({number: Usage(4.0, MIB)}, MIB, host.now))
    assert cut(host, {"app": 0.5}).cpu_s == approx(4.0)
    host.end(number, EndReason.CRASHED)
    assert cut(host, {"app": 0.5}).cpu_s == 0.0
    assert cut(host, {"app": 4.5}).cpu_s == approx(0.5)


def test_an_app_of_which_there_was_nothing_has_no_batch() -> None:
    host = LentHost()
    host.lease()
    assert host.machine.cut({"app": 0.0, "other": 0.0}, 10.0) == {}


def test_the_last_lease_and_the_releases_signer_are_remembered_also_when_the_lease_has_ended() -> None:
    host = LentHost()
    host.do(host.machine.on_lease(Lease("h", "app", "f", "r1", 5, 0, 1, b"proof"), 0.0))
    host.do(host.machine.on_lease(Lease("h", "app", "f", "r1", 0, 0, 2, b"ended"), 0.0))
    assert host.machine.meter.permits == {"app": Permit("f", 5, 1, b"proof")}
    host.do(host.machine.on_release("r1", host.manifests["r1"], 0.0, b"a" * 32))
    assert host.machine.meter.owners["app"] == b"a" * 32
