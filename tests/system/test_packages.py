"""Packages from an index: what a file or folder asks for is there in its spaces, on a real cluster."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.wheels import make_wheel

from system.running import DEADLINE_S, RunningCluster, wait_until
from system.terminal import in_a_terminal

ROOT = Path(__file__).parents[2]
PINS = ROOT / "requirements" / "wheels.txt"
HELLO = """
    from motes import function
    import {module}

    @function
    def version() -> str:
        return {module}.VERSION

    @function
    def place() -> str:
        return {module}.__file__
"""


@pytest.fixture(scope="session")
def wheelhouse() -> Path:
    """Real packages, from where this environment's own came; kept between runs."""
    folder = Path(sys.prefix) / "wheelhouse"
    if not (folder / "ready").exists() or (folder / "ready").read_text() != PINS.read_text():
        options = "--quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all:"
        command = [sys.executable, "-m", "pip", "download", *options.split(), "-d", str(folder), "-r", str(PINS)]
        subprocess.run(command, check=True, timeout=600)
        (folder / "ready").write_text(PINS.read_text())
    return folder


@pytest.fixture
def index(tmp_path: Path, cluster: RunningCluster) -> Iterator[Path]:
    """An index with nothing in it; the only one that deploys see."""
    folder = tmp_path / "index"
    folder.mkdir()
    with only_index(cluster, folder):
        yield folder


@contextlib.contextmanager
def only_index(cluster: RunningCluster, folder: Path) -> Iterator[None]:
    """The wheels of this folder are all that there is."""
    before = dict(cluster.environment)
    # By a file: uv heeds no variable that says so.
    (folder / "uv.toml").write_text("no-index = true\n")
    cluster.environment |= {
        "UV_CONFIG_FILE": str(folder / "uv.toml"),
        "UV_FIND_LINKS": str(folder),
        "UV_CACHE_DIR": str(folder / "cache"),
    }
    try:
        yield
    finally:
        cluster.environment = before


def header(*requirements: str, python: str = "") -> str:
    lines = [f"requires-python = {json.dumps(python)}"] if python else []
    lines.append(f"dependencies = {json.dumps(list(requirements))}")
    return "".join(f"{line}\n" for line in ("# /// script", *(f"# {line}" for line in lines), "# ///"))


def write(folder: Path, name: str, module: str, *requirements: str, python: str = "") -> Path:
    import textwrap

    file = folder / f"{name}.py"
    file.write_text(header(*requirements, python=python) + textwrap.dedent(HELLO.format(module=module)))
    return file


def layers(cluster: RunningCluster) -> set[str]:
    return {each.name for each in (cluster.home.host("local") / "layers").iterdir() if len(each.name) == 64}


def test_a_pure_package_of_a_files_header_is_there_and_one_layer_serves_two_apps(
    cluster: RunningCluster, tmp_path: Path, index: Path
) -> None:
    make_wheel(index, "purely", "1.2", requires=["deeper>=1"])
    make_wheel(index, "deeper")
    before = layers(cluster)
    cluster.motes("deploy", str(write(tmp_path, "pure", "purely", "purely", "motes")))
    assert cluster.json("call", "pure.version") == "1.2"
    assert cluster.json("call", "pure.place") == "/wheels/purely.py"
    cluster.motes("deploy", str(write(tmp_path, "pure2", "deeper", "purely")))
    assert cluster.json("call", "pure2.version") == "1.0"
    assert len(layers(cluster) - before) == 1
    assert cluster.json("deploy", str(tmp_path / "pure.py"))["changed"] is False


def test_in_a_terminal_a_deploy_shows_its_steps_and_how_far_the_upload_is(
    cluster: RunningCluster, tmp_path: Path, index: Path
) -> None:
    make_wheel(index, "watched")
    file = write(tmp_path, "watching", "watched", "watched")
    with in_a_terminal(cluster, "deploy", str(file)) as terminal:
        assert terminal.exit_code() == 0, terminal.shown
    seen = re.sub(rb"\x1b\[[\d;?]*[A-Za-z]", b"", terminal.shown).decode()
    for step in (
        "resolving 1 requirements for ",
        "installing packages for ",
        "packing ...",
        "loading it in a space ...",
    ):
        assert step in seen
    assert re.search(r"uploading [\w ]+ ━+ \d", seen), "a bar, and how much of it is there"
    assert "watching: release " in seen
    cluster.motes("rm", "watching")


def test_a_folders_packages_are_those_of_its_pyproject_and_their_commands_work_for_daemons(
    cluster: RunningCluster, tmp_path: Path, index: Path
) -> None:
    serve = """
import http.server, sys
def main():
    http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""
    make_wheel(
        index, "server", files={"server/__init__.py": "", "server/cli.py": serve}, scripts={"serve": "server.cli:main"}
    )
    site = tmp_path / "site"
    site.mkdir()
    (site / "pyproject.toml").write_text("[project]\nname = 'site'\nversion = '1'\ndependencies = ['server']\n")
    (site / "index.html").write_text("from a package's command")
    cluster.motes("deploy", str(site), "--name", "packed-site", "--cmd", "serve 8000", "--port", "8000")
    http = cluster.home.cluster()["http"]
    request = urllib.request.Request(f"{http}/", headers={"Host": f"packed-site.localhost:{http.rpartition(':')[2]}"})

    def is_served() -> bool:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return bool(response.read() == b"from a package's command")

    wait_until(is_served)
    cluster.motes("rm", "packed-site")


def test_numpy_and_pydantic_work_in_a_space(cluster: RunningCluster, tmp_path: Path, wheelhouse: Path) -> None:
    source = """
import numpy
from motes import function
from pydantic import BaseModel

class Point(BaseModel):
    x: int

@function
def total(count: int) -> float:
    return float(numpy.arange(count).sum()) + Point(x="3").x

@function
def product(size: int) -> float:
    return float((numpy.ones((size, size)) @ numpy.ones((size, size))).sum())

@function
def compiled() -> bool:
    return numpy.__spec__.cached.endswith(".pyc") and __import__("os").path.exists(numpy.__spec__.cached)
"""
    file = tmp_path / "numbers.py"
    file.write_text(header("numpy", "pydantic>=2") + source)
    with only_index(cluster, wheelhouse):
        cluster.motes("deploy", str(file), "--name", "arrays")
    assert cluster.json("call", "arrays.total", "10") == 48.0
    assert cluster.json("call", "arrays.product", "100") == 1e6
    assert cluster.json("call", "arrays.compiled") is True


def test_what_cannot_be_had_is_refused_and_what_ran_before_goes_on(
    cluster: RunningCluster, tmp_path: Path, index: Path
) -> None:
    make_wheel(index, "good")
    cluster.motes("deploy", str(write(tmp_path, "asks", "good", "good")))
    with tarfile.open(index / "sourceonly-1.0.tar.gz", "w:gz") as source:
        for name in ("pyproject.toml", "PKG-INFO"):
            (tmp_path / name).write_text(
                "Metadata-Version: 2.1\nName: sourceonly\nVersion: 1.0\n" if name == "PKG-INFO" else ""
            )
            source.add(tmp_path / name, f"sourceonly-1.0/{name}")
    make_wheel(index, "foreign", tag="cp311-cp311-win_amd64")
    make_wheel(index, "wants_old", requires=["good<1"])
    said = {
        "sourceonly": "sourceonly==1.0 has no usable wheels",
        "nowhere-to-be-found": "nowhere-to-be-found was not found in the provided package locations",
        "foreign": "foreign==1.0 has no wheels with a matching platform tag",
        "wants_old": "wants-old depend on good<1 and you require good==1.0",
        "good>=1; wants_old": "your requirements and all versions of wants-old are incompatible",
    }
    for wanted, why in said.items():
        file = write(tmp_path, "asks", "good", *wanted.split("; "), "good==1.0")
        done = cluster.run("deploy", str(file))
        assert done.returncode == 6, (wanted, done)
        # uv breaks its lines where the terminal of whoever runs this ends.
        assert why in " ".join(done.stderr.split()), (wanted, done.stderr)
        assert str(cluster.home.path) not in done.stderr and "Traceback" not in done.stderr
    assert cluster.json("call", "asks.version") == "1.0"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("x @ https://example.org/x.whl", "names an address"),
        ("x @ file:///etc/passwd", "names an address"),
        ("git+https://example.org/x", "no requirement"),
        ("../x", "no requirement"),
        ("--index-url https://example.org", "no requirement"),
        ("-r /etc/passwd", "no requirement"),
        ("good\n--find-links /", "no requirement"),
    ],
)
def test_only_names_and_versions_are_taken(
    cluster: RunningCluster, tmp_path: Path, index: Path, wanted: str, why: str
) -> None:
    """A line that reached uv as an option could read any file, or build what an address holds."""
    done = cluster.run("deploy", str(write(tmp_path, "sly", "good", wanted)))
    assert done.returncode == 6 and why in done.stderr, done


@pytest.mark.parametrize(
    "said",
    [
        '[tool.uv.sources]\npurelib = {path = "own"}',
        '[[tool.uv.index]]\nurl = "https://example.org/simple"\ndefault = true',
    ],
)
def test_a_name_that_is_ones_own_elsewhere_is_not_taken_from_the_index(
    cluster: RunningCluster, tmp_path: Path, index: Path, said: str
) -> None:
    """Dependency confusion: whoever has the name in the index would have his code run."""
    make_wheel(index, "purelib", files={"purelib.py": "VERSION = 'a stranger's'\n"})
    file = write(tmp_path, "confused", "purelib", "purelib")
    head = "".join(f"# {line}\n" for line in said.splitlines())
    file.write_text(file.read_text().replace("\n# ///\n", f"\n{head}# ///\n", 1))
    for command in ("deploy", "run"):
        assert "is not heeded" in cluster.refusal(6, command, str(file))
    site = tmp_path / "confused-folder"
    site.mkdir()
    (site / "app.py").write_text("")
    (site / "pyproject.toml").write_text(f"[project]\nname = 'x'\ndependencies = ['purelib']\n{said}\n")
    assert "is not heeded" in cluster.refusal(6, "deploy", str(site))
    assert not {"confused", "confused-folder"} & {each["app"] for each in cluster.json("apps")}


def test_a_package_runs_nothing_on_the_machine_that_deploys(
    cluster: RunningCluster, tmp_path: Path, index: Path
) -> None:
    mark = tmp_path / "mark"
    evil = f"open({str(mark)!r}, 'w')\n"
    make_wheel(
        index,
        "evil",
        files={
            "evil.py": f"VERSION = '1'\nimport os\ntry:\n    {evil}except OSError: pass\n",
            "evil.pth": f"import os; {evil}",
            "sitecustomize.py": evil,
        },
    )
    cluster.motes("deploy", str(write(tmp_path, "evilapp", "evil", "evil")))
    assert cluster.json("call", "evilapp.version") == "1"
    assert not mark.exists()


def test_pins_are_written_and_hold_until_the_requirements_change(
    cluster: RunningCluster, tmp_path: Path, index: Path
) -> None:
    make_wheel(index, "pinned", "1.0")
    file = write(tmp_path, "locked", "pinned", "pinned")
    cluster.motes("deploy", "--lock", str(file))
    lock = tmp_path / "locked.requirements.lock"
    assert "pinned==1.0" in lock.read_text() and "--hash=sha256:" in lock.read_text()
    assert str(tmp_path) not in lock.read_text() and "://" not in lock.read_text()
    make_wheel(index, "pinned", "2.0")
    cluster.motes("deploy", str(file))
    assert cluster.json("call", "locked.version") == "1.0"
    write(tmp_path, "locked", "pinned", "pinned>=1")
    assert "--lock" in cluster.refusal(6, "deploy", str(file))
    cluster.motes("deploy", "--lock", str(file))
    assert cluster.json("call", "locked.version") == "2.0"
    lock.write_text(lock.read_text().replace("--hash=sha256:", "--hash=sha256:0"))
    assert cluster.run("deploy", str(file)).returncode == 6, "a pin with another hash must not be installed"


def test_without_packages_there_is_nothing_to_pin_and_that_is_said(cluster: RunningCluster, tmp_path: Path) -> None:
    file = tmp_path / "unpinned.py"
    file.write_text("from motes import function\n\n@function\ndef f() -> None: ...\n")
    done = cluster.run("deploy", "--lock", str(file))
    assert done.returncode == 0 and not (tmp_path / "unpinned.requirements.lock").exists()
    assert (
        done.stderr
        == f"motes: {file} names no packages, so there is nothing to pin: unpinned.requirements.lock is not written\n"
    )
    cluster.motes("rm", "unpinned")


def test_a_python_that_no_host_has_is_refused_with_those_that_there_are(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    (tmp_path / "late.py").write_text(header(python=">=3.99") + "from motes import function\n@function\ndef f(): ...\n")
    said = cluster.refusal(7, "deploy", str(tmp_path / "late.py"))
    here = ".".join(map(str, sys.version_info[:2]))
    assert ">=3.99" in said and here in said
    write(tmp_path, "late", "json", "something", python=">=3.99")
    assert ">=3.99" in cluster.run("deploy", str(tmp_path / "late.py")).stderr


def test_a_script_has_the_packages_of_its_header_and_leaves_nothing(
    cluster: RunningCluster, tmp_path: Path, index: Path
) -> None:
    make_wheel(index, "scripted", "3.1")
    script = tmp_path / "script.py"
    script.write_text(
        header("scripted") + "import scripted, sys\nprint(scripted.VERSION, scripted.__file__, sys.argv[1])\n"
    )
    temporary = tmp_path / "tmp"
    temporary.mkdir(mode=0o755)
    # A root's script runs as an ordinary user, who must get through to it.
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    cluster.environment["TMPDIR"] = str(temporary)
    assert cluster.motes("run", str(script), "one") == "3.1 /wheels/scripted.py one\n"
    assert list(temporary.iterdir()) == []
    script.write_text(header("nowhere-to-be-found"))
    assert "nowhere-to-be-found" in cluster.run("run", str(script)).stderr
    script.write_text(header(python=">=3.99"))
    assert ">=3.99" in cluster.refusal(6, "run", str(script))
