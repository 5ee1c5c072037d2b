"""Hosts are told where the keeper is, each start of an agent once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from motes.controller.succession import Succession
from motes.grants.keys import Key


class Controller:
    """One whose hosts are all on other machines."""

    def __init__(self) -> None:
        self.connection = self.admission = self
        self.hosts: dict[str, None] = {}
        self.core = SimpleNamespace(state=SimpleNamespace(hosts=self.hosts, first_epoch=0))
        self.told: list[str] = []

    def is_elsewhere(self, host: str) -> bool:
        return True

    def publish(self, subject: str, data: bytes) -> None:
        self.told.append(subject)


def test_a_host_that_is_gone_is_forgotten_and_told_again_when_it_comes_back() -> None:
    controller = Controller()
    succession = Succession(cast(Any, controller), Key.generate())
    succession.tell(("keeper.example:7423",), b"certificate")
    for host in ("a", "b", "b"):
        controller.hosts[host] = None
        succession.on_heard(host, "boot")
        succession.forget()
    assert len(controller.told) == 2
    del controller.hosts["a"]
    succession.forget()
    assert succession._told.keys() == {"b"}
    for host in ("a", "b"):
        succession.on_heard(host, "boot")
    assert len(controller.told) == 3
