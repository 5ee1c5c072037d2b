"""The agent as it is, but its apps fall asleep at once, so that waking them can be measured."""

from __future__ import annotations

from motes.agent.__main__ import main
from motes.agent.core import releases

releases.ZYGOTE_IDLE_S = 0.05
main()
