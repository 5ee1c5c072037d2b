"""Make a home into a cluster: its keys, the accounts and users that NATS knows, and the server's configuration.

Everything is made once and kept. Done again after a crash in the middle it completes what is missing.
"""

from __future__ import annotations

import os

from motes.bus import server
from motes.home import Home
from motes.model.names import GATEWAY_ANSWERS, OWN_USER

FIRST_HOST = "local"


def found(home: Home) -> None:
    """Prepare `home` for the first start, or do nothing when that was done. Raises Unavailable and Untrusted."""
    home.create()
    if home.keeper_file.exists():
        return  # This machine has joined another's cluster: it has hosts only.
    if not home.hosts_file.exists():
        home.write_json(home.hosts_file, {FIRST_HOST: default_offer()})
    if not server.has_config(home):
        _found_accounts(home)
    for name in home.offers():
        admit_host(home, name)
    _admit_gateway(home)


def listen(home: Home, host: str, port: int) -> None:
    """Let other machines reach this home's nats-server at `host` and `port`, from its next start on."""
    from motes.bus import tls

    home.create()
    if not home.tls_certificate.exists():
        key, certificate = tls.make_certificate("motes")
        home.write_text(home.tls_key, key)
        home.write_text(home.tls_certificate, certificate)
    home.write_json(home.listen_file, {"host": host, "port": port})


def default_offer() -> dict[str, float | int]:
    """What a host lends when its owner did not say: its processors and half its memory; an Offer as plain data."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpus": float(len(os.sched_getaffinity(0))), "memory_bytes": memory_bytes // 2, "spaces": 100}


def admit_host(home: Home, name: str) -> None:
    """Give host `name` its credentials, unless it has some. Raises BadInput."""
    from motes.grants import jwt, keys, roles

    role = roles.host(name)
    if not home.user(role.user).exists():
        account = keys.load_or_create(home.key("account"))
        home.save_credentials(jwt.credentials(account, role))


def _admit_gateway(home: Home) -> None:
    """A cluster that was founded by an earlier version had one user for it."""
    if not home.user(GATEWAY_ANSWERS).exists():
        from motes.grants import jwt, keys, roles

        account = keys.load_or_create(home.key("account"))
        for role in (roles.GATEWAY, roles.ANSWERING):
            home.save_credentials(jwt.credentials(account, role))


def _found_accounts(home: Home) -> None:
    from motes.grants import jwt, keys, roles

    operator, system, account, controller, owner = (
        keys.load_or_create(home.key(name)) for name in ("operator", "system", "account", "controller", "owner")
    )
    # Who only checks signatures reads these, and never the secret ones.
    for name, key in (("controller", controller), ("owner", owner)):
        home.write_text(home.public_key(name), key.public.hex())
    home.save_credentials(jwt.credentials(system, roles.SYSTEM))
    for role in (roles.KEEPER, roles.caller(OWN_USER)):
        home.save_credentials(jwt.credentials(account, role))
    system_id, account_id = (key.nkey(keys.Nkey.ACCOUNT) for key in (system, account))
    tokens = {
        system_id: jwt.account_token(operator, system, "system", jetstream=False),
        account_id: jwt.account_token(operator, account, "motes", jetstream=True),
    }
    # Last: its presence says that the rest is there.
    server.write_config(home, server.Accounts(jwt.operator_token(operator, system), system_id, tokens))
