"""What may name apps, workloads, hosts and users."""

from __future__ import annotations

from motes.model.names import is_name


def test_what_may_be_a_name() -> None:
    assert all(map(is_name, ("a", "A9", "0", "a-b_c", "a--", "a" * 63)))
    assert not any(map(is_name, ("", "-a", "_a", "a.b", "a b", "a\n", "ä", "²", "a" * 64, "a/b")))
