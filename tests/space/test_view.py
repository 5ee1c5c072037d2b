"""From a view to bubblewrap's arguments."""

from __future__ import annotations

from pathlib import Path

from motes.space.interpreter import Interpreter, parse_listing
from motes.space.view import View, bubblewrap_arguments, python_command

INTERPRETER = Interpreter(
    program=Path("/opt/python/bin/python3.11"),
    version="3.11",
    library_folder="lib",
    standard_library=Path("/opt/python/lib/python3.11"),
    site_packages=("site-packages",),
    loader=Path("/lib64/ld-linux-x86-64.so.2"),
    libraries=(("libc.so.6", Path("/lib/x86_64-linux-gnu/libc.so.6")),),
    packages=(("motes", Path("/src/motes")), ("msgspec", Path("/venv/msgspec"))),
)


def arguments(view: View, disable: bool = True, script: int = -1) -> list[str]:
    return bubblewrap_arguments(view, INTERPRETER, disable_user_namespaces=disable, script=script)


def mounts(words: list[str]) -> list[tuple[str, ...]]:
    """Every bind, tmpfs and remount, in order."""
    lengths = {"--ro-bind": 2, "--ro-bind-try": 2, "--tmpfs": 1, "--remount-ro": 1, "--proc": 1, "--dev": 1}
    return [tuple(words[at : at + 1 + lengths[word]]) for at, word in enumerate(words) if word in lengths]


FUNCTION = View(code=Path("/bundles/abc"), tmp_bytes=1234, hostname="mote-1")


def test_every_namespace_is_its_own_and_no_right_is_kept() -> None:
    words = arguments(FUNCTION)
    for flag in ("user", "pid", "net", "ipc", "uts"):
        assert f"--unshare-{flag}" in words
    assert {"--die-with-parent", "--new-session", "--disable-userns", "--clearenv"} <= set(words)
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert words[words.index("--uid") + 1] != "0" and words[words.index("--hostname") + 1] == "mote-1"
    assert "--share-net" not in words and "--disable-userns" not in arguments(FUNCTION, disable=False)


def test_nothing_of_the_host_is_writable() -> None:
    for view in (FUNCTION, View(code=Path("/c"), system=True, processes=9)):
        assert "--bind" not in arguments(view) and "--dev-bind" not in arguments(view)


def test_a_function_sees_its_code_the_interpreter_and_two_packages() -> None:
    binds = {target: source for word, source, target in (m for m in mounts(arguments(FUNCTION)) if len(m) == 3)}
    assert binds["/app"] == "/bundles/abc"
    assert binds["/python/lib/python3.11"] == "/opt/python/lib/python3.11"
    assert {target for target in binds if target.startswith("/motes")} == {"/motes/motes", "/motes/msgspec"}
    assert "/usr" not in binds and "/home" not in binds
    assert {target.split("/")[1] for target in binds} == {"app", "python", "motes", "etc", "lib64", "proc"}


def test_site_packages_are_covered_after_the_library_that_holds_them() -> None:
    found = mounts(arguments(FUNCTION))
    library = found.index(("--ro-bind", "/opt/python/lib/python3.11", "/python/lib/python3.11"))
    assert found.index(("--tmpfs", "/python/lib/python3.11/site-packages")) > library
    assert ("--remount-ro", "/python/lib/python3.11/site-packages") in found


def test_whatever_is_memory_has_a_size_or_is_read_only() -> None:
    words = arguments(FUNCTION)
    for at, word in enumerate(words):
        if word == "--tmpfs":
            assert words[at - 2] == "--size", words[at + 1]
    assert words[words.index("/tmp", words.index("--dev")) - 2] == "1234"
    found = mounts(words)
    assert found[-1] == ("--remount-ro", "/") and ("--remount-ro", "/dev") in found


def test_kernel_settings_are_covered_after_proc() -> None:
    found = mounts(arguments(FUNCTION))
    assert found.index(("--ro-bind", "/proc/sys", "/proc/sys")) > found.index(("--proc", "/proc"))


def test_a_daemon_sees_usr_but_its_own_python_comes_first() -> None:
    words = arguments(View(code=Path("/c"), system=True, processes=9))
    assert ("--ro-bind", "/usr", "/usr") in mounts(words)
    assert words[words.index("PATH") + 1].startswith("/python/bin:/usr/local/bin")
    assert {"/python/bin/python", "/python/bin/python3"} <= set(words)
    assert words[words.index("PYTHONUNBUFFERED") + 1] == "1"
    # The system's own loader is there already.
    assert str(INTERPRETER.loader) not in words


def test_a_script_is_handed_over_by_descriptor() -> None:
    words = arguments(View(script="job.py"), script=17)
    at = words.index("--ro-bind-data")
    assert words[at - 2 : at + 3] == ["--perms", "0444", "--ro-bind-data", "17", "/app/job.py"]


def test_wheels_come_onto_the_import_path() -> None:
    words = arguments(View(code=Path("/c"), wheels=Path("/w")))
    assert ("--ro-bind", "/w", "/wheels") in mounts(words) and words[words.index("PYTHONPATH") + 1] == "/wheels"


def test_the_environment_is_what_the_view_says() -> None:
    words = arguments(View(code=Path("/c"), environment=(("NAME", "value"),)))
    assert words[words.index("NAME") + 1] == "value" and words[words.index("HOME") + 1] == "/tmp"


def test_python_starts_isolated() -> None:
    assert python_command("a.b", "x")[1:4] == ["-I", "-S", "-B"] and python_command("a.b", "x")[-1] == "x"


def test_the_loaders_listing_is_read() -> None:
    listing = """\
\tlinux-vdso.so.1 (0x00007f0)
\t/opt/lib-dynload/_ssl.so (0x00007f1)
\tlibssl.so.3 => /usr/lib/libssl.so.3 (0x00007f2)
\tlibmissing.so => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f3)
"""
    loader, libraries = parse_listing(listing, {"/opt/lib-dynload/_ssl.so"})
    assert loader == Path("/lib64/ld-linux-x86-64.so.2")
    assert libraries == (("libssl.so.3", Path("/usr/lib/libssl.so.3")),)


def test_commands_of_packages_come_behind_the_spaces_own_python() -> None:
    words = arguments(View(code=Path("/c"), wheels=Path("/w")))
    assert words[words.index("PATH") + 1].startswith("/python/bin:/wheels/bin:")
