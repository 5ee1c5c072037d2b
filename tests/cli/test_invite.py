from __future__ import annotations

from motes.cli.invite import ipv6_addresses, picture
from motes.model.invite import Invite

LINE = Invite(("192.168.100.100:7423", "127.0.0.1:7423"), bytes(32), bytes(32), bytes(32), 1, 2, bytes(64)).line()


def test_an_invite_is_a_picture_that_fits_a_terminal_of_80_columns() -> None:
    drawn = picture(LINE, 80).splitlines()
    assert 20 < len(drawn) < 40 and {len(each) for each in drawn if each} == {len(drawn[0])}
    assert len(drawn[0]) <= 80


def test_where_it_does_not_fit_there_is_none() -> None:
    assert picture(LINE, 50) == ""


def test_of_a_machines_ipv6_addresses_those_are_named_at_which_others_find_it_the_lasting_first() -> None:
    table = """\
fd000000000000000000000000000007 04 40 00 01     eth0
20010db8000000000000000000000002 04 40 00 82     eth0
20010db8000000000000000000000003 04 40 00 c0     eth0
20010db8000000000000000000000004 04 40 00 20     eth0
20010db8000000000000000000000005 04 40 00 88     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""
    assert ipv6_addresses(table) == ["2001:db8::2", "fd00::7"]
    assert ipv6_addresses("") == []
