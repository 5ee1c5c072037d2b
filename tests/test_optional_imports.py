"""What few use costs the others nothing: it is imported when it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

OPTIONAL = ("mcp", "nats", "opentelemetry", "prometheus_client", "rich", "segno", "textual", "websockets")


@pytest.mark.parametrize("program", ["motes.gateway.__main__", "motes.agent.__main__", "motes.client.cluster"])
def test_a_program_imports_nothing_that_it_may_never_use(program: str) -> None:
    code = f"import sys, {program}; print([name for name in {OPTIONAL!r} if name in sys.modules])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
