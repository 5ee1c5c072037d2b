"""What a host tells of itself: beats for routers, reports for the controller, its instances for who asks."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from motes.agent.code import ARCHITECTURE, PLATFORM, PYTHON
from motes.agent.core.effects import Tell
from motes.bus import subjects
from motes.model import wire
from motes.model.host import REPORT_INTERVAL_S, Beat, HostInstances, HostReport
from motes.model.instance import Event, InstanceReport
from motes.space.walls import walls_or_none
from motes.version import __version__

if TYPE_CHECKING:
    from motes.agent.service import Agent


class Telling:
    """Numbers and publishes what is said of one agent's host. `boot` is new with each start of the agent."""

    def __init__(self, agent: Agent) -> None:
        self.boot = f"{time.time_ns():016x}{os.urandom(4).hex()}"
        self._agent = agent
        self._beat_number = 0
        self._report_number = 0
        self._reported_at = 0.0
        self._walls = walls_or_none()

    def beat(self) -> None:
        """Say that this host lives and how busy it is."""
        self._beat_number += 1
        self._agent.machine.answered.on_beat(self._beat_number, self._agent.now())
        load = self._agent.machine.load()
        beat = Beat(self._agent.host, self.boot, self._beat_number, load, self._agent.connection.count)
        self._agent.connection.publish(subjects.beat(self._agent.host), msgspec.msgpack.encode(beat))

    def report(self) -> None:
        """Say what this host holds and what runs here."""
        self._reported_at = self._agent.now()
        self._agent.connection.publish(subjects.state(self._agent.host), self.state())

    def report_if_due(self) -> None:
        if self._agent.now() - self._reported_at >= REPORT_INTERVAL_S:
            self.report()

    def event(self, effect: Tell) -> None:
        """Say that something began or ended."""
        app, _, workload = effect.address.partition(".")
        event = Event(
            self._agent.clock.now(),
            effect.what,
            str(effect.reason),
            self._agent.host,
            app,
            workload,
            effect.release,
            effect.pid,
            effect.detail,
        )
        self._agent.connection.publish(subjects.event(self._agent.host), msgspec.json.encode(event))

    def state(self) -> bytes:
        """A HostReport, encoded: each has a number of its own."""
        machine = self._agent.machine
        self._report_number += 1
        report = HostReport(
            host=self._agent.host,
            boot=self.boot,
            pid=os.getpid(),
            offer=machine.offer,
            python=PYTHON,
            platform=PLATFORM,
            draining=machine.draining,
            spaces_used=machine.spaces_used(),
            memory_bytes=machine.memory_bytes,
            cpu_s=self._agent.spaces.cpu_s(),
            held=machine.held(self._agent.now()),
            number=self._report_number,
            running=machine.running(),
            walls=self._walls,
            version=__version__,
            architecture=ARCHITECTURE,
            wire=wire.WIRE,
            connection=self._agent.connection.number,
            server_id=self._agent.connection.server_id,
            away=machine.away,
        )
        return msgspec.msgpack.encode(report)

    def instances(self) -> bytes:
        """Every instance as `motes ps` shows it: a HostInstances, encoded."""
        self._agent.spaces.sample_all()
        began = self._agent.clock.now() - self._agent.now()
        reports = [
            InstanceReport(
                app=instance.app,
                workload=instance.address.partition(".")[2],
                release=instance.release,
                host=self._agent.host,
                pid=instance.pid,
                state=instance.state,
                started_at=began + instance.started,
                calls=instance.calls,
                cpu_s=instance.cpu_s,
                memory_bytes=instance.memory_bytes,
            )
            for instance in self._agent.machine.instances.values()
        ]
        machine = self._agent.machine
        return msgspec.msgpack.encode(
            HostInstances(machine.host, reports, machine.load(), machine.totals(), tuple(machine.daemons))
        )
