"""Where no machines can be made of namespaces, the rows say why."""

from __future__ import annotations

import asyncio

import pytest
from bench.report import line
from bench.rows import machines

from lab import namespaces


def test_a_row_that_cannot_be_measured_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "why_not", lambda: "network namespaces need root")
    for row in (machines.lost, machines.keeper):
        results = asyncio.run(row())
        assert len(results) == 3
        assert all("network namespaces need root" in line(each) and "not here" in line(each) for each in results)
