"""What module code forks in its zygote counts, and has the limit that the zygote has."""

from __future__ import annotations

import asyncio

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
