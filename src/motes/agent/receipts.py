"""A host's accounts: cut every ten seconds and at the end, signed, and sent until the keeper has given its receipt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from motes.bus import subjects
from motes.errors import BadInput, MotesError, Refused, TooLarge, Untrusted
from motes.grants.kept import FOLDER, Kept
from motes.grants.keys import Key
from motes.grants.receipts import digest, read_batch, read_receipt, sign_batch
from motes.model.keeper import decode_answer
from motes.model.receipt import BATCH_INTERVAL_S, Batch, Permit
from motes.model.release import Signed

if TYPE_CHECKING:
    from motes.agent.service import Agent

LOOK_S = 1.0
ANSWER_TIMEOUT_S = 5.0
SIGNED_AT_ONCE = 10
"""Batches; after so many, a millisecond, whatever else waits has its turn."""
GOODBYE_S = 0.5
"""How long a host that stops waits for its last receipts; those that do not come, it asks for at its next start."""
_log = logging.getLogger("motes.agent")


class Receipts:
    """The accounts of one agent."""

    def __init__(self, agent: Agent, keeper: bytes, folder: Path) -> None:
        self._agent = agent
        self._keeper = keeper
        self._key = Key(agent.connection.credentials.secret)
        self._kept = Kept(folder / FOLDER, self._key.public)
        self._cut_at = agent.now()
        self._unsigned: deque[Batch] = deque()
        """What was cut, without its place in the chain."""
        self._told = ""

    async def work(self) -> None:
        """Cut and send, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if self._agent.now() - self._cut_at >= BATCH_INTERVAL_S and not self._kept.is_full:
                    self._cut()
                await self._sign()
                await self._send()
            except Exception:
                # What was not told now is told with the next.
                _log.exception("the agent could not account for what was used")

    async def finish(self) -> None:
        """Everything here has ended: tell the rest. Whatever fails in that, the host goes on to say that it leaves."""
        try:
            self._cut()
            await self._sign()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._send()
        except Exception:
            _log.exception("the agent could not account for what was used last")

    def _cut(self) -> None:
        """Settle what was used since the last time; with the clock of this machine as it is now."""
        now, ended_at, meter = self._agent.now(), time.time(), self._agent.machine.meter
        began_at = ended_at - (now - self._cut_at)
        self._cut_at = now
        for app, spent in self._agent.machine.cut(self._agent.spaces.cpu.seconds(), now).items():
            if not (owner := meter.owners.get(app)):
                continue  # No release of it ever came: nothing ran.
            batch = Batch(
                host=self._agent.host,
                boot=self._agent.telling.boot,
                number=0,
                before=b"",
                app=app,
                owner=owner,
                began_at=began_at,
                ended_at=ended_at,
                spent=spent,
                permit=meter.permits.get(app, Permit()),
            )
            self._unsigned.append(batch)

    async def _sign(self) -> None:
        """Sign and note what was cut; one that is cancelled meanwhile goes on at the next call."""
        while self._unsigned:
            for _ in range(min(SIGNED_AT_ONCE, len(self._unsigned))):
                number = self._kept.number + 1
                batch = msgspec.structs.replace(self._unsigned[0], number=number, before=self._kept.digest)
                self._kept.add(sign_batch(self._key, batch), number)
                self._unsigned.popleft()
            await asyncio.sleep(0)

    async def _send(self) -> None:
        """One after the other, for each follows the one before; at the first that may be taken later it ends."""
        has_begun_anew = False
        while self._kept.unsent:
            try:
                self._kept.acknowledge(await self._ask(self._kept.unsent[0]))
            except (BadInput, TooLarge) as error:
                # It would be refused for ever, and all that follow with it. They show the keeper that one is missing.
                _log.error("a batch of what was used is left out, for the keeper cannot take it: %s", error)
                self._kept.drop()
            except MotesError as error:
                if has_begun_anew or not await self._begin_anew(error):
                    return self._say(error)
                has_begun_anew = True
        self._told = ""
        return None

    async def _ask(self, batch: Signed) -> Signed:
        """The keeper's receipt. Raises what it refuses with, and Untrusted for one that is not its own."""
        subject = subjects.usage(self._agent.host)
        answer = await self._agent.connection.request(subject, msgspec.msgpack.encode(batch), ANSWER_TIMEOUT_S)
        signed = decode_answer(answer, Signed)
        if read_receipt(signed, self._keeper)[0].batch != batch:
            raise Untrusted("the keeper's receipt is for another batch")
        return signed

    async def _begin_anew(self, refusal: MotesError) -> bool:
        """The keeper knows later batches of this key, as after a loss of this folder: those unsent follow them."""
        number, before = refusal.detail.get("number"), refusal.detail.get("digest")
        if not isinstance(refusal, Refused) or not isinstance(number, int) or not isinstance(before, str):
            return False
        _log.warning("the keeper has heard batch %d of this host, which knows less: it goes on from there", number)
        anew, named = [], bytes.fromhex(before)
        for each in self._kept.unsent:
            number += 1
            batch = msgspec.structs.replace(read_batch(each, self._key.public), number=number, before=named)
            anew.append(sign_batch(self._key, batch))
            named = digest(anew[-1])
            if len(anew) % SIGNED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._kept.replace(anew, number)
        return True

    def _say(self, error: MotesError) -> None:
        """Once for each reason."""
        if error.message != self._told:
            self._told = error.message
            _log.info("the keeper has not taken what was used; it is sent again: %s", error)
