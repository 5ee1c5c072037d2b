"""The supervisor's program: one of them for each home, which a lock holds to.

python -m motes.supervisor --home HOME --http HOST:PORT
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
from pathlib import Path

from motes.errors import MotesError
from motes.home import Home
from motes.supervised import announce_ready, end_with_parent
from motes.supervisor.address import choose_http
from motes.supervisor.service import GRACE_S, PROGRAMS, Supervisor


def main() -> int:
    """Run the tree until told to end."""
    parser = argparse.ArgumentParser(prog="motes.supervisor")
    parser.add_argument("--home", required=True)
    parser.add_argument("--http", required=True)
    parser.add_argument("--programs", help="a JSON file of what to run in place of Motes' own programs, for tests")
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds that a child has to end, for tests")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    options = parser.parse_args()
    if options.with_parent:
        end_with_parent()
    home = Home(options.home)
    programs = json.loads(Path(options.programs).read_text()) if options.programs else PROGRAMS
    try:
        with open(home.lock, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A machine that has joined has no gateway, and needs no port for one.
            http = options.http if home.keeper_file.exists() else choose_http(options.http)
            return Supervisor(home, http, programs, options.grace).run()
    except BlockingIOError:
        announce_ready(error=f"a cluster runs in {home.path} already", running=True)
    except (MotesError, OSError) as error:
        announce_ready(error=str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
