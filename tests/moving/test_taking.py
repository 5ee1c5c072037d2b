"""What a machine that waits to become the keeper takes for an order."""

from __future__ import annotations

from pathlib import Path

import pytest

from motes.errors import Untrusted
from motes.grants.keys import Key
from motes.home import Home, Listen
from motes.moving.taking import Taking


@pytest.mark.parametrize(
    "order", ["", "zz", "c0", "93a1ffa0a0", "94" + "c400" * 3 + "91" * 3000], ids=lambda order: order[:10]
)
def test_what_is_no_order_is_refused_however_it_cannot_be_read(tmp_path: Path, order: str) -> None:
    home = Home(tmp_path)
    home.create()
    home.write_text(home.public_key("controller"), Key.generate().public.hex())
    taking = Taking(home, "server", Listen("127.0.0.1", 0), None, ("127.0.0.1:7423",), lambda what: None)
    with pytest.raises(Untrusted, match="no order of this cluster's controller"):
        taking._order({"order": order})
