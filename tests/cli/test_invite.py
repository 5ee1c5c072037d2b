from __future__ import annotations

from motes.cli.invite import picture
from motes.model.invite import Invite

LINE = Invite(("192.168.100.100:7423", "127.0.0.1:7423"), bytes(32), bytes(32), bytes(32), 1, 2, bytes(64)).line()


def test_an_invite_is_a_picture_that_fits_a_terminal_of_80_columns() -> None:
    drawn = picture(LINE, 80).splitlines()
    assert 20 < len(drawn) < 40 and {len(each) for each in drawn if each} == {len(drawn[0])}
    assert len(drawn[0]) <= 80


def test_where_it_does_not_fit_there_is_none() -> None:
    assert picture(LINE, 50) == ""
