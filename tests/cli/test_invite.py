from __future__ import annotations

import pytest

from motes.cli.invite import ipv6_addresses, picture, show
from motes.model.certificate import MOST_BYTES
from motes.model.invite import FOREIGN_PREFIX, Invite

INVITE = Invite(("192.168.100.100:7423", "127.0.0.1:7423"), bytes(32), bytes(32), bytes(32), 1, 2, bytes(64))
LINE = INVITE.line()


def test_an_invite_is_a_picture_that_fits_a_terminal_of_80_columns() -> None:
    drawn = picture(LINE, 80).splitlines()
    assert 20 < len(drawn) < 40 and {len(each) for each in drawn if each} == {len(drawn[0])}
    assert len(drawn[0]) <= 80


def test_where_it_does_not_fit_there_is_none() -> None:
    assert picture(LINE, 50) == ""


def test_of_an_invite_with_an_authoritys_certificate_it_is_said_that_there_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(LINE, 80)
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out == f"\n{picture(LINE, 80)}"
    # A small one does not fit here; the largest, no QR code at all.
    for size, columns in ((600, 80), (MOST_BYTES, 1000)):
        line = INVITE._replace(certificate=bytes(size), issuer=bytes(range(32))).line()
        assert line.startswith(FOREIGN_PREFIX)
        show(line, columns)
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err == "no QR code: the line is too long for this terminal\n"


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
