"""Where a workload may run: what `place=` says, and what of it a host is not. Stdlib only: the decorator imports it.

A place is a tuple of terms that must all hold. A host has *traits*, written like terms: it is at a place when each term
is among them, and none that the place excludes with `!`.

    own             a host of the cluster's owner's own: the keeper says which
    named:lab       one that the owner has put in the set `lab`: the keeper says which
    arch:aarch64    one with this processor, by the host's own word
    gpu             one with this label, by the host's own word
    !attic          one without; before any of the others, but not before `own`
"""

from __future__ import annotations

from motes.model.names import NAME, is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

OWN = "own"
NAMED = "named:"
ARCH = "arch:"
MOST_TERMS = 16
TERM = rf"^(?!!own\Z)!?(named:|arch:)?{NAME}\Z"
"""A term as a pattern, for who checks types by it."""
SPREADS = ("machines", "pack")
"""Over as many machines as there are, or on as few hosts as have room."""


def parse_place(given: str | Sequence[str]) -> tuple[str, ...]:
    """`"gpu,!attic"`, or a sequence of terms, as a place. Raises ValueError, with how to write it."""
    parts = given.split(",") if isinstance(given, str) else list(given)
    terms = tuple(dict.fromkeys(part.strip() if isinstance(part, str) else part for part in parts if part != ""))
    for term in terms:
        if not isinstance(term, str) or not _is_term(term):
            raise ValueError(
                f"place={term!r}: write own, named:SET, arch:PROCESSOR or a host's label, with ! before what must not"
                " be; several with commas"
            )
        if f"!{term}" in terms:
            raise ValueError(f"place: no host is both {term} and !{term}")
    if len(terms) > MOST_TERMS:
        raise ValueError(f"place: {len(terms)} terms; at most {MOST_TERMS} are allowed")
    return terms


def _is_term(term: str) -> bool:
    positive = term.removeprefix("!")
    name = positive.removeprefix(NAMED) if positive.startswith(NAMED) else positive.removeprefix(ARCH)
    return is_name(name) and term != f"!{OWN}"


def traits_of(labels: Iterable[str], architecture: str) -> set[str]:
    """What a host says of itself. A label that is no name, or is written like what the keeper says, counts for nothing:
    else a host could put itself in a set."""
    found = {label for label in labels if is_name(label) and label != OWN}
    return found | {f"{ARCH}{architecture}"} if is_name(architecture) else found


def unmet(place: Iterable[str], traits: Collection[str]) -> list[str]:
    """The terms that a host with these traits does not meet."""
    return [term for term in place if (term[1:] in traits if term.startswith("!") else term not in traits)]


def of_the_hosts_own_word(place: Iterable[str]) -> list[str]:
    """The terms that a host can check of itself: all but those of which only the keeper knows."""
    return [term for term in place if term != OWN and not term.removeprefix("!").startswith(NAMED)]
