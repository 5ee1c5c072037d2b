"""Everything that a user of the cluster must not be able to do to another, in one list.

    who \\ crosses to   another host           the controller          the store       another caller       an app
    host               hear, beat, report,    lease, release, verbs   all of JS API   answer, replay       code, logs
                       lease, leave, token
    caller             hear, call, ps         verbs                   all of JS API   answer, cancel       logs
    guest              hear                   everything but join     all of JS API   hear                 -
    gateway (calls)    hear, lease            verbs of others         all of JS API   answer               -
    gateway (answers)  hear, call             verbs                   all of JS API   hear                 call
    gateway (streams)  hear, call, lease      verbs                   all of JS API   answer               call
    keeper             make it run code       -                       -               -                    -
    stranger           be taken for it        be let in               -               -                    -

Each is tried as it is, which has to fail at every wall alone, and once without the walls, which has to succeed: so the
day a permission is loosened, the first test fails, and no attack stands here that could not hurt (`crossings.py`).

What is no user's crossing is elsewhere: garbage and absurd numbers (`test_hostile_users.py`), old signatures
(`test_keeper_trust.py`), whose call it is (`test_callers.py`), invites (`test_joining.py`), acts after removal
(`test_removal.py`), strangers at the port (`test_strangers.py`), code in a space (`test_attacks.py`), web pages
(`tests/gateway/test_rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from motes.grants import roles
from motes.grants.roles import Role
from motes.model.call import pack_more
from system import deeds
from system.crossings import (
    Crossing,
    Rights,
    Scene,
    does_not,
    has_no_key,
    is_not,
    may_hear_only,
    may_not_hear,
    may_not_publish,
    may_publish_only,
)
from system.deeds import VICTIM
from system.people import People, with_people
from system.running import RunningCluster

HOST, CALLER, OWNER, GUEST = roles.host("evil"), roles.caller("bob"), roles.caller("local"), roles.guest(b"\1" * 32)
GATEWAY, ANSWERING, STREAMING = roles.GATEWAY, roles.ANSWERING, roles.STREAMING

# What each may not hear.
STORE = ("$JS.API.>", "$JS.ACK.>", "$KV.>", "bundle.>", "event.*", "log.*", "receipt.*")
EVERYBODYS = (">", "_INBOX.>", "_INBOX.local.>", "_INBOX.keeper.>", "_INBOX.host-other.>", "$SYS.>", *STORE)
OF_HOSTS = (
    "host.>",
    "host.*.lease",
    "host.other.>",
    "host.*.call.*.*.*",
    "report.*.state",
    "report.*.usage",
    "relay.other.>",
    "host.*.open",
    "host.*.stream.*",
)
BACK = ("relay.*.stream.*", "relay.other.stream.x")
OF_APPS = ("report.*.event", "report.*.log.>")
ASKED = ("keeper.*.*", "keeper.local.>", "fn.*.*", "fn.*.*.*", "$SRV.>")
HEARD_BY_CALLERS = ("beat.*", "gone.*", "route.*")
MAY_NOT_HEAR: dict[Role, tuple[str, ...]] = {
    HOST: (*EVERYBODYS, *OF_HOSTS, *BACK, *OF_APPS, *ASKED, *HEARD_BY_CALLERS),
    CALLER: (*EVERYBODYS, *OF_HOSTS, *BACK, *OF_APPS, *ASKED),
    OWNER: ("_INBOX.keeper.>", "_INBOX.host-other.>", "$SYS.>", *STORE, *OF_HOSTS, *BACK, *ASKED),
    GUEST: (*EVERYBODYS, *OF_HOSTS, *BACK, *OF_APPS, *ASKED, *HEARD_BY_CALLERS),
    GATEWAY: (*EVERYBODYS, *OF_HOSTS, *BACK, *OF_APPS, *ASKED, "relay.*.>"),
    ANSWERING: (*EVERYBODYS, *OF_HOSTS, *BACK, *OF_APPS, *ASKED[:2], *HEARD_BY_CALLERS),
    STREAMING: (*EVERYBODYS, *OF_HOSTS, *OF_APPS, *ASKED, "beat.*", "route.*", "relay.*.call.*.*"),
}

# What each may not say. Of subjects that end with a verb or a name the neighbours count: another host, user, word.
TO_STORE = (
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.DELETE.KV_apps",
    "$JS.API.STREAM.MSG.GET.EVENTS",
    "$JS.API.CONSUMER.CREATE.KV_apps",
    "$JS.API.DIRECT.GET.KV_apps.$KV.apps.a",
    "$JS.ACK.EVENTS.c.1.1.1.1.1",
    "$KV.apps.a",
    "$KV.cluster.generation",
    "bundle.abc.0",
    "event.other",
    "log.a",
    "receipt.other",
)
AS_ANOTHER_HOST = (
    "beat.other",
    "report.other.state",
    "report.other.usage",
    "receipt.local",
    "receipt.other",
    "report.other.event",
    "report.other.log.a.f",
    "report.other.usage",
    "relay.other.call.a.f",
    "relay.other.stream.x",
    "keeper.host-other.release-get",
    "keeper.host-other.leave",
)
AS_THE_KEEPER = (
    "host.other.lease",
    "host.other.inspect",
    "host.other.keeper",
    "host.other.shut",
    "shut",
    "host.evil.lease",
    "gone.other",
    "route.a",
    "report.keeper.event",
    "keeper.keeper.routes",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SRV.REGISTER",
)
AS_ANOTHER_CALLER = (
    "host.other.call.a.f.ada",
    "host.other.call.a.f",
    "host.other.call.a.f.ada.bob",
    "fn.a.f.ada",
    "keeper.local.deploy",
    "keeper.ada.routes",
)
ANSWERS = ("_INBOX.local.x.request.y", "_INBOX.host-other.x.call.y")
NO_ANSWERS = ("_INBOX.local.x", "_INBOX.keeper.x.y", "_INBOX.local.x.request.y.z")
STREAMS = ("host.other.open", "host.other.stream.x")
CALLS = ("host.other.call.a.f.evil", "host.other.cancel", "host.other.more", "host.other.ps", "fn.a.f", "$SRV.PING")
MAY_NOT_SAY: dict[Role, tuple[str, ...]] = {
    HOST: (*TO_STORE, *AS_ANOTHER_HOST, *AS_THE_KEEPER, *AS_ANOTHER_CALLER, *NO_ANSWERS, *CALLS, *STREAMS),
    CALLER: (
        *(*TO_STORE, *AS_ANOTHER_HOST, *AS_THE_KEEPER, *AS_ANOTHER_CALLER, *NO_ANSWERS, *ANSWERS, *STREAMS),
        "host.other.ps",
    ),
    OWNER: (*TO_STORE, *AS_ANOTHER_HOST, *AS_THE_KEEPER, *AS_ANOTHER_CALLER[:4], *NO_ANSWERS, *ANSWERS, *STREAMS),
    GUEST: (
        *(*TO_STORE, *AS_ANOTHER_HOST, *AS_THE_KEEPER, *AS_ANOTHER_CALLER, *NO_ANSWERS, *ANSWERS, *CALLS, *STREAMS),
        *(f"keeper.{GUEST.user}.apps", f"keeper.{GUEST.user}.invite", "keeper.guest-0000000000000000.join"),
    ),
    GATEWAY: (*TO_STORE, *AS_ANOTHER_HOST, *AS_THE_KEEPER, *AS_ANOTHER_CALLER, *NO_ANSWERS, *ANSWERS, *STREAMS),
    ANSWERING: (
        *(*TO_STORE, *AS_ANOTHER_HOST, *AS_THE_KEEPER, *AS_ANOTHER_CALLER, "_INBOX.x", *CALLS, *STREAMS),
        *("host.other.call.a.f.gateway-answers", "keeper.gateway.routes", "keeper.gateway-answers.routes"),
    ),
    STREAMING: (
        *(*TO_STORE, *AS_ANOTHER_HOST, *AS_THE_KEEPER, *AS_ANOTHER_CALLER, *NO_ANSWERS, *ANSWERS, *CALLS),
        *("host.other.call.a.f.gateway-streams", "keeper.gateway-streams.routes", "relay.evil.stream.x"),
    ),
}
SUBJECTS = [
    *(
        Crossing(who, f"hears {pattern}", deeds.hear(pattern), (may_not_hear(pattern),))
        for who, patterns in MAY_NOT_HEAR.items()
        for pattern in patterns
    ),
    *(
        Crossing(who, f"says {subject}", deeds.say(subject), (may_not_publish(subject),))
        for who, subjects in MAY_NOT_SAY.items()
        for subject in subjects
    ),
]

# What takes more than one message, or is stopped by more than a permission.
OWN_INBOX = does_not("ask for it at its own inbox")
NO_LEASE = may_not_publish("host.local.lease")
OWNERS_VERBS = (
    *("hosts", "apps", "events", "logs", "inspect", "deploy", "remove", "fetching", "bundle-has", "bundle-put"),
    *("invite", "drain", "expel", "claim", "callers", "caller-admit", "caller-withdraw", "host-name", "usage"),
    *("successor", "revocations"),
)
HOSTS_VERBS = ("bundle-get", "release-get", "leave", "quit")
CALLERS_VERBS = ("routes", "activate", "tools", "services", "where")
GATEWAYS_VERBS = ("shut-out",)
DEEDS = [
    Crossing(
        HOST,
        "reports that another drains",
        deeds.report_that_another_drains,
        (may_not_publish(f"report.{VICTIM}.state"),),
    ),
    Crossing(
        HOST,
        "beats for one that is silent",
        deeds.beat_for_a_host_that_is_silent,
        (may_not_publish(f"beat.{VICTIM}"),),
    ),
    Crossing(HOST, "signs another off", deeds.sign_another_off, (may_not_publish(f"keeper.host-{VICTIM}.leave"),)),
    Crossing(HOST, "shows another's token", deeds.show_anothers_token, (does_not("hold its key"),)),
    Crossing(HOST, "makes itself a token", deeds.make_itself_a_token, (has_no_key("account"),)),
    Crossing(HOST, "signs a lease for another", deeds.sign_a_lease_for_another, (NO_LEASE, has_no_key("controller"))),
    *(
        Crossing(
            who,
            "has a caller served no more",
            deeds.have_a_caller_served_no_more,
            (may_not_publish("host.local.shut"), has_no_key("controller")),
        )
        for who in (HOST, CALLER)
    ),
    Crossing(
        HOST,
        "passes its own lease on",
        deeds.pass_its_own_lease_on,
        (NO_LEASE, does_not("have one that names the other")),
    ),
    Crossing(
        roles.host("local"),
        "brings an ended lease of its own back",
        deeds.bring_an_ended_lease_back,
        (NO_LEASE, does_not("have one that is newer")),
    ),
    Crossing(
        HOST,
        "deploys what it has signed",
        deeds.deploy_what_the_owner_has_not_signed,
        (may_not_publish("keeper.local.deploy"), has_no_key("owner")),
    ),
    Crossing(
        roles.KEEPER,
        "has a host load what the owner has not signed",
        deeds.have_a_host_load_what_the_owner_has_not_signed,
        (has_no_key("owner"),),
    ),
    Crossing(
        HOST,
        "has the store read out to another",
        deeds.have_the_store_read_out_to_another,
        (may_not_publish("$JS.API.DIRECT.GET.KV_apps"),),
    ),
    Crossing(
        HOST,
        "has the store delivered to another",
        deeds.have_the_store_delivered_to_another,
        (may_not_publish("$JS.API.CONSUMER.CREATE.KV_apps"),),
    ),
    Crossing(
        HOST,
        "has the server trace to another",
        deeds.have_the_server_trace_to_another,
        (may_not_publish(f"host.{VICTIM}.lease"),),
    ),
    *(
        Crossing(who, f"has {subject} answered to another", deeds.have_answered_to_another(subject, data), (OWN_INBOX,))
        for who, subject, data in (
            (HOST, f"keeper.{HOST.user}.release-get", b"\xa1x"),
            (HOST, "relay.evil.call.hello.greet", deeds.a_call('"x"')),
            (CALLER, f"keeper.{CALLER.user}.services", b"\xc0"),
            (CALLER, f"host.local.call.hello.greet.{CALLER.user}", deeds.a_call('"x"')),
            (CALLER, "host.local.more", pack_more(bytes(16), 0)),
            (OWNER, "host.local.ps", b""),
            (CALLER, f"fn.hello.greet.{CALLER.user}", b'"x"'),
            (CALLER, "$SRV.PING.hello", b""),
            (GUEST, f"keeper.{GUEST.user}.join", b"\xc0"),
        )
    ),
    Crossing(HOST, "reads an app's code", deeds.read_an_apps_code, (is_not(roles.host("local")),)),
    Crossing(HOST, "calls undeclared", deeds.have_called_what_is_not_declared, (is_not(roles.host("local")),)),
    *(
        Crossing(who, "connects to a daemon", deeds.connect_to_a_daemon, (may_not_publish("host.local.open"),))
        for who in (CALLER, HOST, OWNER, GUEST)
    ),
    Crossing(CALLER, "asks a host what runs", deeds.ask_a_host_what_runs, (may_not_publish("host.*.ps"),)),
    *(
        Crossing(
            who,
            "replays a call",
            deeds.replay_a_call,
            (may_not_publish("host.local.call.hello.count.ada"), does_not("give it another id")),
        )
        for who in (HOST, CALLER)
    ),
    Crossing(
        HOST,
        "answers another's call",
        deeds.answer_anothers_call,
        (does_not("know the call's id"), does_not("come before its host")),
    ),
    Crossing(
        CALLER,
        "answers another's call",
        deeds.answer_anothers_call,
        (
            may_not_publish("_INBOX.*.*.call.*"),
            does_not("know the call's id"),
            does_not("come before its host"),
        ),
    ),
    Crossing(CALLER, "ends another's call", deeds.end_anothers_call, (does_not("know the call's id"),)),
    *(
        Crossing(who, f"asks for {verb}", deeds.use_a_verb(verb), (is_not(OWNER),))
        for who in (CALLER, HOST)
        for verb in OWNERS_VERBS
    ),
    *(
        Crossing(who, f"asks for {verb}", deeds.use_a_verb(verb), (is_not(HOST),))
        for who in (CALLER, OWNER)
        for verb in HOSTS_VERBS
    ),
    *(Crossing(HOST, f"asks for {verb}", deeds.use_a_verb(verb), (is_not(OWNER),)) for verb in CALLERS_VERBS),
    *(
        Crossing(who, f"asks for {verb}", deeds.use_a_verb(verb), (is_not(GATEWAY),))
        for who in (CALLER, HOST, OWNER)
        for verb in GATEWAYS_VERBS
    ),
    *(Crossing(who, "asks for join", deeds.use_a_verb("join"), (is_not(GUEST),)) for who in (CALLER, OWNER, HOST)),
    Crossing(GUEST, "sends much", deeds.send_much, (may_publish_only(roles.GUEST_PAYLOAD_BYTES),)),
    Crossing(GUEST, "hears much", deeds.hear_on_many_subjects, (may_hear_only(roles.MOST_HEARD_BY_GUEST),)),
    Crossing(
        roles.caller("stranger"),
        "has another taken for gone",
        deeds.have_another_taken_for_gone,
        (has_no_key("account"),),
    ),
]

HELLO = """
    import time
    from motes import function

    total = 0

    @function
    def greet(name: str) -> str:
        return f"hello {name}"

    @function
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function(scale=(0, 1), idle="5 min")
    def count() -> int:
        global total
        total += 1
        return total

    @function(calls=[greet])
    def pass_on(name: str) -> str:
        return greet.remote(name)
"""
PRIZE = """
    from motes import function

    @function
    def win() -> int:
        return 1
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster with two apps on one honest host, and the caller ada."""
    with RunningCluster(tmp_path_factory.mktemp("crossings") / "home") as cluster:
        cluster.up()
        cluster.deploy("hello", HELLO)
        cluster.deploy("prize", PRIZE)
        cluster.make_keys(roles.caller("ada"))
        yield cluster


def succeeds(cluster: Any, crossing: Crossing, rights: Rights) -> bool:
    """Whether an attacker with these rights gets through."""
    results: list[bool] = []

    async def work(people: People) -> None:
        results.append(await crossing.attack(Scene(cluster, people, rights)))

    with_people(cluster, work)
    return results == [True]


@pytest.mark.parametrize("crossing", SUBJECTS, ids=str)
def test_a_subject_that_is_not_for_a_user_is_neither_heard_nor_used(nats_server: Any, crossing: Crossing) -> None:
    assert not succeeds(nats_server, crossing, Rights(crossing.who))


@pytest.mark.parametrize("crossing", SUBJECTS, ids=str)
def test_with_the_permission_it_would_be(nats_server: Any, crossing: Crossing) -> None:
    assert succeeds(nats_server, crossing, crossing.without())


@pytest.mark.parametrize("crossing", DEEDS, ids=str)
def test_a_crossing_fails_at_each_wall_alone(cluster: RunningCluster, crossing: Crossing) -> None:
    for wall in crossing.walls:
        assert not succeeds(cluster, crossing, crossing.without(wall)), f"got through, though it {wall.what}"


@pytest.mark.parametrize("crossing", DEEDS, ids=str)
def test_without_its_walls_it_would_succeed(cluster: RunningCluster, crossing: Crossing) -> None:
    assert succeeds(cluster, crossing, crossing.without())
