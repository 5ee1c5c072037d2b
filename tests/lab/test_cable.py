"""A cable between two network namespaces: what it carries, loses, and keeps out."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lab import namespaces
from lab.cable import Cable
from lab.lan import KEEPER_ADDRESS, Lan

pytestmark = pytest.mark.skipif(namespaces.why_not() != "", reason=namespaces.why_not())
LONG_S, SHORT_S = 20.0, 1.0


@pytest.fixture
def lan() -> Iterator[Lan]:
    made = Lan(only_outgoing=False)
    made.machine()
    yield made
    made.close()


def cable(lan: Lan) -> Cable:
    return lan.cables[lan.machines[0]]


def server_in(namespace: str, address: str = "0.0.0.0") -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespaces.entered(namespace):
        made = socket.create_server((address, 0), family=family)
    made.settimeout(LONG_S)
    return made


def connect(namespace: str, address: str, server: socket.socket, timeout_s: float = LONG_S) -> socket.socket:
    with namespaces.entered(namespace):
        return socket.create_connection((address, server.getsockname()[1]), timeout_s)


def test_a_machine_reaches_the_keeper_and_neither_notices_a_cut(lan: Lan) -> None:
    with server_in(lan.keeper) as server, connect(lan.machines[0], KEEPER_ADDRESS, server) as client:
        there, _ = server.accept()
        with there:
            client.sendall(b"up")
            assert there.recv(10) == b"up"
            cable(lan).cut()
            client.sendall(b"lost for now")
            there.settimeout(SHORT_S)
            with pytest.raises(TimeoutError):
                there.recv(10)
            cable(lan).mend()
            there.settimeout(LONG_S)
            assert there.recv(20) == b"lost for now"


def test_a_firewall_lets_out_and_lets_nobody_in(lan: Lan) -> None:
    (machine,) = lan.machines
    with server_in(machine) as inside, server_in(lan.keeper) as outside:
        connect(lan.keeper, "10.77.0.2", inside).close()
        cable(lan).only_outgoing = True
        with pytest.raises(TimeoutError):
            connect(lan.keeper, "10.77.0.2", inside, SHORT_S)
        with connect(machine, KEEPER_ADDRESS, outside) as client:
            there, _ = outside.accept()
            with there:
                there.sendall(b"an answer")
                assert client.recv(20) == b"an answer"


def test_before_every_machine_is_that_firewall_unless_somebody_wants_none() -> None:
    lan = Lan()
    try:
        with server_in(lan.machine()) as inside, pytest.raises(TimeoutError):
            connect(lan.keeper, "10.77.0.2", inside, SHORT_S)
    finally:
        lan.close()


def test_the_firewall_is_the_same_with_ipv6(lan: Lan) -> None:
    (machine,) = lan.machines
    for namespace, device, address in ((lan.keeper, "bridge", "fd77::1"), (machine, "wire", "fd77::2")):
        namespaces.ip("-n", namespace, "addr", "add", f"{address}/64", "dev", device, "nodad")
    cable(lan).only_outgoing = True
    with server_in(machine, "::") as inside, server_in(lan.keeper, "::") as outside:
        with pytest.raises(TimeoutError):
            connect(lan.keeper, "fd77::2", inside, SHORT_S)
        with connect(machine, "fd77::1", outside) as client:
            there, _ = outside.accept()
            with there:
                there.sendall(b"an answer")
                assert client.recv(20) == b"an answer"
        cable(lan).only_outgoing = False
        connect(lan.keeper, "fd77::2", inside).close()


def test_machines_do_not_reach_each_other(lan: Lan) -> None:
    other = lan.machine()
    with server_in(lan.machines[0]) as server, pytest.raises(OSError):
        connect(other, "10.77.0.2", server, SHORT_S)


def test_what_is_lost_on_the_way_comes_all_the_same_for_tcp_sends_it_again(lan: Lan) -> None:
    cable(lan).slow(delay_s=0.02, loss=0.05)
    with server_in(lan.keeper) as server, connect(lan.machines[0], KEEPER_ADDRESS, server) as client:
        there, _ = server.accept()
        with there:
            there.settimeout(LONG_S)
            client.sendall(b"x" * 200_000)
            heard = 0
            while heard < 200_000:
                heard += len(there.recv(65536))
