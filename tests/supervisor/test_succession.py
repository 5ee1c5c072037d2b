from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from motes.errors import Refused, Unavailable
from motes.grants import jwt, keys, roles
from motes.home import Home
from motes.moving.luggage import pack, unpack
from motes.supervisor import founding, succession

DEADLINE_S = 30.0
STEPS = 40
"""More than `install` takes."""


def a_machine_to_which_a_keeper_came(folder: Path, stage: str) -> Home:
    """All but the word that it is the keeper, or with that word."""
    keeper, home = Home(folder / "keeper"), Home(folder / "home")
    founding.found(keeper)
    founding.listen(keeper, "127.0.0.1", 7423)
    home.create()
    home.write_json(home.keeper_file, {"addresses": ["127.0.0.1:7423"], "certificate": "00"})
    home.write_json(home.hosts_file, {"b": {}})
    account = keys.load_or_create(keeper.key("account"))
    home.save_credentials(jwt.credentials(account, roles.host("b")))
    home.write_text(home.path / "seed", home.credentials("host-b").seed)
    home.write_text(home.public_key("owner"), keeper.public_key("owner").read_text())
    luggage = pack(keeper)
    came = Home(home.arriving)
    unpack(luggage, came)
    (came.jetstream / "stream").write_text("what is stored")
    state = {
        "stage": stage,
        "listen": {"host": "0.0.0.0", "port": 7424},
        "addresses": ["server:7424"],
        "accounts": luggage.accounts(),
    }
    home.write_json(succession.state_file(home), state)
    return home


def check_is_the_keeper(home: Home) -> None:
    assert not home.keeper_file.exists() and not home.arriving.exists()
    assert (home.jetstream / "stream").read_text() == "what is stored"
    assert all(home.key(name).exists() for name in succession.SECRETS) and home.tls_key.exists()
    assert home.moved_to() == ("server:7424",) and home.listen() == ("0.0.0.0", 7424)
    assert home.credentials("host-b").seed == (home.path / "seed").read_text(), "its key has changed"
    assert not home.key("owner").exists() and home.public_key("owner").exists()
    assert str(home.jetstream) in home.nats_config.read_text()
    assert home.nats_url() == "nats://127.0.0.1:7424"


def test_what_came_is_put_in_its_place_when_the_word_was_given(tmp_path: Path) -> None:
    home = a_machine_to_which_a_keeper_came(tmp_path, succession.COMMITTED)
    founding.found(home)
    check_is_the_keeper(home)


def test_without_the_word_this_machine_stays_what_it_is(tmp_path: Path) -> None:
    home = a_machine_to_which_a_keeper_came(tmp_path, succession.PREPARED)
    founding.found(home)
    assert home.keeper_file.exists() and home.arriving.exists() and not home.key("account").exists()
    with pytest.raises(Refused):
        home.nats_url()


@pytest.mark.parametrize("step", range(STEPS))
def test_wherever_it_was_cut_short_it_is_completed(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    home = a_machine_to_which_a_keeper_came(tmp_path, succession.COMMITTED)
    left = [step]

    def until_the_end(do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **more: Any) -> Any:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return do(*words, **more)

        return counted

    with monkeypatch.context() as patched:
        for owner, name in ((os, "replace"), (shutil, "rmtree"), (succession, "sync"), (Path, "unlink")):
            patched.setattr(owner, name, until_the_end(getattr(owner, name)))
        try:
            succession.install(home)
            assert step > STEPS // 3, "hardly a step was counted"
        except KeyboardInterrupt:
            # As long as it may be done once more, it is not somebody else's host either.
            assert succession.arrival(home) or not home.keeper_file.exists()
    founding.found(home)
    shutil.rmtree(home.arriving, ignore_errors=True)
    check_is_the_keeper(home)


def test_it_is_completed_where_only_some_of_what_came_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = a_machine_to_which_a_keeper_came(tmp_path, succession.COMMITTED)
    remove = shutil.rmtree

    def some(path: Path, **more: Any) -> None:
        if path != home.arriving:
            return remove(path, **more)
        remove(Home(path).keys)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", some)
        with pytest.raises(KeyboardInterrupt):
            succession.install(home)
    founding.found(home)
    check_is_the_keeper(home)


@pytest.mark.parametrize("damaged", ["", "{", "[1]", "[" * 100_000])
def test_what_came_is_not_removed_where_it_cannot_be_told_how_far_it_was(tmp_path: Path, damaged: str) -> None:
    home = a_machine_to_which_a_keeper_came(tmp_path, succession.COMMITTED)
    state = succession.state_file(home).read_text()
    succession.state_file(home).write_text(damaged)
    with pytest.raises(Unavailable, match=r"state\.json"):
        founding.found(home)
    assert Home(home.arriving).key("account").exists()
    succession.state_file(home).write_text(state)
    founding.found(home)
    check_is_the_keeper(home)


def test_all_that_was_put_in_its_place_is_on_the_disk_before_what_came_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = a_machine_to_which_a_keeper_came(tmp_path, succession.COMMITTED)
    synced: list[Path] = []
    sync = succession.sync

    def note(path: Path) -> None:
        assert home.arriving.exists()
        sync(path)
        synced.append(path)

    monkeypatch.setattr(succession, "sync", note)
    succession.install(home)
    written = {home.nats_config, home.nats_port, home.listen_file}
    assert written <= set(synced) and {each.parent for each in written} | {home.keys, home.users} <= set(synced)


def test_a_keeper_forgets_its_keys_only_where_another_is_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    founding.found(home)
    succession.forget(home)
    assert home.key("account").exists()
    facts = {"moved": {}, "keeper": {"addresses": ["server:7424"], "certificate": "00"}}
    succession.hand_over(home, facts)
    succession.take_back(home)
    assert home.key("account").exists() and not home.keeper_file.exists() and not home.moved_file.exists()
    succession.hand_over(home, facts)
    succession.forget(home)
    assert not any(home.key(name).exists() for name in succession.SECRETS) and not home.nats.exists()
    assert home.key("owner").exists() and home.public_key("controller").exists() and home.user("local").exists()


def test_who_follows_does_not_bring_back_that_the_keeper_is_elsewhere(tmp_path: Path) -> None:
    """A program asks where the keeper is, and while it writes the answer down the keeper comes here."""
    home = a_machine_to_which_a_keeper_came(tmp_path, succession.COMMITTED)
    home.follow(["server:7424"], b"\0", 1)
    assert home.keeper().servers == "tls://server:7424,tls://127.0.0.1:7423"
    for becomes in (founding.found, succession.take_back):
        with ThreadPoolExecutor() as pool:
            with home.deciding():
                done = pool.submit(becomes, home)
                with pytest.raises(TimeoutError):
                    done.result(0.5)
                assert home.keeper_file.exists()
            done.result(DEADLINE_S)
            assert not home.keeper_file.exists()
            home.follow(["server:7424"], b"\0", 2)
            assert not home.keeper_file.exists()
        succession.hand_over(home, {"moved": {}, "keeper": {"addresses": ["server:7424"], "certificate": "00"}})


def test_a_keeper_whose_owner_is_elsewhere_makes_no_owners_key_when_it_is_founded_anew(tmp_path: Path) -> None:
    """As by a later version that wants another nats.conf."""
    home = a_machine_to_which_a_keeper_came(tmp_path, succession.COMMITTED)
    founding.found(home)
    owner = home.public_key("owner").read_text()
    home.nats_config.write_text("{}")
    founding.found(home)
    assert not home.key("owner").exists() and home.public_key("owner").read_text() == owner
