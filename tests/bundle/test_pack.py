from __future__ import annotations

import hashlib
import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from motes.bundle import sources
from motes.bundle.fingerprint import fingerprint
from motes.bundle.pack import app_name, pack, pack_layer
from motes.bundle.sources import LAYER
from motes.bundle.unpack import unpack
from motes.errors import BadBundle, TooLarge


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_a_single_file_is_a_bundle_of_that_file(tmp_path: Path) -> None:
    write(tmp_path, hello="x = 1", other="y = 2")
    assert pack(tmp_path / "hello.py").files == ("hello.py",)


def test_a_folder_is_packed_with_its_subfolders_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write(tmp_path / "b", deep="")
    write(tmp_path, z="", a="")
    assert pack(tmp_path).files == ("a.py", "b/deep.py", "z.py")


def test_equal_sources_give_equal_bytes_whatever_their_times_and_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, names in ((one, ("a", "b")), (two, ("b", "a"))):
        folder.mkdir()
        for name in names:
            write(folder, **{name: "same"})
    os.utime(two / "a.py", (1, 1))
    os.chmod(two / "b.py", 0o600)
    assert pack(one) == pack(two)
    (two / "b.py").write_text("diff")
    assert pack(one).hash != pack(two).hash


def test_caches_environments_hidden_folders_and_secrets_are_left_out(tmp_path: Path) -> None:
    for folder in (".git", "__pycache__", ".venv", "node_modules", "env"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, inside="")
    (tmp_path / "env/pyvenv.cfg").write_text("")
    for name in (".env", ".env.local", "old.pyc", ".flaskenv", "app.py"):
        (tmp_path / name).write_text("")
    assert pack(tmp_path).files == (".flaskenv", "app.py")


def test_a_folder_with_nothing_to_deploy_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(tmp_path / ".git", inside="")
    with pytest.raises(BadBundle, match="holds no files to deploy"):
        pack(tmp_path)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="No such file"):
        pack(tmp_path / "nothing.py")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("notes.txt", b"hello", "no Python file"), ("prog.py", b"\x7fELF\0\0", "binary file")],
)
def test_a_single_file_that_is_not_python_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadBundle, match=message):
        pack(tmp_path / name)


def test_a_large_file_is_refused_unread_with_its_size_and_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, app="")
    with open(tmp_path / "model.bin", "wb") as file:
        file.truncate(200 * 2**20)
    monkeypatch.setattr("motes.bundle.pack._parts", lambda source: pytest.fail("it was read"))
    with pytest.raises(TooLarge, match=r"model\.bin has 200 MiB; .* 32 MiB") as caught:
        pack(tmp_path)
    assert caught.value.detail["limit_bytes"] == sources.APP.file_bytes


def test_many_files_that_are_too_large_together_are_refused(tmp_path: Path) -> None:
    for name in "abc":
        with open(tmp_path / name, "wb") as file:
            file.truncate(30 * 2**20)
    with pytest.raises(TooLarge, match="more than 64 MiB"):
        pack(tmp_path)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a="", b="", c="")
    with pytest.raises(TooLarge, match="more than 2 files"):
        sources.sources(tmp_path, sources.APP._replace(files=2))


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    write(tmp_path, secret="")
    (app / "link.py").symlink_to("../secret.py")
    with pytest.raises(BadBundle, match=r"link\.py is a symbolic link that leads out"):
        pack(app)


def test_a_link_to_a_folder_outside_or_to_a_sibling_with_the_same_beginning_is_refused(tmp_path: Path) -> None:
    app, sibling = tmp_path / "app", tmp_path / "app2"
    app.mkdir()
    sibling.mkdir()
    write(sibling, secret="")
    (app / "link").symlink_to("../app2")
    with pytest.raises(BadBundle, match="leads out"):
        pack(app)


def test_a_link_inside_is_packed_as_what_it_points_at(tmp_path: Path) -> None:
    write(tmp_path, real="x = 1")
    (tmp_path / "link.py").symlink_to("real.py")
    assert pack(tmp_path).files == ("link.py", "real.py")


def test_a_link_to_its_own_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, app="")
    (tmp_path / "again").symlink_to(".")
    with pytest.raises(BadBundle, match="nested deeper"):
        pack(tmp_path)


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    with pytest.raises(BadBundle, match=r"gone\.py: No such file"):
        pack(tmp_path)


def test_sockets_and_pipes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("app.sock")
        with pytest.raises(BadBundle, match=r"app\.sock is a socket"):
            pack(tmp_path)
    os.unlink("app.sock")
    os.mkfifo("pipe")
    with pytest.raises(BadBundle, match="pipe is a socket, pipe or device"):
        pack(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, app="")
    os.chmod(tmp_path / "app.py", 0)
    with pytest.raises(BadBundle, match=r"cannot read app\.py: Permission denied"):
        pack(tmp_path)


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.py")).write_text("")
    with pytest.raises(BadBundle, match="not UTF-8"):
        pack(tmp_path)


@pytest.mark.parametrize(
    ("path", "name"),
    [("hello.py", "hello"), ("shop", "shop"), ("my app.py", "my-app"), ("_x.py", "x"), ("a/b.c", "b-c")],
)
def test_an_app_is_named_after_its_file_or_folder(path: str, name: str) -> None:
    assert app_name(Path(path)) == name


def test_a_relative_dot_names_the_app_after_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    assert app_name(Path(".")) == "shop"


def test_a_name_without_letters_asks_for_one() -> None:
    with pytest.raises(BadBundle, match="--name"):
        app_name(Path("/"))


def test_the_fingerprint_changes_with_the_sources_and_only_then(tmp_path: Path) -> None:
    write(tmp_path, app="x = 1")
    before = fingerprint(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    assert fingerprint(tmp_path) == before
    (tmp_path / "app.py").write_text("x = 12")
    assert fingerprint(tmp_path) != before


def test_the_fingerprint_of_what_cannot_be_packed_changes_when_it_is_mended(tmp_path: Path) -> None:
    broken = fingerprint(tmp_path / "app.py")
    write(tmp_path, app="")
    assert fingerprint(tmp_path / "app.py") != broken


def test_a_layer_is_packed_a_little_at_a_time_however_large_its_files_are(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with open(tmp_path / "wheels" / "lib.so", "wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        pack_layer(tmp_path / "wheels", tmp_path / "made.layer")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * 2**20
    data = (tmp_path / "made.layer").read_bytes()
    unpack(data, hashlib.sha256(data).hexdigest(), tmp_path / "unpacked", LAYER)
    assert (tmp_path / "unpacked" / "lib.so").stat().st_size == 64 * 2**20


@pytest.mark.parametrize("change", [-1, 1, 2**19])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, change: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lib.so"
    file.write_bytes(b"x" * 2**18)
    found = sources.sources(tmp_path, LAYER)
    file.write_bytes(b"x" * (2**18 + change))
    monkeypatch.setattr("motes.bundle.pack.sources", lambda *_: found)
    with pytest.raises(BadBundle, match="changed while it was read"):
        pack_layer(tmp_path, tmp_path / "made.layer")
