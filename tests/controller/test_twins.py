"""Two agents in one host's name, and hosts whose Motes does not fit: one is chosen, and gets all the work."""

from __future__ import annotations

import msgspec

from controller.keeper_bench import Bench, FakeHost, function
from motes.controller.core.summary import statuses
from motes.controller.hearing import read_state
from motes.model.host import HostReport, Lease
from motes.model.release import Daemon
from motes.model.wire import OLDEST, WIRE
from motes.version import __version__

WEB = Daemon("web", ("serve",), 8080)


def twin(bench: Bench, boot: int) -> FakeHost:
    """Another agent that calls itself `a`."""
    made = FakeHost("a", bench.hosts["a"].offer)
    made.boot = boot
    return made


def chosen(leases: list[Lease]) -> set[str]:
    return {lease.boot for lease in leases}


def test_a_later_start_gets_the_leases_and_every_agent_in_the_name_is_told_which_it_is() -> None:
    bench = Bench("a")
    bench.deploy(WEB)
    held = bench.hosts["a"].leases["app.web"]
    assert held.boot == "1"
    second = twin(bench, 2)
    report = second.report()
    before = len(bench.gives())
    bench.do(bench.core.on_report(report, bench.now))
    given = bench.gives()[before:]
    assert chosen(given) == {"2"}
    assert any(lease.address == "app.web" and lease.epoch > held.epoch for lease in given)
    assert any(lease.app == "" for lease in given), "without an app it would not be told"
    # The first may still have calls that come to both.
    welcome = bench.core.welcome(report)
    assert not welcome.refusal and welcome.after_s > 0


def test_an_agent_that_started_alone_takes_calls_at_once() -> None:
    bench = Bench("a")
    bench.do(bench.core.on_gone("a", bench.now))
    bench.hosts["a"].boot = 2
    report = bench.hosts["a"].report()
    bench.do(bench.core.on_report(report, bench.now))
    assert bench.core.welcome(report).after_s == 0.0 and not bench.told("host.twin")


def test_the_earlier_of_two_is_refused_as_long_as_the_later_lives_and_it_is_told_once() -> None:
    bench = Bench("a")
    bench.hosts["a"].boot = 5
    bench.report()
    second = twin(bench, 3)
    for _ in range(10):
        report = second.report()
        before = len(bench.gives())
        bench.do(bench.core.on_report(report, bench.now))
        assert chosen(bench.gives()[before:]) == {"5"}
        welcome = bench.core.welcome(report)
        assert welcome.is_taken and "motes invite" in welcome.refusal
        bench.wait(0.5)
    assert [(told.host, str(told.reason)) for told in bench.told("host.twin")] == [("a", "displaced")]
    assert bench.core.state.boot("a") == "5"


def test_one_whose_clock_went_back_is_the_host_once_the_first_is_silent() -> None:
    bench = Bench("a")
    bench.hosts["a"].boot = 5
    bench.report()
    bench.wait(2.0, "a")
    second = twin(bench, 3)
    report = second.report()
    bench.do(bench.core.on_report(report, bench.now))
    assert not bench.core.welcome(report).refusal and bench.core.state.boot("a") == "3"


def test_the_end_of_an_earlier_connection_is_no_end_of_the_host() -> None:
    bench = Bench("a")
    told = msgspec.structs.replace(bench.hosts["a"].report(), connection=8)
    bench.do(bench.core.on_report(told, bench.now))
    bench.do(bench.core.on_gone("a", bench.now, connection=5))
    assert bench.core.state.hosts["a"].lives and not bench.told("host.end")
    bench.do(bench.core.on_gone("a", bench.now, connection=8))
    assert not bench.core.state.hosts["a"].lives


def test_a_connection_of_the_same_number_at_another_server_is_another() -> None:
    bench = Bench("a")
    told = msgspec.structs.replace(bench.hosts["a"].report(), connection=8, server_id="NEW")
    bench.do(bench.core.on_report(told, bench.now))
    bench.do(bench.core.on_gone("a", bench.now, connection=8, server_id="OLD"))
    assert bench.core.state.hosts["a"].lives and not bench.told("host.end")
    bench.do(bench.core.on_gone("a", bench.now, connection=8, server_id="NEW"))
    assert not bench.core.state.hosts["a"].lives


def test_of_a_host_that_does_not_say_at_which_server_it_is_the_number_alone_tells() -> None:
    bench = Bench("a")
    told = msgspec.structs.replace(bench.hosts["a"].report(), connection=8)
    bench.do(bench.core.on_report(told, bench.now))
    bench.do(bench.core.on_gone("a", bench.now, connection=8, server_id="ANY"))
    assert not bench.core.state.hosts["a"].lives


# ---------------------------------------------------------------------- wire versions


def test_a_host_of_another_wire_version_is_seen_and_gets_no_work() -> None:
    for wire, state, older in ((OLDEST - 1, "too old", "host 'a'"), (WIRE + 1, "too new", "the keeper")):
        bench = Bench("a", "b")
        bench.deploy(WEB, function(least=4))
        report = msgspec.structs.replace(bench.hosts["a"].report(), wire=wire, version="9.9")
        bench.do(bench.core.on_report(report, bench.now))
        bench.wait(1.0)
        (status,) = (each for each in statuses(bench.core.state) if each.name == "a")
        assert status.state == state
        for words in ("9.9", __version__, f"install the newer Motes for {older}"):
            assert words in status.advice and words in bench.core.welcome(report).refusal
        assert bench.routed() == ("b",) and bench.routed("web") == ("b",)
        assert "a" not in bench.ceilings() and "a" not in bench.ceilings("web")


def test_a_host_that_fits_again_gets_work_again() -> None:
    bench = Bench("a")
    bench.deploy(function(least=1))
    bench.do(bench.core.on_report(msgspec.structs.replace(bench.hosts["a"].report(), wire=WIRE + 1), bench.now))
    assert bench.ceilings() == {}
    bench.report()
    assert list(bench.ceilings()) == ["a"]


def test_what_a_report_says_beside_all_that_is_known_is_passed_over() -> None:
    told = msgspec.to_builtins(Bench("a").hosts["a"].report())
    told |= {"colour": "green", "wire": WIRE, "more": {"of": ["it"]}}
    assert isinstance(read_state(msgspec.msgpack.encode(told)), HostReport)


def test_a_report_that_cannot_be_read_says_at_least_of_whom_and_of_which_version_it_is() -> None:
    told = {"host": "a", "boot": "7", "wire": WIRE + 3, "version": "4.0", "offer": "everything", "held": 1}
    read = read_state(msgspec.msgpack.encode(told))
    assert (read.host, read.boot, read.wire, read.version, read.offer.spaces) == ("a", "7", WIRE + 3, "4.0", 0)


def test_an_agent_that_tells_no_version_speaks_the_first() -> None:
    told = msgspec.to_builtins(Bench("a").hosts["a"].report())
    del told["wire"]
    assert read_state(msgspec.msgpack.encode(told)).wire == 1
