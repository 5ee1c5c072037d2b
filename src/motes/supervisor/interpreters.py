"""The interpreter of a host that has another Python than the cluster: looked at before it is used."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from typing import Any

from motes import __version__
from motes.errors import BadInput

LEAST = (3, 11)
TIMEOUT_S = 30.0
_ASK = """
import json, sys
told = {"python": sys.version_info[:3]}
if told["python"] >= (3, 11):
    try:
        import motes, motes.agent.__main__
        told["motes"] = motes.__version__
    except ImportError as error:
        told["lacks"] = str(error)
print(json.dumps(told))
"""


def usable_interpreter(name: str) -> str:
    """The path of the interpreter `name`, which may be on the PATH, when a host can run with it. Raises BadInput."""
    found = shutil.which(name)
    if found is None or os.path.isdir(name):
        raise BadInput(f"--python {name}: there is no such program")
    # Not what a link leads to: a virtual environment's interpreter is a link, and its place says what is installed.
    path = os.path.abspath(found)
    told = _ask(path)
    if "python" not in told:
        raise BadInput(f"--python {path} is no Python that answers: {told.get('error', 'it said nothing of itself')}")
    version = ".".join(map(str, told["python"]))
    if tuple(told["python"]) < LEAST:
        raise BadInput(f"--python {path} is Python {version}; a host needs {LEAST[0]}.{LEAST[1]} or later")
    if told.get("motes") != __version__:
        has = f"has motes {told['motes']}" if "motes" in told else f"cannot run motes ({told.get('lacks')})"
        mend = f"{path} -m pip install motes=={__version__}"
        raise BadInput(f"--python {path} {has}; the cluster's is {__version__}; install it there: {mend}")
    return path


def _ask(path: str) -> dict[str, Any]:
    try:
        asked = subprocess.run(
            [path, "-c", _ASK],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    with contextlib.suppress(ValueError):
        if isinstance(told := json.loads(asked.stdout), dict):
            return told
    said = asked.stderr.strip().splitlines()[-1:] or ["it printed something else"]
    return {"error": said[0]}
