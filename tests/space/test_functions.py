"""Functions in real spaces: what is loaded, how a call goes in and out, and which limits end it."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.space import masks
from tests.space.trials import Lab, trial

from motes.errors import BadInput, BadResult, FunctionError, LimitExceeded, LoadFailed, MotesError, TooLarge
from motes.model.instance import EndReason
from motes.model.release import PAYLOAD_LIMIT_BYTES, Scale

LACKING = (masks.NO_LANDLOCK,)

GREET = """
    from motes import function

    @function(memory="32 MiB", timeout="5 s", scale=(1, 3), idle="1 s", idempotent=True)
    def greet(name: str) -> str:
        print("greeting", name)
        return f"hello {name}"
"""


@trial
async def test_a_declared_function_is_described_and_answers(lab: Lab) -> None:
    app = await lab.functions(GREET)
    (found,) = app.space.functions
    assert (found.name, found.module, found.qualname) == ("greet", "app", "greet")
    assert (found.parameters, found.parameter_names, found.result) == (
        {"type": "string"},
        ("name",),
        {"type": "string"},
    )
    assert (found.memory_bytes, found.timeout_s, found.scale, found.idle_s) == (32 * 2**20, 5.0, Scale(1, 3), 1.0)
    assert found.idempotent and found.reuse == "any"
    assert await app.call("greet", "Ada") == "hello Ada"


@trial
async def test_the_start_comes_before_the_reply_and_output_before_both_are_over(lab: Lab) -> None:
    app = await lab.functions(GREET)
    number = app.spawn("greet")
    assert app.value(await app.ask(number, "Ada")) == "hello Ada"
    app.space.end(number, EndReason.IDLE, "nobody called")
    assert await app.end_of(number) == (EndReason.IDLE, "nobody called")
    told = [event[0] for event in app.events if event[1] == number]
    # What was printed may come in pieces, and on a way of its own.
    assert told[-1] == "ended" and set(told[:-1]) == {"started", "output", "replied"}
    assert told.index("started") < told.index("replied")
    assert told.count("started") == told.count("replied") == 1
    assert app.printed(number) == "greeting Ada\n"


@trial
async def test_a_file_alone_is_the_app_whatever_its_name(lab: Lab) -> None:
    source = "from motes import function\n@function\ndef double(x: int) -> int:\n    return 2 * x\n"
    for name in ("my-app.py", "my app.py", "v1.2.py"):
        assert await (await lab.functions({name: source})).call("double", 4) == 8, name
    # Beside modules, what no module can import is a script.
    beside = await lab.functions({"app.py": source, "run-it.py": "1/0"})
    assert await beside.call("double", 4) == 8


@trial
async def test_one_instance_answers_many_calls_in_order(lab: Lab) -> None:
    app = await lab.functions("from motes import function\n@function\ndef double(x: int) -> int:\n    return 2 * x\n")
    number = app.spawn("double")
    for x in range(50):
        app.deliver(number, str(x).encode())
    await app.until(lambda: len(app.outcomes(number)) == 50)
    assert [app.value(outcome) for outcome in app.outcomes(number)] == [2 * x for x in range(50)]


@trial
async def test_several_parameters_are_an_object_by_name(lab: Lab) -> None:
    app = await lab.functions(
        """
        from dataclasses import dataclass
        from motes import function

        @dataclass
        class Point:
            x: int
            y: int

        @function
        def move(point: Point, by: int = 1, *, labels: list[str] = []) -> Point:
            return Point(point.x + by, point.y + by)
        """
    )
    (found,) = app.space.functions
    assert sorted(found.parameters["properties"]) == ["by", "labels", "point"]
    number = app.spawn("move")
    assert app.value(await app.ask(number, {"point": {"x": 1, "y": 2}})) == {"x": 2, "y": 3}
    assert app.value(await app.ask(number, {"point": {"x": 1, "y": 2}, "by": 5})) == {"x": 6, "y": 7}
    wrong = (await app.ask(number, {"point": {"x": 1, "y": "2"}})).error()
    assert isinstance(wrong, BadInput) and wrong.detail["path"] == "$.point.y"
    unknown = (await app.ask(number, {"point": {"x": 1, "y": 2}, "more": 1})).error()
    assert isinstance(unknown, BadInput) and "`more`" in unknown.message
    broken = (await app.ask(number, body=b"{")).error()
    assert isinstance(broken, BadInput)


@trial
async def test_bytes_arrive_as_they_were(lab: Lab) -> None:
    app = await lab.functions(
        "from motes import function\n@function\ndef size(data: bytes) -> int:\n    return len(data)\n"
    )
    assert await app.call("size", "AAECAw==") == 4


@trial
async def test_a_function_without_parameters_takes_an_empty_body_only(lab: Lab) -> None:
    app = await lab.functions("from motes import function\n@function\ndef one() -> int:\n    return 1\n")
    number = app.spawn("one")
    assert app.value(await app.ask(number)) == 1
    assert app.value(await app.ask(number, None)) == 1
    assert isinstance((await app.ask(number, {"x": 1})).error(), BadInput)


@trial
async def test_an_async_function_runs(lab: Lab) -> None:
    app = await lab.functions(
        """
        import asyncio
        from motes import function

        @function
        async def slow(x: int) -> int:
            await asyncio.sleep(0.01)
            return x + 1
        """
    )
    number = app.spawn("slow")
    assert [app.value(await app.ask(number, x)) for x in (1, 2)] == [2, 3]


@trial
async def test_a_plain_callable_can_be_named(lab: Lab) -> None:
    files = {"app.py": "def plain(x):\n    return [x]\n\ndef other():\n    pass\n", "broken.py": "1/0"}
    app = await lab.functions(files, entries=("app.py:plain",))
    assert [found.name for found in app.space.functions] == ["plain"]
    assert await app.call("plain", "x") == ["x"]
    with pytest.raises(LoadFailed, match="no callable named 'missing'"):
        await lab.functions(files, entries=("app.py:missing",))


@trial
async def test_the_modules_of_a_folder_see_each_other_and_its_packages(lab: Lab) -> None:
    app = await lab.functions(
        {
            "one.py": "from motes import function\nfrom two import two\n@function\ndef one():\n    return two() - 1\n",
            "two.py": "from motes import function\nfrom deep import depth\n@function\ndef two():\n    return depth\n",
            "deep/__init__.py": "depth = 2\n",
            "setup.py": "raise SystemExit('not to be imported')\n",
            "random.py": "from motes import function\n@function\ndef draw():\n    return 4\n",
        }
    )
    assert sorted(found.name for found in app.space.functions) == ["draw", "one", "two"]
    assert [await app.call(name) for name in ("one", "two", "draw")] == [1, 2, 4]


@trial
async def test_a_script_with_a_main_guard_is_fine(lab: Lab) -> None:
    app = await lab.functions(
        """
        import argparse, sys
        from motes import function

        assert sys.argv == ["/app/app.py"]

        @function
        def f() -> int:
            return 1

        if __name__ == "__main__":
            argparse.ArgumentParser().parse_args()
            sys.exit(1)
        """
    )
    assert await app.call("f") == 1


REFUSED = {
    "import nothing_of_that_name": "ModuleNotFoundError",
    "def f(:": "SyntaxError",
    "x = 1": "no function",
    "import sys\nsys.exit(3)": "ends the process when it is imported",
    "import os\nos._exit(3)": "exit code 3",
    "import os\nos.abort()": "signal 6",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "open('/home/x', 'w')": "FileNotFoundError",
    "open('/app/x', 'w')": "OSError",
    "import subprocess\nsubprocess.run(['/bin/true'])": "PermissionError",
    "import socket\nsocket.socket()": "PermissionError",
    "import socket\nkept = socket.socketpair()": "2 socket(s) open",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()": "1 thread(s)",
    "import os, time\nif os.fork() == 0:\n    time.sleep(9)": "started processes",
    "x = bytearray(10**10)": "MemoryError: the modules need more memory than they may have while they are imported",
    "from motes import function\n@function\ndef f(x: object): ...": "function 'f', parameter 'x'",
    "from __future__ import annotations\nfrom motes import function\n@function\ndef f(x: Nowhere): ...": "function 'f'",
    "from motes import function\n@function\ndef f(*xs): ...": "parameter 'xs'",
    "from motes import function\n@function\ndef f() -> open: ...": "function 'f', result",
    "from motes import function\n@function(scale=(2, 1))\ndef f(): ...": "ValueError",
}


@trial
async def test_what_cannot_be_loaded_is_refused_with_the_reason(lab: Lab) -> None:
    wrong = []
    for source, expected in REFUSED.items():
        try:
            await lab.functions(source)
        except LoadFailed as error:
            if expected not in error.message:
                wrong.append((source, expected, error.message))
        else:
            wrong.append((source, expected, "loaded"))
    assert not wrong


@trial
async def test_two_functions_of_one_name_are_refused(lab: Lab) -> None:
    source = "from motes import function\n@function\ndef f(): ...\n"
    with pytest.raises(LoadFailed, match=r"named 'f': in a\.py and b\.py"):
        await lab.functions({"a.py": source, "b.py": source})


@trial
async def test_a_load_failure_shows_the_apps_own_traceback(lab: Lab) -> None:
    with pytest.raises(LoadFailed) as caught:
        await lab.functions({"app.py": "print('so far')\nimport other\n", "other.py": "def f():\n    1 / 0\n\nf()\n"})
    shown = caught.value.detail["traceback"]
    assert 'File "app.py", line 2' in shown and 'File "other.py", line 2, in f' in shown
    assert "motes" not in shown and "/app" not in shown and "ZeroDivisionError" in shown
    assert caught.value.detail["log"] == "so far\n"


@trial
async def test_loading_that_does_not_end_is_given_up(lab: Lab) -> None:
    with pytest.raises(LoadFailed, match="not loaded within 1 s"):
        await lab.functions("while True: pass", timeout_s=1.0)


FAILING = """
    import os, signal, sys, threading, time
    from dataclasses import dataclass
    from motes import function

    @dataclass
    class Point:
        x: int

    @function
    def raises(): return inner()
    def inner(): raise KeyError("why")
    @function
    def unsayable():
        class Odd(Exception):
            def __str__(self): raise ValueError
        raise Odd
    @function
    def huge_message(): raise ValueError("x" * 10**6)
    @function
    def recursion(): return recursion.callable()
    @function
    def interrupts(): raise KeyboardInterrupt
    @function
    def unsendable(): return object()
    @function
    def cyclic():
        found = []
        found.append(found)
        return found
    @function
    def too_large(): return "x" * (9 * 2**20)
    @function
    def largest(data: str) -> int: return len(data)
    @function
    def exits(code: int): sys.exit(code)
    @function
    def exits_at_once(code: int): os._exit(code)
    @function
    def killed(): os.kill(os.getpid(), signal.SIGKILL)
    @function
    def memory(): return len(bytearray(10**9))
    @function
    def threads():
        for _ in range(10000): threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
    @function
    def long_file():
        with open("long", "wb") as file:
            while True: file.write(bytes(2**20))
    @function
    def many_files(): return [open(f"f{n}", "w") for n in range(10000)]
    @function
    def sleeps():
        while True: time.sleep(1)
    @function
    def fine(): return 1
    @function
    def promises_text() -> str: return 1
    @function
    def promises_points() -> list[Point]: return [Point("x")]
    @function
    def promises_numbers() -> list[float]: return [float("nan")]
    @function
    def prints():
        while True: print("x" * 1000)
"""


@trial
async def test_a_function_that_raises_tells_type_and_its_own_frames(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    number = app.spawn("raises")
    error = (await app.ask(number)).error()
    assert isinstance(error, FunctionError) and error.detail["type"] == "KeyError"
    assert 'File "app.py"' in error.detail["traceback"] and "in inner" in error.detail["traceback"]
    assert "guest" not in error.detail["traceback"] and "/app" not in error.detail["traceback"]
    # And it goes on.
    assert isinstance((await app.ask(number)).error(), FunctionError)


@trial
async def test_every_kind_of_failure_is_answered_and_typed(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    expected: dict[str, type[MotesError]] = {
        "unsayable": FunctionError,
        "huge_message": FunctionError,
        "recursion": FunctionError,
        "interrupts": FunctionError,
        "unsendable": BadResult,
        "cyclic": BadResult,
        "too_large": TooLarge,
    }
    errors = {name: await app.fail(name) for name in expected}
    assert {name: type(error) for name, error in errors.items()} == expected
    assert errors["too_large"].detail["limit_bytes"] == PAYLOAD_LIMIT_BYTES
    assert len(errors["huge_message"].message) < 5000


@trial
async def test_a_result_that_breaks_the_annotation_is_not_sent(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    expected = {
        "promises_text": "the function promises str: Expected `str`, got `int`",
        "promises_points": "Expected `int`, got `str` - at `$[0].x`",
        "promises_numbers": "Expected `float`, got `null` - at `$[0]`",
    }
    errors = {name: await app.fail(name) for name in expected}
    assert {type(error) for error in errors.values()} == {BadResult}
    for name, words in expected.items():
        assert f"function '{name}'" in errors[name].message and errors[name].message.endswith(words)


@trial
async def test_a_body_at_the_limit_fits(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    body = b'"' + b"x" * (PAYLOAD_LIMIT_BYTES - 2) + b'"'
    assert app.value(await app.ask(app.spawn("largest"), body=body)) == len(body) - 2


@trial
async def test_a_process_that_ends_itself_is_reported_with_its_code(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    expected = {
        ("exits", 0): (EndReason.RETURNED, "exit code 0"),
        ("exits", 4): (EndReason.EXITED, "exit code 4"),
        ("exits_at_once", 5): (EndReason.EXITED, "exit code 5"),
        ("killed",): (EndReason.CRASHED, "SIGKILL"),
    }
    ends = {}
    for name, *arguments in expected:
        number = app.spawn(name)
        app.deliver(number, b"".join(json.dumps(argument).encode() for argument in arguments))
        ends[name, *arguments] = await app.end_of(number)
    assert ends == expected


@trial
async def test_a_limit_is_answered_with_its_reason_and_ends_the_instance_only(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    neighbour = app.spawn("fine")
    limits = {
        "memory": EndReason.MEMORY_LIMIT,
        "threads": EndReason.PROCESS_LIMIT,
        "long_file": EndReason.FILE_LIMIT,
        "many_files": EndReason.FILE_LIMIT,
    }
    for name, reason in limits.items():
        number = app.spawn(name, file_bytes=4 * 2**20, open_files=32)
        error = (await app.ask(number)).error()
        assert isinstance(error, LimitExceeded) and error.detail["reason"] == reason, (name, error.message)
        assert (await app.end_of(number))[0] == reason
    assert app.value(await app.ask(neighbour)) == 1


@trial
async def test_an_end_from_outside_stops_one_that_hangs(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    number = app.spawn("sleeps")
    app.deliver(number, b"")
    await app.until(lambda: number in app.pids)
    app.space.end(number, EndReason.TIME_LIMIT, "over 30 s")
    app.space.end(number, EndReason.REMOVED, "later")
    assert await app.end_of(number) == (EndReason.TIME_LIMIT, "over 30 s")


@trial
async def test_an_end_before_the_start_is_an_end(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    numbers = [app.spawn("fine") for _ in range(20)]
    for number in numbers:
        app.space.end(number, EndReason.PRESSURE)
    assert {(await app.end_of(number))[0] for number in numbers} == {EndReason.PRESSURE}


@trial
async def test_who_prints_waits_while_output_is_paused(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    number = app.spawn("prints")
    app.space.pause_output(number)
    app.deliver(number, b"")
    await asyncio.sleep(0.2)
    assert app.printed(number) == ""
    app.space.resume_output(number)
    await app.until(lambda: len(app.printed(number)) > 10**6)
    app.space.end(number, EndReason.OUTPUT_LIMIT)
    assert (await app.end_of(number))[0] == EndReason.OUTPUT_LIMIT


@trial
async def test_usage_shows_what_an_instance_took(lab: Lab) -> None:
    app = await lab.functions(
        """
        from motes import function
        kept = []

        @function
        def work(megabytes: int) -> int:
            kept.append(bytearray(b"x" * (megabytes * 2**20)))
            return sum(i * i for i in range(10**6))
        """
    )
    number = app.spawn("work")
    await app.ask(number, 0)
    before = app.space.usage(number)
    await app.ask(number, 20)
    after = app.space.usage(number)
    assert 0 < before.cpu_s < after.cpu_s and after.threads == 1
    assert 19 * 2**20 < after.memory_bytes - before.memory_bytes < 24 * 2**20
    assert app.space.space_usage().memory_bytes > after.memory_bytes


@trial
async def test_each_instance_draws_its_own_random_numbers_and_has_its_own_folder(lab: Lab) -> None:
    app = await lab.functions(
        """
        import os, random, tempfile
        from motes import function

        @function
        def draw():
            with tempfile.NamedTemporaryFile() as file:
                return [random.random(), os.getcwd(), os.path.dirname(file.name), os.path.expanduser("~")]
        """
    )
    first, second = await app.call("draw"), await app.call("draw")
    assert first[0] != second[0]
    # Without Landlock each calls its own folder /tmp.
    assert first[1] != second[1] or (lab.lacks == masks.NO_LANDLOCK and first[1] == "/tmp")
    assert first[1] == first[2] == first[3]


@trial
async def test_many_instances_live_and_end_together(lab: Lab) -> None:
    app = await lab.functions(FAILING)
    numbers = [app.spawn("fine") for _ in range(100)]
    for number in numbers:
        app.deliver(number, b"")
    await app.until(lambda: all(app._outcomes.get(number) for number in numbers))
    await app.space.close(EndReason.REMOVED, "gone")
    assert {app.ends[number] for number in numbers} == {(EndReason.REMOVED, "gone")}
    assert app.events[-1] == ("closed", "gone")


@trial
async def test_a_killed_zygote_ends_its_instances_and_the_space(lab: Lab) -> None:
    import os
    import signal

    app = await lab.functions(FAILING)
    number = app.spawn("sleeps")
    await app.until(lambda: number in app.pids)
    os.kill(app.space.pid, signal.SIGKILL)
    await app.until(lambda: app.is_closed)
    assert app.ends[number][0] == EndReason.SPACE_FAILED
    late = app.spawn("fine")
    assert (await app.end_of(late))[0] == EndReason.SPACE_FAILED


@trial
async def test_a_finished_instance_leaves_no_file(lab: Lab) -> None:
    app = await lab.functions(
        """
        import os
        from motes import function

        @function
        def litter():
            os.makedirs("a/b/c")
            for n in range(100): open(f"a/b/c/{n}", "w").write("x" * 10000)
        """
    )
    empty = app.space.space_usage().memory_bytes
    number = app.spawn("litter")
    await app.ask(number)
    assert app.space.space_usage().memory_bytes > empty + 10**6
    app.space.end(number, EndReason.IDLE)
    await app.end_of(number)
    while app.space.space_usage().memory_bytes > empty + 5 * 10**5:  # noqa: ASYNC110  nobody tells of it
        await asyncio.sleep(0.01)


@trial
async def test_more_instances_than_descriptors_are_refused_one_by_one(lab: Lab) -> None:
    app = await lab.functions(
        """
        import resource
        from motes import function

        # Module code may lower what all instances together have.
        resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))

        @function
        def fine() -> int: return 1
        """
    )
    numbers = [app.spawn("fine") for _ in range(200)]
    for number in numbers:
        app.deliver(number, b"")
    await app.until(lambda: all(app._outcomes.get(number) or number in app.ends for number in numbers))
    refused = [number for number in numbers if number in app.ends]
    assert not app.is_closed, app.events[-5:]
    assert 40 < len(refused) < 180
    assert {app.ends[number][0] for number in refused} == {EndReason.SPACE_FAILED}
    assert "could not fork" in app.ends[refused[0]][1]
    with pytest.raises(ValueError, match="no function 'other'"):
        app.spawn("other")
