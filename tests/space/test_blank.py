"""The blank space kept ready: quick to load, used once, and shut towards every other app."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.space.trials import Functions, Lab, trial

from motes.errors import LoadFailed
from motes.space import blank as blanks
from motes.space.view import View

PROBE = """
    import os
    from motes import function

    @function
    def look(path: str) -> list[str]:
        return sorted(os.listdir(path))

    @function
    def write(path: str) -> str:
        with open(path, "w") as file:
            file.write("mine")
        return "written"

    @function
    def alter(path: str) -> str:
        os.chmod(path, 0o777)
        os.unlink(path)
        return "gone"
"""


async def _made(folder: Path) -> blanks.Blank:
    blank = blanks.Blank(folder)
    await _refilled(blank)
    return blank


async def _refilled(blank: blanks.Blank) -> None:
    blank.refill_soon()
    await asyncio.sleep(blanks.REFILL_S)
    for _ in range(200):
        if not blank.memory_bytes():
            await asyncio.sleep(0.02)


async def _loaded(lab: Lab, blank: blanks.Blank, code: Path) -> Functions:
    app, view = Functions(), View(code=code)
    app.space = await blank.take(view)
    assert app.space is not None
    lab._open.append(app)
    await app.space.load(view, app, timeout_s=20.0)
    return app


@trial
async def test_an_app_in_a_blank_space_works_and_its_files_cannot_be_altered(lab: Lab) -> None:
    code = lab.app({"app.py": PROBE, "data/table.txt": "1 2 3"})
    blank = await _made(lab.folder / "blank")
    app = await _loaded(lab, blank, code)
    assert await app.call("look", "/app") == ["app.py", "data"]
    assert await app.call("look", "/app/data") == ["table.txt"]
    for function, path in (("write", "/app/new.py"), ("write", "/app/app.py"), ("alter", "/app/data/table.txt")):
        outcome = await app.ask(app.spawn(function), path)
        assert outcome.status == 1 and (b"Permission" in outcome.body or b"Read-only" in outcome.body), outcome
    assert (code / "data" / "table.txt").read_text() == "1 2 3"
    assert (code / "app.py").stat().st_mode & 0o777 != 0o777
    await blank.close()


@trial
async def test_module_code_in_a_blank_space_cannot_alter_its_files_either(lab: Lab) -> None:
    blank = await _made(lab.folder / "blank")
    code = lab.app({"app.py": "open('/app/app.py', 'a').write('# mine')\n"})
    try:
        await _loaded(lab, blank, code)
        raise AssertionError("it could write")
    except LoadFailed as error:
        assert "Permission" in str(error) or "Read-only" in str(error), error
    await blank.close()


@trial
async def test_a_blank_space_is_used_once_and_shows_no_other_release(lab: Lab) -> None:
    blank = await _made(lab.folder / "blank")
    view = View(code=lab.app(PROBE))
    first, second = await asyncio.gather(blank.take(view), blank.take(view))
    assert first is not None and second is None, "one blank for two releases"
    await first.close()
    await _refilled(blank)
    one = await _loaded(lab, blank, lab.app(PROBE))
    await _refilled(blank)
    other = await _loaded(lab, blank, lab.app({"app.py": PROBE, "secret.txt": "s"}))
    assert one.space.pid != other.space.pid
    assert await one.call("look", "/app") == ["app.py"]
    assert await other.call("look", "/app") == ["app.py", "secret.txt"]
    await blank.close()


@trial
async def test_a_blank_space_ends_with_its_owner_and_leaves_nothing(lab: Lab) -> None:
    folder = lab.folder / "blank"
    blank = await _made(folder)
    assert blank._space is not None
    pids = blank._space._enclosure.processes()
    await blank.close()
    assert pids and not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert not folder.exists()


@trial
async def test_only_a_view_like_the_blank_gets_it_and_a_failed_link_means_a_fresh_space(lab: Lab) -> None:
    blank = await _made(lab.folder / "blank")
    assert await blank.take(View(code=lab.app(PROBE), system=True)) is None
    assert await blank.take(View(code=lab.app(PROBE), wheels=lab.folder)) is None, "it has no packages"
    assert await blank.take(View(code=lab.folder / "missing")) is None
    assert blank.memory_bytes() == 0, "a blank that was half filled must not be used again"
    await blank.close()
