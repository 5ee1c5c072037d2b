"""Attacks on names: what an owner has in a folder or an index of his own must not be had from where anybody put it."""

from __future__ import annotations

from pathlib import Path

import pytest

from motes.client.requirements import requirements_of
from motes.errors import NoPackages

PLACES = [
    '[tool.uv.sources]\nPURELIB = {path = "../purelib"}',
    '[tool.uv.sources]\npurelib = {git = "https://example.org/purelib"}',
    '[tool.uv.sources]\npurelib = {url = "https://example.org/purelib.whl"}',
    "[tool.uv.sources]\npurelib = {workspace = true}",
    '[tool.uv.sources]\npurelib = [{index = "own", marker = "sys_platform == \'linux\'"}]',
    '[tool.poetry.dependencies]\npurelib = {path = "../purelib", develop = true}',
    '[tool.pixi.pypi-dependencies]\npurelib = {path = "../purelib", editable = true}',
    '[tool.pixi.target.linux-64.pypi-dependencies]\npurelib = {git = "https://example.org/purelib"}',
    '[tool.pixi.feature.fast.pypi-dependencies]\npurelib = {index = "https://example.org/simple"}',
    '[tool.pixi.feature.fast.target.linux.pypi-dependencies]\npurelib = {url = "https://example.org/purelib.whl"}',
]
INDEXES = [
    '[[tool.uv.index]]\nurl = "https://example.org/simple"',
    '[tool.uv]\nindex-url = "https://example.org/simple"',
    '[tool.uv]\nextra-index-url = ["https://example.org/simple"]',
    '[tool.uv]\nfind-links = ["./wheels"]',
    "[tool.uv]\nno-index = true",
    '[tool.uv.pip]\nindex-url = "https://example.org/simple"',
    '[[tool.pdm.source]]\nurl = "https://example.org/simple"',
    '[[tool.poetry.source]]\nurl = "https://example.org/simple"',
    '[[tool.rye.sources]]\nname = "default"\nurl = "https://example.org/simple"',
    '[tool.pixi.pypi-options]\nindex-url = "https://example.org/simple"',
    '[tool.pixi.pypi-options]\nextra-index-urls = ["https://example.org/simple"]',
    '[tool.pixi.feature.fast.pypi-options]\nfind-links = [{path = "./wheels"}]',
]
VERSIONS = [
    '[tool.uv]\nconstraint-dependencies = ["purelib<2"]',
    '[tool.uv]\nexclude-newer = "2020-01-01T00:00:00Z"',
    '[tool.pixi.pypi-options.dependency-overrides]\npurelib = "<2"',
]
HARMLESS = [
    "[tool.uv]\npackage = false\ndev-dependencies = []",
    '[tool.uv.sources]\nother = {path = "../other"}\nmotes = {path = "../motes"}',
    '[tool.poetry.dependencies]\npython = "^3.11"\npurelib = {version = "^1", extras = ["fast"]}',
    "[tool.uv]\nno-index = false\nindex = []",
    "[tool]\nuv = 5\npoetry = {dependencies = []}\npixi = {feature = 5, target = {linux = []}}",
    '[tool.rye]\nmanaged = true\nsources = []\n[tool.pixi.workspace]\nchannels = ["conda-forge"]',
    '[tool.pixi.pypi-dependencies]\npurelib = {version = "*", extras = ["fast"]}\nother = {path = "."}',
]


def script(folder: Path, said: str, *dependencies: str) -> Path:
    file = folder / "app.py"
    lines = [f"dependencies = {list(dependencies)}", *said.splitlines()]
    file.write_text("".join(f"{each}\n" for each in ("# /// script", *(f"# {line}" for line in lines), "# ///")))
    return file


def project(folder: Path, said: str, *dependencies: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text(f"[project]\nname = 'app'\ndependencies = {list(dependencies)}\n{said}\n")
    return folder


@pytest.mark.parametrize("write", [script, project])
@pytest.mark.parametrize("said", [*PLACES, *INDEXES, *VERSIONS])
def test_what_is_said_of_a_package_is_not_passed_over(tmp_path: Path, write: type, said: str) -> None:
    with pytest.raises(NoPackages, match=r"(?s)(app\.py|pyproject\.toml): \[tool\..* is not heeded") as refused:
        requirements_of(write(tmp_path, said, "PureLib"))
    assert ("put the code into the app's folder" in refused.value.message) == (said in PLACES)
    assert ("UV_DEFAULT_INDEX" in refused.value.message) == (said in INDEXES)
    assert ("motes deploy --lock" in refused.value.message) == (said in VERSIONS)


@pytest.mark.parametrize("write", [script, project])
@pytest.mark.parametrize("said", HARMLESS)
def test_what_changes_no_package_is_passed_over(tmp_path: Path, write: type, said: str) -> None:
    assert requirements_of(write(tmp_path, said, "purelib", "motes")).lines == ("purelib",)


@pytest.mark.parametrize("write", [script, project])
@pytest.mark.parametrize("said", [*PLACES, *INDEXES, *VERSIONS])
def test_where_no_package_is_asked_for_it_is_about_none(tmp_path: Path, write: type, said: str) -> None:
    assert requirements_of(write(tmp_path, said, "motes")).lines == ()


def test_a_projects_own_file_of_uv_counts_as_well(tmp_path: Path) -> None:
    folder = project(tmp_path / "app", "", "purelib")
    (folder / "uv.toml").write_text('[[index]]\nurl = "https://example.org/simple"\n')
    with pytest.raises(NoPackages, match=r"uv\.toml: \[tool\.uv\] index is not heeded"):
        requirements_of(folder)


def test_so_does_the_workspace_that_a_project_is_in(tmp_path: Path) -> None:
    workspace = '[tool.uv.workspace]\nmembers = ["apps/*"]\n[tool.uv.sources]\npurelib = {workspace = true}'
    project(tmp_path, workspace)
    (tmp_path / "apps").mkdir()
    folder = project(tmp_path / "apps" / "app", "", "purelib")
    with pytest.raises(NoPackages, match=r"sources\] purelib is not heeded"):
        requirements_of(folder)
    assert requirements_of(project(tmp_path / "apps" / "another", "", "deeper")).lines == ("deeper",)
