"""What an owner signs: only what was asked for, whatever the host that looked at it says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from motes.client.cluster import Cluster
from motes.client.deploy import prepare
from motes.errors import Untrusted
from motes.model.release import Daemon, Function, Manifest, Workload

WEB = Daemon("main", ("serve",), 8080)
EVIL = Daemon("main", ("sh", "-c", "evil"), 8080)
FUNCTION = Function("f", "app", "f")


class LyingCluster:
    """A cluster whose host describes every app as `manifest`."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    async def ask(self, verb: str, question: object, kind: type[Any], timeout_s: float) -> Any:
        return self._manifest if verb == "inspect" else True


def prepared(folder: Path, manifest: Manifest, **asked: Any) -> Manifest:
    (folder / "app.py").write_text("")
    cluster = cast(Cluster, LyingCluster(manifest))
    return asyncio.run(prepare(cluster, folder / "app.py", name="app", **asked)).manifest


@pytest.mark.parametrize(
    ("app", "workloads", "entries", "asked"),
    [
        ("app", (EVIL,), (), {}),
        ("app", (FUNCTION, EVIL), (), {}),
        ("app", (EVIL,), (), {"command": WEB.command, "port": WEB.port}),
        ("app", (WEB, EVIL), (), {"command": WEB.command, "port": WEB.port}),
        ("app", (WEB, FUNCTION), (), {"command": WEB.command, "port": WEB.port}),
        ("app", (FUNCTION,), (), {"command": WEB.command, "port": WEB.port}),
        ("app", (FUNCTION,), ("app.py:evil",), {"entries": ["app.py:f"]}),
        ("another", (FUNCTION,), (), {}),
    ],
)
def test_a_host_chooses_no_command_entry_or_name(
    tmp_path: Path, app: str, workloads: tuple[Workload, ...], entries: tuple[str, ...], asked: dict[str, Any]
) -> None:
    with pytest.raises(Untrusted, match="as what it is not"):
        prepared(tmp_path, Manifest(app, workloads, entries), **asked)


def test_what_was_asked_for_is_prepared(tmp_path: Path) -> None:
    functions = Manifest("app", (FUNCTION,), ("app.py:f",))
    assert prepared(tmp_path, functions, entries=["app.py:f"]) == functions
    daemon = Manifest("app", (WEB,))
    assert prepared(tmp_path, daemon, command=WEB.command, port=WEB.port) == daemon
