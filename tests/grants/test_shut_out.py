"""Who is served no more is the controller's word alone, and its newest."""

from __future__ import annotations

import msgspec

from motes.grants.keys import Key, Tag, sign
from motes.grants.shut_out import Names, ShutOut, say

CONTROLLER = Key(b"c" * 32)


def test_the_newest_list_counts_whatever_comes_after_it() -> None:
    heard = ShutOut(CONTROLLER.public)
    assert heard.names == frozenset()
    newest = say(CONTROLLER, frozenset({"shop", "kim"}), 7)
    for data in (say(CONTROLLER, frozenset({"shop"}), 5), newest, say(CONTROLLER, frozenset(), 6)):
        heard.hear(data)
    assert heard.names == {"shop", "kim"}


def test_nobody_else_says_whom_to_serve() -> None:
    heard = ShutOut(CONTROLLER.public)
    names = msgspec.msgpack.encode(Names(frozenset({"shop"}), 9))
    for data in (
        say(Key(b"h" * 32), frozenset({"shop"}), 9),
        msgspec.msgpack.encode(sign(CONTROLLER, Tag.NOTICE, names)),
        names,
        b"",
        say(CONTROLLER, frozenset({"shop"}), 9)[:-1],
    ):
        heard.hear(data)
    assert heard.names == frozenset()
