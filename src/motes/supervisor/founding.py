"""Make a home into a cluster: its keys, the accounts and users that NATS knows, and the server's configuration.

Keys are made once and kept. Done again after a crash in the middle it completes what is missing.
"""

from __future__ import annotations

import contextlib
import os

from motes.bus import server
from motes.grants import roles
from motes.grants.roles import Role
from motes.home import Home
from motes.model.names import OWN_USER
from motes.supervisor import succession

FIRST_HOST = "local"


def found(home: Home) -> None:
    """Prepare `home` for the first start, or do nothing when that was done. Raises Unavailable and Untrusted."""
    with alone(home):
        _found(home)


def alone(home: Home) -> contextlib.AbstractContextManager[None]:
    """One at a time makes keys: of two that begin together in an empty home, each would have others."""
    home.create()
    return home.alone_in(home.keys)


def _found(home: Home) -> None:
    if home.arriving.exists():
        succession.install(home)
        succession.forget_unfinished(home)
    if home.keeper_file.exists():
        return  # This machine has joined another's cluster: it has hosts only.
    if not home.hosts_file.exists():
        home.write_json(home.hosts_file, {FIRST_HOST: default_offer()})
    if home.foreign() is None:
        if not server.has_config(home):
            _found_accounts(home)
        server.fit_config(home)
        _admit(home, "system", roles.SYSTEM)
    programs = (roles.KEEPER, roles.GATEWAY, roles.ANSWERING, roles.STREAMING)
    for role in (*programs, roles.caller(OWN_USER), *map(roles.host, home.offers())):
        _admit(home, "account", role)


def listen(home: Home, host: str, port: int) -> None:
    """Let other machines reach this home's nats-server at `host` and `port`, from its next start on."""
    from motes.bus import tls

    home.create()
    if not home.tls_certificate.exists():
        key, certificate = tls.make_certificate(tls.SERVER_NAME)
        home.write_text(home.tls_key, key)
        home.write_text(home.tls_certificate, certificate)
    home.set_listen(host=host, port=port)


def default_offer() -> dict[str, float | int]:
    """What a host lends when its owner did not say: its processors and half its memory; an Offer as plain data."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpus": float(len(os.sched_getaffinity(0))), "memory_bytes": memory_bytes // 2, "spaces": 100}


def admit_host(home: Home, name: str) -> None:
    """Give host `name` its credentials, unless it has some. Raises BadInput."""
    _admit(home, "account", roles.host(name))


def _admit(home: Home, account: str, role: Role) -> None:
    """Credentials for the user of `role`; one to whom an earlier version gave other rights gets these for its key."""
    known = home.credentials(role.user) if home.user(role.user).exists() else None
    if known is not None and role.is_in(known.jwt):
        return
    from motes.grants import issuing, jwt, keys

    issuer = keys.load_or_create(home.key(account)) if account == "system" else issuing.issuer_of(home)
    if known is None:
        home.save_credentials(jwt.credentials(issuer, role))
    else:
        home.save_credentials(known._replace(jwt=jwt.user_token(issuer, role, keys.Key(known.secret).public)))


def found_keys(home: Home) -> None:
    """The controller's and the owner's, whatever NATS it is that they are used at."""
    from motes.grants import keys

    # A keeper that has moved here has no owner's key, and makes none. One that has no key at all yet finds at most what
    # a `motes join` left that was killed: another cluster's public keys.
    if home.key("owner").exists() or not (home.key("controller").exists() and home.public_key("owner").exists()):
        owner = keys.load_or_create(home.key("owner"))
        home.write_text(home.public_key("owner"), owner.public.hex())
    controller = keys.load_or_create(home.key("controller"))
    # Who only checks signatures reads these, and never the secret ones.
    home.write_text(home.public_key("controller"), controller.public.hex())


def forget_tokens(home: Home) -> None:
    """Another key issues users from now on: they keep their keys, and get new tokens at the next start."""
    for file in home.users.glob("*.json"):
        home.save_credentials(home.credentials(file.stem)._replace(jwt=""))


def _found_accounts(home: Home) -> None:
    from motes.grants import jwt, keys

    operator, system, account = (keys.load_or_create(home.key(name)) for name in ("operator", "system", "account"))
    found_keys(home)
    forget_tokens(home)
    system_id, account_id = (key.nkey(keys.Nkey.ACCOUNT) for key in (system, account))
    tokens = {
        system_id: jwt.account_token(operator, system, "system", jetstream=False),
        account_id: jwt.account_token(operator, account, "motes", jetstream=True),
    }
    # Last: its presence says that the rest is there.
    server.write_config(home, server.Accounts(jwt.operator_token(operator, system), system_id, tokens))
