"""What module code forks in its zygote counts, and has the limit that the zygote has."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.space.trials import Lab, trial


@trial
async def test_what_module_code_forks_counts_and_ends_the_space(lab: Lab) -> None:
    app = await lab.functions(
        """
        import os, time
        from motes import function
        for _ in range(3):
            if os.fork() == 0:
                if os.fork() == 0:
                    x = bytearray(300 * 2**20)
                    for at in range(0, len(x), 4096): x[at] = 1
                    time.sleep(1000)
                os._exit(0)
            os.wait()
        @function
        def fine() -> int: return 1
        """
    )
    numbers = [app.spawn("fine") for _ in range(20)]
    for number in numbers:
        assert app.value(await app.ask(number)) == 1
    while not app.is_closed:
        # As the agent does four times a second.
        app.space.space_usage()
        await asyncio.sleep(0.05)


def _orphans_of_bubblewrap() -> set[int]:
    """Living bubblewraps of this user whose own parent has ended."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, _, rest = Path(f"/proc/{entry}/stat").read_text().rpartition(")")
            state, parent = rest.split()[:2]
            if "(bwrap" in name and state != "Z" and parent == "1" and os.stat(f"/proc/{entry}").st_uid == os.getuid():
                found.add(int(entry))
        except OSError:
            continue
    return found


@trial
async def test_a_space_that_is_closed_while_it_is_made_leaves_nothing(lab: Lab) -> None:
    from motes.space.function_space import FunctionSpace, Unheard
    from motes.space.view import View

    code, before = lab.app("from motes import function"), _orphans_of_bubblewrap()
    for turn in range(60):
        space = FunctionSpace(View(code=code), Unheard())
        await asyncio.sleep(turn % 30 * 0.0007)
        await space.close()
    assert _orphans_of_bubblewrap() - before == set()
