"""How each attack is carried out; which of them there are, and what stands in their way, is in `test_crossings.py`.

An attack says whether it succeeded. It looks only when everything that it sent has been dealt with.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time

import msgspec

from motes.bus.connection import Connection
from motes.errors import MotesError, Refused, TimedOut, Unavailable, Untrusted
from motes.grants import jwt, roles, shut_out
from motes.grants.keys import Key, Nkey, Tag, sign
from motes.model.call import CALL_ID_BYTES, STATUS_OK, Context, Outcome, pack_request, unpack_reply
from motes.model.credentials import Credentials
from motes.model.host import Beat, HostReport, Lease
from motes.model.keeper import AppSummary, Deploy, GetChunk, Inspect, decode_answer
from motes.model.release import Manifest, Release, Signed, release_id
from motes.router.tunnel import Open, Opened
from system.crossings import Attack, Ear, Scene, report_of, sample, user_of
from system.running import DEADLINE_S
from waiting import until

VICTIM = "victim"
QUIET_S = 0.3
"""How long what must not come has time to come, after all that was sent has been dealt with."""
_numbers = itertools.count()


def hear(pattern: str) -> Attack:
    """Overhear a subject, alone or as one of a queue group."""

    async def attack(scene: Scene) -> bool:
        attacker, keeper = await scene.attacker(), await scene.keeper()
        ears = [await Ear.at(attacker, pattern), await Ear.at(attacker, pattern, "q")]
        keeper.publish(sample(pattern), b"secret")
        return any([await ear.hears_of(keeper) for ear in ears])

    return attack


def say(subject: str) -> Attack:
    """Be heard on a subject, by whoever hears everything."""

    async def attack(scene: Scene) -> bool:
        attacker, keeper = await scene.attacker(), await scene.keeper()
        ear = await Ear.at(keeper, subject)
        attacker.publish(subject, b"forged", f"{attacker.inbox}.request.x")
        return await ear.hears_of(attacker)

    return attack


async def victim(scene: Scene) -> tuple[Connection, str]:
    """An honest host that the controller has just heard of, and its boot."""
    host, boot = await scene.join(roles.host(VICTIM)), f"{time.time_ns():016x}"
    report = msgspec.msgpack.encode(report_of(VICTIM, boot))
    await host.request(f"report.{VICTIM}.state", report, DEADLINE_S)
    return host, boot


# From here on: a host, against another host.


async def report_that_another_drains(scene: Scene) -> bool:
    _, _ = await victim(scene)
    attacker = await scene.attacker()
    forged = msgspec.msgpack.encode(report_of(VICTIM, f"{time.time_ns():016x}", draining=True))
    for subject in (f"report.{VICTIM}.state", f"report.{attacker.user.removeprefix('host-')}.state"):
        attacker.publish(subject, forged)
    await attacker.flush()
    return await scene.state(VICTIM) == "draining"


async def beat_for_a_host_that_is_silent(scene: Scene) -> bool:
    _, boot = await victim(scene)
    attacker = await scene.attacker()
    await scene.until_state(VICTIM, "silent")
    for number, subject in enumerate((f"beat.{VICTIM}", f"beat.{attacker.user.removeprefix('host-')}")):
        attacker.publish(subject, msgspec.msgpack.encode(Beat(VICTIM, boot, number)))
    await attacker.flush()
    return await scene.state(VICTIM) == "up"


async def sign_another_off(scene: Scene) -> bool:
    await victim(scene)
    attacker = await scene.attacker()
    attacker.publish(f"keeper.{user_of(VICTIM)}.leave", b"\xc0", f"_INBOX.{user_of(VICTIM)}.x.request.y")
    await attacker.flush()
    return await scene.state(VICTIM) in ("gone", "off")


async def have_another_taken_for_gone(scene: Scene) -> bool:
    """nats-server tells of connections that end, also of those that it did not let in."""
    await victim(scene)
    keeper = await scene.keeper()
    ear, last = await Ear.at(keeper, f"gone.{VICTIM}"), await Ear.at(keeper, "gone.last")
    stranger = jwt.credentials(scene.key_of_attacker("account"), roles.host(VICTIM))
    try:
        await (await Connection.open(scene.people.home.nats_url(), stranger)).close()
    except Unavailable as error:
        assert "Authorization Violation" in error.message
    # What the server tells it tells in order.
    await (await scene.join(roles.host("last"))).close()
    await until(lambda: last.heard)
    return bool(ear.heard)


async def show_anothers_token(scene: Scene) -> bool:
    stolen = jwt.credentials(scene.key("account"), roles.host(VICTIM))
    own = Credentials(stolen.user, stolen.jwt, Key.generate().nkey_seed(Nkey.USER))
    return await _opens(scene, stolen if "hold its key" in scene.rights.knows else own)


async def make_itself_a_token(scene: Scene) -> bool:
    return await _opens(scene, jwt.credentials(scene.key_of_attacker("account"), roles.KEEPER))


async def _opens(scene: Scene, shown: Credentials) -> bool:
    try:
        await scene.people.connect(shown.user, shown)
    except Unavailable as error:
        assert "Authorization Violation" in error.message
        return False
    return True


# From here on: leases. An agent tells at once what it holds.


class _Held:
    """What the agent of this machine says that it holds."""

    def __init__(self, keeper: Connection, ear: Ear) -> None:
        self._keeper = keeper
        self._ear = ear

    @classmethod
    async def watch(cls, scene: Scene) -> _Held:
        keeper = await scene.keeper()
        return cls(keeper, await Ear.at(keeper, "report.local.state"))

    async def took(self, address: str) -> bool:
        """Whether it has held this lease since it was last asked; it has dealt with all that was sent to it."""
        await self._keeper.request("host.local.ps", b"", DEADLINE_S)
        told = [msgspec.msgpack.decode(each.data, type=HostReport) for each in self._ear.heard]
        self._ear.heard.clear()
        return any(report.held[address].ceiling > 0 for report in told if address in report.held)

    def give(self, key: Key, lease: Lease) -> None:
        """As the controller gives one."""
        self._keeper.publish("host.local.lease", signed_lease(key, lease))


def signed_lease(key: Key, lease: Lease) -> bytes:
    return msgspec.msgpack.encode(sign(key, Tag.LEASE, msgspec.msgpack.encode(lease)))


def a_lease(host: str = "local", epoch: int = 1) -> Lease:
    """For something that nobody has deployed, and that no other attack is about: the controller ends it soon."""
    return Lease(host, "ghost", f"f{next(_numbers)}", "0" * 12, 1, 0, epoch)


async def sign_a_lease_for_another(scene: Scene) -> bool:
    held, attacker, lease = await _Held.watch(scene), await scene.attacker(), a_lease()
    attacker.publish("host.local.lease", signed_lease(scene.key_of_attacker("controller"), lease))
    await attacker.flush()
    return await held.took(lease.address)


async def have_a_caller_served_no_more(scene: Scene) -> bool:
    """A caller whose name nobody else has; the newest list counts, and this one is newer than any."""
    caller, attacker = await scene.join(roles.caller(f"c{time.time_ns()}")), await scene.attacker()
    controller = scene.key_of_attacker("controller")
    attacker.publish("host.local.shut", shut_out.say(controller, frozenset({caller.user}), time.time_ns()))
    await attacker.flush()
    owner = await scene.owner()
    await owner.call("hello.greet", "Ada")
    answer = await caller.request(f"host.local.call.hello.greet.{caller.user}", a_call('"x"'), DEADLINE_S)
    return b"withdrawn" in answer


async def pass_its_own_lease_on(scene: Scene) -> bool:
    """One that the controller did sign, and for this attacker."""
    held, attacker = await _Held.watch(scene), await scene.attacker()
    lease = a_lease("local" if "have one that names the other" in scene.rights.knows else "evil")
    attacker.publish("host.local.lease", signed_lease(scene.key("controller"), lease))
    await attacker.flush()
    return await held.took(lease.address)


async def bring_an_ended_lease_back(scene: Scene) -> bool:
    """The controller signed it once, for this very host."""
    held, attacker, key = await _Held.watch(scene), await scene.attacker(), scene.key("controller")
    lease = a_lease(epoch=1)
    kept = signed_lease(key, lease)
    end = msgspec.structs.replace(lease, ceiling=0, epoch=2**40)
    held.give(key, lease)
    assert await held.took(lease.address)
    held.give(key, end)
    await held.took(lease.address)
    if "have one that is newer" in scene.rights.knows:
        kept = signed_lease(key, msgspec.structs.replace(lease, epoch=end.epoch + 1))
    attacker.publish("host.local.lease", kept)
    await attacker.flush()
    succeeded = await held.took(lease.address)
    held.give(key, msgspec.structs.replace(end, epoch=end.epoch + 2))
    return succeeded


async def deploy_what_the_owner_has_not_signed(scene: Scene) -> bool:
    owner, attacker, keeper = await scene.owner(), await scene.attacker(), await scene.keeper()
    await owner.call("prize.win")
    (before,) = [each for each in await owner.ask("apps", None, list[AppSummary]) if each.app == "prize"]
    host = await scene.local()
    known = await scene.people.ask(host, "release-get", before.release, Signed)
    release = msgspec.structs.replace(msgspec.msgpack.decode(known.payload, type=Release), created_at=time.time())
    function = msgspec.structs.replace(release.manifest.workloads[0], memory_bytes=2**26 + next(_numbers) * 4096)
    manifest = msgspec.structs.replace(release.manifest, workloads=(function,))
    release = msgspec.structs.replace(release, manifest=manifest)
    signed = sign(scene.key_of_attacker("owner"), Tag.RELEASE, msgspec.msgpack.encode(release))
    answer = await Ear.at(keeper, "_INBOX.local.x.request.y")
    question = msgspec.msgpack.encode(Deploy(signed))
    attacker.publish("keeper.local.deploy", question, "_INBOX.local.x.request.y")
    await attacker.flush()
    await until(lambda: answer.heard or attacker.refused)
    (after,) = [each for each in await owner.ask("apps", None, list[AppSummary]) if each.app == "prize"]
    return after.release == release_id(signed)


async def have_a_host_load_what_the_owner_has_not_signed(scene: Scene) -> bool:
    """Loading is running: module code runs in the zygote. Who has taken the keeper over has no other way to that."""
    await (await scene.owner()).call("hello.greet", "Ada")
    (app,) = [each for each in await (await scene.owner()).ask("apps", None, list[AppSummary]) if each.app == "hello"]
    known = await scene.people.ask(await scene.local(), "release-get", app.release, Signed)
    question = Inspect("spy", msgspec.msgpack.decode(known.payload, type=Release).bundle)
    signed = sign(scene.key_of_attacker("owner"), Tag.INSPECTION, msgspec.msgpack.encode(question))
    attacker = await scene.attacker()
    loaded = False
    for subject in ("host.local.inspect", f"keeper.{attacker.user}.inspect"):
        with contextlib.suppress(Untrusted, Refused):
            answer = await attacker.request(subject, msgspec.msgpack.encode(signed), DEADLINE_S)
            loaded |= bool(decode_answer(answer, Manifest).workloads)
    return loaded


# From here on: having others say something, on the subject of a lease of somebody else.

LEASE_OF_ANOTHER = f"host.{VICTIM}.lease"


async def _victim_hears(scene: Scene, attacker: Connection, ear: Ear) -> bool:
    for _ in range(round((QUIET_S if attacker.refused else DEADLINE_S / 2) / 0.02)):
        if await ear.hears_of(attacker):
            return True
        await asyncio.sleep(0.02)
    return False


async def have_the_store_read_out_to_another(scene: Scene) -> bool:
    host, attacker = await scene.join(roles.host(VICTIM)), await scene.attacker()
    ear = await Ear.at(host, f"host.{VICTIM}.>")
    attacker.publish("$JS.API.DIRECT.GET.KV_apps", b'{"last_by_subj":"$KV.apps.prize"}', LEASE_OF_ANOTHER)
    await attacker.flush()
    return await _victim_hears(scene, attacker, ear)


async def have_the_store_delivered_to_another(scene: Scene) -> bool:
    """The server delivers only where somebody hears just this subject; an agent's `host.<name>.>` is not enough."""
    host, attacker = await scene.join(roles.host(VICTIM)), await scene.attacker()
    ear = await Ear.at(host, LEASE_OF_ANOTHER)
    config = {"deliver_subject": LEASE_OF_ANOTHER, "ack_policy": "none", "deliver_policy": "all"}
    wanted = json.dumps({"stream_name": "KV_apps", "config": config}).encode()
    attacker.publish("$JS.API.CONSUMER.CREATE.KV_apps", wanted, f"{attacker.inbox}.request.x")
    await attacker.flush()
    return await _victim_hears(scene, attacker, ear)


async def have_the_server_trace_to_another(scene: Scene) -> bool:
    """nats-server tells of a message with this header, on the subject that the header names."""
    host, attacker = await scene.join(roles.host(VICTIM)), await scene.attacker()
    ear = await Ear.at(host, f"host.{VICTIM}.>")
    attacker.publish("report.evil.event", b"", headers={"Nats-Trace-Dest": LEASE_OF_ANOTHER})
    await attacker.flush()
    return await _victim_hears(scene, attacker, ear)


def have_answered_to_another(subject: str, data: bytes) -> Attack:
    """Ask whoever answers there, for an answer at another's subject."""

    async def attack(scene: Scene) -> bool:
        host, attacker = await scene.join(roles.host(VICTIM)), await scene.attacker()
        ear = await Ear.at(host, f"host.{VICTIM}.>")
        await attacker.request(subject, data, DEADLINE_S)  # It answers this user.
        if "ask for it at its own inbox" in scene.rights.knows:
            ear = await Ear.at(attacker, f"{attacker.inbox}.call.x")
            attacker.publish(subject, data, f"{attacker.inbox}.call.x")
            return await _victim_hears(scene, attacker, ear)
        attacker.publish(subject, data, LEASE_OF_ANOTHER)
        await attacker.request(subject, data, DEADLINE_S)
        await asyncio.sleep(QUIET_S)
        return await ear.hears_of(attacker)

    return attack


def a_call(body: str, through: str = "") -> bytes:
    context = Context((through,)) if through else Context()
    return pack_request(next(_numbers).to_bytes(16, "big"), 10.0, body.encode(), context)


# From here on: what is somebody else's to read, to ask, to call.


def use_a_verb(verb: str) -> Attack:
    """Ask the controller in one's own name, for what is not one's own."""

    async def attack(scene: Scene) -> bool:
        try:
            await scene.people.ask(await scene.attacker(), verb, "x", object)
        except Refused:
            return False
        except MotesError:
            return True  # It was understood as little as it was meant, but listened to.
        return True

    return attack


async def read_an_apps_code(scene: Scene) -> bool:
    """Its friends among the callers may know the release's name, and who deploys knows the bundle's."""
    owner, attacker = await scene.owner(), await scene.attacker()
    await owner.call("hello.greet", "Ada")
    (app,) = [each for each in await owner.ask("apps", None, list[AppSummary]) if each.app == "hello"]
    host = await scene.local()
    signed = await scene.people.ask(host, "release-get", app.release, Signed)
    bundle = msgspec.msgpack.decode(signed.payload, type=Release).bundle
    read = 0
    for verb, question in (("release-get", app.release), ("bundle-get", GetChunk(bundle, 0))):
        try:
            await scene.people.ask(attacker, verb, question, object)
            read += 1
        except Refused:
            pass
    return read > 0


async def ask_a_host_what_runs(scene: Scene) -> bool:
    attacker = await scene.attacker()
    asked = asyncio.ensure_future(attacker.request("host.local.ps", b"", DEADLINE_S))
    await until(lambda: asked.done() or attacker.refused)
    if attacker.refused:
        asked.cancel()
        return False
    return bool(await asked)


async def have_called_what_is_not_declared(scene: Scene) -> bool:
    """`pass_on` declares that it calls `greet`; only a host that it runs on calls that for it."""
    await (await scene.owner()).call("hello.pass_on", "Ada")
    attacker = await scene.attacker()
    host = attacker.user.removeprefix("host-")
    answer = await attacker.request(f"relay.{host}.call.hello.greet", a_call('"x"', "hello.pass_on"), DEADLINE_S)
    return unpack_reply(answer).status == STATUS_OK


async def connect_to_a_daemon(scene: Scene) -> bool:
    """An agent takes whoever may ask for the gateway; here it says that there is no such daemon."""
    attacker = await scene.attacker()
    wanted = msgspec.msgpack.encode(Open(bytes(16), "word", "hello", "web"))
    try:
        answer = await attacker.request("host.local.open", wanted, QUIET_S)
    except TimedOut:
        return False
    return "does not serve on host 'local'" in msgspec.msgpack.decode(answer, type=Opened).error["message"]


async def replay_a_call(scene: Scene) -> bool:
    """The attacker has seen the whole request, as the host that it was sent to has."""
    ada, attacker, subject = (
        await scene.people.program("ada"),
        await scene.attacker(),
        "host.local.call.hello.count.ada",
    )
    seen = await Ear.at(await scene.keeper(), subject)
    before = await ada.call("hello.count")
    replayed = seen.heard[0].data
    if "give it another id" in scene.rights.knows:
        replayed = os.urandom(CALL_ID_BYTES) + replayed[CALL_ID_BYTES:]
    attacker.publish(subject, replayed, f"{attacker.inbox}.call.x")
    await attacker.flush()
    return bool(await ada.call("hello.count") > before + 1)


def nap_s(scene: Scene, needed: str) -> float:
    """How long a call takes in whose midst somebody acts; it need not wait for one that lacks what is needed."""
    return 3.0 if needed in scene.rights.knows else 0.5


async def answer_anothers_call(scene: Scene) -> bool:
    """The attacker knows where the caller hears answers, from a call that it was sent itself."""
    ada, attacker = await scene.people.program("ada"), await scene.attacker()
    seen = await Ear.at(await scene.keeper(), "host.local.call.hello.nap.ada")
    calling = asyncio.ensure_future(ada.call("hello.nap", nap_s(scene, "come before its host")))
    await until(lambda: seen.heard)
    inbox, _, last = seen.heard[0].reply.rpartition(".")
    last = last if "know the call's id" in scene.rights.knows else "0" * len(last)
    results = [] if "come before its host" in scene.rights.knows else [await calling]
    attacker.publish(f"{inbox}.{last}", Outcome(STATUS_OK, b'"forged"').pack())
    await attacker.flush()
    results.append(await calling)
    # Nor does what came too late meet the next call.
    results.append(await ada.call("hello.nap", 0.0))
    return "forged" in results


async def end_anothers_call(scene: Scene) -> bool:
    ada, attacker = await scene.people.program("ada"), await scene.attacker()
    seen = await Ear.at(await scene.keeper(), "host.local.call.hello.nap.ada")
    seconds = nap_s(scene, "know the call's id")
    calling = asyncio.ensure_future(ada.call("hello.nap", seconds, timeout_s=10.0))
    await until(lambda: seen.heard)
    call_id = seen.heard[0].data[:16]
    attacker.publish("host.local.cancel", call_id if "know the call's id" in scene.rights.knows else bytes(16))
    await attacker.flush()
    try:
        return bool(await calling != seconds)
    except MotesError:
        return True


# From here on: what the bearer of an invite may send.


async def send_much(scene: Scene) -> bool:
    attacker, keeper = await scene.attacker(), await scene.keeper()
    subject = f"keeper.{attacker.user}.join"
    ear = await Ear.at(keeper, subject)
    attacker.publish(subject, bytes(64 * 2**10), f"{attacker.inbox}.request.x")
    try:
        return await ear.hears_of(attacker)
    except Unavailable:
        return False  # The server ends such a connection.


async def hear_on_many_subjects(scene: Scene) -> bool:
    attacker = await scene.attacker()
    for number in range(64):
        await attacker.subscribe(f"_INBOX.{attacker.user}.{number}", lambda message: None)
    await attacker.flush()
    return "maximum subscriptions" not in attacker.refused
