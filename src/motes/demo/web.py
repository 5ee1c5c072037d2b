"""The demo's second part: a Twisted web daemon from PyPI, unmodified; its process is killed and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from motes.client.cluster import Cluster
from motes.client.deploy import deploy
from motes.errors import MotesError
from motes.model.instance import InstanceReport

APP = "twisted"
PORT = 8000
COMMAND = f"python -m twisted web --port tcp:{PORT}:interface=127.0.0.1 --path site"
REQUIREMENTS = Path(__file__).with_name("twisted.txt")
PAGE = "<h1>served from a process space</h1>\n"
INSTALL_TIMEOUT_S = 120.0
BACK_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 5.0


class WebFigures(NamedTuple):
    """What the table says of this part."""

    cpu_s: float
    memory_bytes: int
    back_after_s: float
    """From the kill to the next page."""


async def install(folder: Path) -> None:
    """Twisted into `folder`, each file compared with the hash that is pinned. Raises MotesError."""
    options = "--quiet --disable-pip-version-check --no-input --no-compile --require-hashes --only-binary :all:"
    command = [sys.executable, "-m", "pip", "install", *options.split(), "--target", str(folder)]
    pip = await asyncio.create_subprocess_exec(
        *command, "-r", str(REQUIREMENTS), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(INSTALL_TIMEOUT_S):
            _, said = await pip.communicate()
    except TimeoutError:
        raise _not_installed(f"not done within {INSTALL_TIMEOUT_S:g} s") from None
    finally:
        if pip.returncode is None:
            pip.kill()
            await pip.wait()
    if pip.returncode:
        errors = [line for line in said.decode(errors="replace").splitlines() if line.startswith("ERROR")]
        raise _not_installed(errors[-1] if errors else f"pip ended with exit code {pip.returncode}")
    (folder / "site").mkdir()
    (folder / "site" / "index.html").write_text(PAGE)


def _not_installed(why: str) -> MotesError:
    return MotesError(
        f"Twisted could not be installed from PyPI: {why} (the part with the daemon needs it; to go without: "
        "motes demo --no-daemon)"
    )


class Web:
    """The daemon in a cluster."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        self._cluster = cluster
        self._gateway = urlsplit(address).netloc
        self.host = f"{APP}.localhost:{self._gateway.rpartition(':')[2]}"

    async def run(self, folder: Path) -> WebFigures:
        """Deploy, ask for the page, kill the process, ask until the page is back. Raises MotesError."""
        await deploy(self._cluster, folder, name=APP, command=COMMAND.split(), port=PORT)
        if (page := await self._page()) != PAGE:
            raise MotesError(f"http://{self.host}/ did not answer with the daemon's page but with {page[:200]!r}")
        before = await self._instance()
        os.kill(before.pid, signal.SIGKILL)
        killed = asyncio.get_running_loop().time()
        after = await self._wait_until_back(before)
        back_after_s = asyncio.get_running_loop().time() - killed
        return WebFigures(before.cpu_s + after.cpu_s, max(before.memory_bytes, after.memory_bytes), back_after_s)

    async def _wait_until_back(self, before: InstanceReport) -> InstanceReport:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACK_TIMEOUT_S):
                while True:
                    await asyncio.sleep(0.02)
                    with contextlib.suppress(MotesError):
                        after = await self._instance()
                        if after.pid != before.pid and await self._page() == PAGE:
                            return await self._instance()
        raise MotesError(f"the daemon was killed and does not serve again within {BACK_TIMEOUT_S:g} s")

    async def _instance(self) -> InstanceReport:
        found = [each for each in await self._cluster.instances() if each.app == APP and each.pid]
        if not found:
            raise MotesError("the daemon has no process")
        return found[0]

    async def _page(self) -> str:
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> str:
        # With the Host header by hand: not every machine resolves names below localhost.
        connection = http.client.HTTPConnection(self._gateway, timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request("GET", "/", headers={"Host": self.host})
            return connection.getresponse().read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise MotesError(f"http://{self.host}/ does not answer: {error}") from error
        finally:
            connection.close()
