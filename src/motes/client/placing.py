"""What the owner says at deploy of where an app may run, added to what its functions declare."""

from __future__ import annotations

import msgspec

from motes.errors import BadInput
from motes.model.place import parse_place
from motes.model.release import Daemon, Manifest, Spread, Workload


class Placing(msgspec.Struct, frozen=True):
    """`place` is narrowed, never widened, by what a function declares; `anywhere` takes no notice of either."""

    place: tuple[str, ...] = ()
    spread: Spread = "machines"
    """Of a daemon; a function says it itself."""
    anywhere: bool = False
    """For a cluster of one host of its own, where the app is tried."""

    def apply(self, manifest: Manifest) -> Manifest:
        """The manifest as the owner signs it. A host has described the functions; of a daemon nothing is its word.

        Raises BadInput when the two places exclude each other.
        """
        return msgspec.structs.replace(manifest, workloads=tuple(map(self._placed, manifest.workloads)))

    def _placed(self, workload: Workload) -> Workload:
        if isinstance(workload, Daemon):
            return msgspec.structs.replace(workload, place=self.place, spread=self.spread)
        try:
            place = () if self.anywhere else parse_place((*self.place, *workload.place))
        except ValueError as error:
            raise BadInput(f"function {workload.name!r} and --place together: {error}") from None
        return msgspec.structs.replace(workload, place=place)


EVERYWHERE = Placing()
