"""What must hold at the end, when nobody calls and nothing is broken any more."""

from __future__ import annotations

from motes.model.release import Function
from sim.hosts import SimHost
from sim.world import World

QUIET_S = 45.0
"""Longer than the longest backoff."""
STILL_S = 5.0


def check_that_it_settles(world: World) -> None:
    """Let the world come to rest, then look into every corner; at last each function is called once more."""
    world.heal()
    world.run(QUIET_S)
    assert world.keeper.core is not None
    epoch = world.keeper.core.state.epoch
    world.run(STILL_S)
    world.checks.that(world.keeper.core.state.epoch == epoch, "the plan still changes when nothing happens")
    world.checks.that(not world.ledger.open(), f"calls that never end: {world.ledger.open()[:3]}")
    for host in world.living():
        _check_host(world, host)
    for address in _addresses(world):
        _check_workload(world, address)
    _check_callers(world)
    _check_keeper(world)
    _check_that_calls_succeed(world)


def _addresses(world: World) -> list[str]:
    return [
        f"{app}.{workload.name}"
        for app, (_, release) in world.keeper.deployed.items()
        for workload in release.manifest.workloads
    ]


def _check_host(world: World, host: SimHost) -> None:
    machine, that = host.machine, world.checks.that
    core = world.keeper.core
    assert core is not None
    that(not machine.calls, f"{host.name} has calls that nobody answers: {list(machine.calls)}")
    that(not any(pool.queued or pool.queue_bytes for pool in machine.pools.values()), f"{host.name} has queues")
    given = {
        address: world.keeper.proofs.sealed(lease) for address, lease in core.state.leases.get(host.name, {}).items()
    }
    held = {address: lease for address, lease in machine.leases.items() if lease.ceiling > 0}
    that(given == held, f"{host.name} holds {held}, the controller says {given}")
    that({*machine.pools, *machine.daemons} == set(held), f"{host.name} keeps {[*machine.pools]} for {[*held]}")
    that(set(machine.instances) == set(host.guests.all), f"{host.name} believes in other instances than there are")
    # Where a newer release has failed and nobody has called since, the older one is still at hand.
    fallen_back = {pool.serving for pool in machine.pools.values() if machine.spaces[pool.lease.release].error}
    releases = {lease.release for lease in held.values()} | fallen_back
    that(set(machine.spaces) <= releases, f"{host.name} keeps releases {set(machine.spaces) - releases}")
    that(set(host.guests.spaces) <= releases, f"{host.name} keeps spaces {set(host.guests.spaces) - releases}")
    pids = {guest.pid for guest in host.guests.all.values()}
    world.checks.all_ended_but(host, pids)
    recorded = core.running.pids(host.name)
    that(recorded == pids, f"by what was told, {recorded} run on {host.name}, and {pids} do")


def _check_workload(world: World, address: str) -> None:
    workload = world.workload(address)
    release = world.keeper.deployed[address.partition(".")[0]][0]
    guests = [guest for host in world.living() for guest in host.guests.all.values() if guest.address == address]
    floor = workload.scale.min if isinstance(workload, Function) else 1
    world.checks.that(len(guests) == floor, f"{address} has {len(guests)} instances at rest, not {floor}")
    world.checks.that(all(guest.release == release for guest in guests), f"{address} is not served by {release}")


def _check_callers(world: World) -> None:
    for caller in world.callers.values():
        router = caller.router
        world.checks.that(not router.calls, f"{caller.name} forgets calls: {list(router.calls)}")
        world.checks.that(not any(router.waiting.values()), f"{caller.name} has calls that wait for ever")
        world.checks.that(not router.hosts.in_flight, f"{caller.name} counts calls that have ended")


def _check_keeper(world: World) -> None:
    core = world.keeper.core
    assert core is not None
    addresses = set(_addresses(world))
    world.checks.that(set(core.state.active) <= addresses, f"remembered: {set(core.state.active) - addresses}")
    world.checks.that(set(core.state.hosts) <= set(world.hosts), "hosts are remembered that never were")


def _check_that_calls_succeed(world: World) -> None:
    functions = [address for address in _addresses(world) if isinstance(world.workload(address), Function)]
    entries = []
    for caller in world.callers.values():
        for address in functions:
            app, _, name = address.partition(".")
            entries.append(caller.call(app, name, 5.0, idempotent=False))
    world.run(6.0)
    failures = [(entry.address, entry.error) for entry in entries if not entry.succeeded]
    world.checks.that(not failures, f"when all is well, calls fail: {failures}")
