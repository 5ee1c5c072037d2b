"""What a home answers when a file in it is not as it was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from motes.errors import Unavailable
from motes.home import Home


@pytest.mark.parametrize("text", ["{}", "[]", '{"host": 1}', '{"addresses": 1, "certificate": 2}', '{"web": []}', "{"])
@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("keeper_file", Home.keeper),
        ("listen_file", Home.listen),
        ("foreign_file", Home.keeper),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_named_with_what_to_do(
    tmp_path: Path, file: str, read: Callable[[Home], object], text: str
) -> None:
    home = Home(tmp_path)
    home.create()
    getattr(home, file).write_text(text)
    with pytest.raises(Unavailable, match=f"{getattr(home, file).name}.*mend or delete it"):
        read(home)


def test_where_others_may_listen_over_websocket_may_be_unsaid_but_not_be_nonsense(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    home.listen_file.write_text('{"host": "127.0.0.1", "port": 1}')
    assert home.listen_web() is None
    home.listen_file.write_text('{"host": "127.0.0.1", "port": 1, "web": {"host": "127.0.0.1"}}')
    with pytest.raises(Unavailable, match=r"listen\.json.*mend or delete it"):
        home.listen_web()
