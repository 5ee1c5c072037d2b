"""What may be done to a line between a machine and its keeper, whatever the line is made of."""

from __future__ import annotations

import random
from typing import Literal

End = Literal["keeper", "machine"]
"""To which end something goes."""


class Line:
    """A line that loses nothing and delays nothing, until it is told to. Nobody at its ends is told of any of it."""

    def __init__(self, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self.is_cut: dict[End, bool] = {"keeper": False, "machine": False}
        """By the end that nothing reaches any more."""
        self.delay_s = 0.0
        self.loss = 0.0
        """Of packets, from 0 to 1."""

    def cut(self, towards: End | None = None) -> None:
        """Nothing passes any more, or nothing towards one end."""
        for end in self.is_cut:
            self.is_cut[end] = self.is_cut[end] or towards in (None, end)
        self.changed()

    def mend(self) -> None:
        """Everything passes again, at once."""
        self.is_cut = {"keeper": False, "machine": False}
        self.slow(0.0, 0.0)

    def slow(self, delay_s: float, loss: float) -> None:
        """From now on each packet comes so much later, and so many do not."""
        self.delay_s, self.loss = delay_s, loss
        self.changed()

    def changed(self) -> None:
        """The line is another one now."""

    def loses(self) -> bool:
        """Whether the next packet is lost."""
        return self.loss > 0 and self._chance.random() < self.loss
