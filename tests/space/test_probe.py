"""What `motes doctor` asks."""

from __future__ import annotations

from motes.space.probe import probe


def test_every_layer_is_tried_and_works_where_spaces_work() -> None:
    layers = {layer.name: layer for layer in probe()}
    assert {"ordinary user", "user namespaces", "process space", "seccomp", "own /proc", "own network"} <= set(layers)
    assert all(layer.works for name, layer in layers.items() if name not in ("Landlock", "no further user namespaces"))


def test_a_missing_bubblewrap_is_said(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("BWRAP", "/bin/false")
    broken = [layer for layer in probe() if not layer.works]
    assert broken[0].name == "user namespaces"
    assert broken[0].mend
