"""What a host lends, in its owner's words: read, changed, checked and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from motes.errors import BadInput
from motes.model.names import MOST_LABELS, is_name
from motes.model.served import OWNER, parse_served
from motes.model.terms import normal_hours, normal_when, offer_of, terms_of
from motes.model.units import format_bytes, parse_bytes

DEFAULT = "default"
"""A key with this value is as if it had never been said."""
EXAMPLE = "cpus=2,memory=1GiB,disk=5GiB,spaces=100,hours=22-07,when=idle+charging,serve=shop+mail,labels=gpu+attic"
_AMOUNTS = {"cpus": "cpus", "memory_bytes": "memory", "disk_bytes": "disk", "spaces": "spaces"}


def parse(text: str) -> dict[str, Any]:
    """`"cpus=2,memory=1GiB,spaces=100,labels=gpu+attic"` as the fields of an Offer. Raises BadInput, Refused."""
    offer: dict[str, Any] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        key, _, value = part.partition("=")
        field, read = _KEYS.get(key, ("", _name))
        try:
            offer[field] = read(value)
        except (ValueError, OverflowError):
            field = ""
        if not field:
            raise BadInput(f"{part[:80]!r} is not understood; write: {EXAMPLE}")
        try:
            offer_of({field: offer[field]})
        except ValueError as error:
            why = str(error).partition(" - at ")[0]
            raise BadInput(f"no host can lend {part[:80]!r} ({why}); write: {EXAMPLE}") from None
    return offer


def changed(entry: Mapping[str, Any], words: tuple[str, ...]) -> dict[str, Any]:
    """The entry of hosts.json after `words`. Raises BadInput and Refused."""
    from motes.supervisor import founding

    parts = [part.strip() for word in words for part in word.split(",")]
    forgotten = [key for part in parts if (key := part.removesuffix(f"={DEFAULT}")) != part]
    if unknown := [key for key in forgotten if key not in _KEYS]:
        raise BadInput(f"{unknown[0]!r} is nothing that is lent; write: {EXAMPLE}")
    said = parse(",".join(part for part in parts if part.removesuffix(f"={DEFAULT}") == part))
    kept = {key: value for key, value in entry.items() if key not in {_KEYS[key][0] for key in forgotten}}
    found = {**founding.default_offer(), **kept, **said}
    refuse_unfit(found)
    return found


def refuse_unfit(entry: Mapping[str, Any]) -> None:
    """Raises BadInput for an entry that no host can lend by, as one that an earlier version took."""
    wrong = []
    for key, (field, _) in _KEYS.items():
        part = {field: entry[field]} if field in entry else {}
        try:
            offer_of(part)
            terms_of(part)
        except ValueError:
            wrong.append(key)
    if wrong:
        kept = ", ".join(f"{key}={str(entry[_KEYS[key][0]])[:80]}" for key in wrong)
        mend = " ".join(f"{key}={DEFAULT}" for key in wrong)
        raise BadInput(f"this host was to lend {kept}, which no host can; say it anew, or: motes lend {mend}")


def described(entry: Mapping[str, Any]) -> str:
    """An entry in the words with which it is changed."""

    def amount(field: str) -> str:
        value = entry[field]
        return format_bytes(value).replace(" ", "") if field.endswith("_bytes") else f"{value:g}"

    found = [f"{word}={amount(field)}" for field, word in _AMOUNTS.items() if entry.get(field)]
    found += [f"{key}={entry.get(key) or 'always'}" for key in ("hours", "when")]
    found += [f"serve={'+'.join(entry.get('serve') or (OWNER,))}"]
    found += ["priority=idle"] if entry.get("idle_class") else []
    found += [f"labels={'+'.join(entry['labels'])}"] if entry.get("labels") else []
    return " ".join(found + ([f"machine={entry['machine']}"] if entry.get("machine") else []))


def _amount(read: Callable[[str], float]) -> Callable[[str], float]:
    def amount(text: str) -> float:
        found = read(text)
        if not 0 < found < float("inf"):
            raise ValueError(f"{text!r} is no amount")
        return found

    return amount


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!r} is no name")
    return text


def _is_idle(text: str) -> bool:
    if text not in ("idle", "normal"):
        raise ValueError(f"{text!r} is neither idle nor normal")
    return text == "idle"


def _labels(text: str) -> list[str]:
    found = sorted({_name(each) for each in text.split("+")})
    if len(found) > MOST_LABELS:
        raise ValueError(f"over {MOST_LABELS} labels")
    return found


_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "cpus": ("cpus", _amount(float)),
    "memory": ("memory_bytes", _amount(parse_bytes)),
    "spaces": ("spaces", _amount(int)),
    "disk": ("disk_bytes", _amount(parse_bytes)),
    "priority": ("idle_class", _is_idle),
    "hours": ("hours", normal_hours),
    "when": ("when", normal_when),
    "labels": ("labels", _labels),
    "machine": ("machine", _name),
    "serve": ("serve", parse_served),
}
"""By each word: the field of hosts.json, and how what is said of it is read."""
