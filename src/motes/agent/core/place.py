"""Whether an app may run on this host: its machine's owner serves it, and the app's owner wants it here, as far as the
host knows of itself.

The keeper places by what both have said; this is for a keeper that does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from motes.agent.core.state import HostState
from motes.model.place import of_the_hosts_own_word, traits_of, unmet
from motes.model.served import in_words


def why_not_here(state: HostState, app: str, place: Iterable[str] = ()) -> str:
    """Who does not want the app here, in words, or nothing."""
    if not state.offer.serves(app):
        return f"this host serves only {in_words(state.offer.serve)}, as its machine's owner says"
    wrong = unmet(of_the_hosts_own_word(place), traits_of(state.offer.labels, state.architecture))
    return f"its owner wants it on hosts that are {','.join(wrong)}, and this one is not" if wrong else ""
