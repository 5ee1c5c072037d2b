"""The kind of space that this machine can make."""

from __future__ import annotations

from motes.model.walls import Walls
from motes.space.bubble import Bubble
from motes.space.enclosure import Enclosure, Program, Streams
from motes.space.fence import Fence
from motes.space.view import View
from motes.space.walls import walls


def enclose(view: View, program: Program, streams: Streams) -> Enclosure:
    """Start `program` in a space with this view. Raises SpaceFailed."""
    kind = Fence if walls() is Walls.LANDLOCK else Bubble
    return kind(view, program, streams)
