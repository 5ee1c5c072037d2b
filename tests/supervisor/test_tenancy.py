from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from motes.errors import Refused
from motes.grants import issuing
from motes.grants.keys import SigningKey
from motes.home import Home
from motes.supervisor import founding, tenancy


def test_a_home_that_another_command_is_founding_meanwhile_does_not_go_to_live_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def works(*what: object) -> None: ...

    monkeypatch.setattr(issuing, "read_signing_key", lambda creds: SigningKey(os.urandom(32), os.urandom(32)))
    monkeypatch.setattr(tenancy, "_try", works)
    home = Home(tmp_path)
    with ThreadPoolExecutor() as pool:
        with founding.alone(home):
            going = pool.submit(tenancy.begin, home, "nats://127.0.0.1:4222", "", None, None)
            with pytest.raises(TimeoutError):
                # As long as it takes where nobody waits.
                going.result(1.0)
            founding._found(home)
        with pytest.raises(Refused, match="NATS of its own"):
            going.result(30.0)
    assert home.foreign() is None and not home.key("signing").exists()
