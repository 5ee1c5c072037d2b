"""A keeper's home goes to live in a NATS that somebody else runs, or comes back from there.

That is settled before anything runs. What cannot work is found out first and changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import TypeVar

from motes.bus import foreign
from motes.bus.connection import REFUSAL, Connection
from motes.errors import BadInput, MotesError, Refused, Unavailable
from motes.grants import issuing, jwt, roles
from motes.grants.keys import Key, Nkey, SigningKey, load_or_create, public_nkey
from motes.home import Home
from motes.model import certificate as certificates
from motes.model.credentials import Credentials
from motes.model.invite import is_address
from motes.supervisor import founding

TLS, PLAIN = "tls://", "nats://"
DEFAULT_PORT = 4222

T = TypeVar("T")


def servers_in(text: str) -> str:
    """The URLs of `--nats` with a port each. Raises BadInput, and Refused for what would be open to all on the way."""
    found = [each.strip() for each in text.split(",")]
    for place, each in enumerate(found):
        scheme, _, address = each.rpartition("//")
        address = address if address.rpartition(":")[2].isdigit() else f"{address}:{DEFAULT_PORT}"
        found[place] = f"{scheme}//{address}"
        if f"{scheme}//" not in (TLS, PLAIN) or not is_address(address):
            raise BadInput(f"--nats {each[:80]!r} is no URL; write it like {TLS}nats.example:{DEFAULT_PORT}")
        if f"{scheme}//" == PLAIN and not _is_loopback(address.rpartition(":")[0].strip("[]")):
            raise Refused(
                f"{each[:80]} has no TLS: what is said, and code on its way, would be open to all between here and"
                f" there; have the NATS use TLS, and write {TLS}{address}"
            )
    if len({each.partition("//")[0] for each in found}) != 1:
        raise BadInput(f"--nats names servers with TLS and without; write all of them with {TLS}")
    return ",".join(found)


def begin(home: Home, servers: str, creds: str, authorities: str | None, system_creds: str | None) -> None:
    """Live there from the next start on; what is told are texts of files. Raises MotesError where that cannot be."""
    _refuse_where_it_has_its_own(home)
    known = _certificate(servers, authorities)
    signing = issuing.read_signing_key(creds)
    system = None if system_creds is None else issuing.read_user(system_creds, roles.SYSTEM.user)
    with founding.alone(home):
        # Another command may have founded it meanwhile.
        _refuse_where_it_has_its_own(home)
        _begin(home, servers, known, signing, system)


def _refuse_where_it_has_its_own(home: Home) -> None:
    if home.foreign() is None and home.nats_config.exists():
        raise Refused(
            f"{home.path} has a cluster with a NATS of its own; found another there:"
            " MOTES_HOME=FOLDER motes up --nats URL --creds FILE"
        )


def _begin(home: Home, servers: str, known: bytes, signing: SigningKey, system: Credentials | None) -> None:
    founding.found_keys(home)
    owner = load_or_create(home.key("controller")).public.hex()
    asyncio.run(_try(servers, known, signing, owner, system))
    home.write_text(home.key("signing"), signing.secret.hex())
    home.user(roles.SYSTEM.user).unlink(missing_ok=True)
    founding.forget_tokens(home)
    if system is not None:
        home.save_credentials(system)
    account = public_nkey(Nkey.ACCOUNT, signing.account)
    before = home.foreign()
    # Who joined by other servers of it is told these, where those lead there still.
    has_moved = before is not None and before.account == account and (before.has_moved or before.servers != servers)
    told = {"servers": servers, "certificate": known.hex(), "account": account, "has_moved": has_moved}
    # Last: its presence says that the rest is there.
    home.write_json(home.foreign_file, told)


def end(home: Home) -> None:
    """Have a nats-server of its own from the next start on. Raises Refused while apps are deployed there."""
    told = home.foreign()
    if told is None:
        return
    signing = issuing.issuer_of(home)
    look = _with_keeper(told.servers, told.certificate, signing, lambda connection: foreign.keys(connection, "apps"))
    try:
        apps = asyncio.run(look)
    except MotesError as error:
        raise Unavailable(
            f"whether apps are deployed there cannot be told: {error.message} (to give up all that is there, delete"
            f" {home.foreign_file})"
        ) from None
    if apps:
        raise Refused(
            f"{apps} apps are deployed in the NATS at {told.servers}, and would be gone from here; remove them first"
            " (motes up, motes rm APP, motes down), or begin elsewhere: MOTES_HOME=FOLDER motes up"
        )
    home.foreign_file.unlink()
    for file in (home.key("signing"), home.user(roles.SYSTEM.user)):
        file.unlink(missing_ok=True)
    founding.forget_tokens(home)


def _certificate(servers: str, authorities: str | None) -> bytes:
    if servers.startswith(PLAIN):
        if authorities is not None:
            raise BadInput(f"--nats-ca is for servers with TLS; write --nats {TLS}HOST:PORT")
        return b""
    return certificates.SYSTEM if authorities is None else certificates.authorities(authorities)


async def _try(servers: str, certificate: bytes, signing: SigningKey, owner: str, system: Credentials | None) -> None:
    await _with_keeper(servers, certificate, signing, lambda connection: foreign.examine(connection, owner))
    if system is not None:
        connection = await Connection.open(servers, system, certificate=certificate)
        try:
            await foreign.check_system(connection, public_nkey(Nkey.ACCOUNT, signing.account))
        finally:
            await connection.close()


async def _with_keeper(servers: str, certificate: bytes, signing: Key, work: Callable[[Connection], Awaitable[T]]) -> T:
    """What `work` returns, as the keeper's user."""
    try:
        connection = await Connection.open(servers, jwt.credentials(signing, roles.KEEPER), certificate=certificate)
    except Unavailable as error:
        if REFUSAL in error.message:
            raise Refused(
                f"NATS at {servers} takes no user that the signing key in the file of --creds has issued: the account"
                f" {public_nkey(Nkey.ACCOUNT, signing.account)} is not known there, or does not list"
                f" {public_nkey(Nkey.ACCOUNT, signing.public)}, or lists it with a role; {issuing.HOW}"
            ) from None
        raise
    try:
        return await work(connection)
    finally:
        await connection.close()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
