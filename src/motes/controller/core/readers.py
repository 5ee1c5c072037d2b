"""Which hosts may read which code: what they were given a lease for, or asked to look into.

A host that has no part in an app has no business with its code, and may not read it for a friend.
"""

from __future__ import annotations

from collections.abc import Iterable

from motes.controller.core.state import State
from motes.model.release import Release

MOST_SHOWN = 20_000
"""Archives that hosts may read and that are remembered; a host whose is forgotten asks for the release again."""


class Readers:
    """By host and archive; `state` knows who was given what."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._shown: dict[tuple[str, str], None] = {}

    def show(self, host: str, archives: Iterable[str]) -> None:
        """The host may read these from now on."""
        for archive in archives:
            self._shown.pop((host, archive), None)
            self._shown[host, archive] = None
        while len(self._shown) > MOST_SHOWN:
            del self._shown[next(iter(self._shown))]

    def may_read_release(self, host: str, release: Release) -> bool:
        """Whether the host was given any workload of the app, in this release or another."""
        workloads = {each.name for each in release.manifest.workloads}
        if (current := self._state.apps.get(release.app)) is not None:
            workloads |= {each.name for each in current.release.manifest.workloads}
        return any((host, f"{release.app}.{name}") in self._state.most_given for name in workloads)

    def may_read(self, host: str, archive: str) -> bool:
        """Whether the host may read a bundle, or a layer of packages."""
        if (host, archive) in self._shown:
            return True
        # A controller that has just started has shown nothing yet.
        apps = self._state.apps.values()
        return any(archive in app.release.archives and self.may_read_release(host, app.release) for app in apps)

    def forget(self, host: str) -> None:
        """The host was removed; another may get its name."""
        self._shown = {key: None for key in self._shown if key[0] != host}
