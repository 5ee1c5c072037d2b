"""Whether this host is where an owner wants something, as far as it knows of itself. Part of the agent's core.

The keeper places by what the owner signed; this is for a keeper that does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from motes.agent.state import HostState
from motes.model.place import of_the_hosts_own_word, traits_of, unmet


def why_not_here(state: HostState, place: Iterable[str]) -> str:
    """Which terms of the place this host does not meet, in words, or nothing."""
    wrong = unmet(of_the_hosts_own_word(place), traits_of(state.offer.labels, state.architecture))
    return f"its owner wants it on hosts that are {','.join(wrong)}, and this one is not" if wrong else ""
