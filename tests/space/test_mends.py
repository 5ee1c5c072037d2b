"""What `motes doctor` prints to mend a machine, and the one question before code of others runs."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from motes.errors import SpaceFailed
from motes.model.walls import Walls
from motes.space.mends import APPARMOR_FILE, cgroup_mend, landlock_mend, namespaces_mend
from motes.space.walls import check_may_lend

BWRAP = Path("/opt/app [1]/bwrap")


def _machine(folder: Path, settings: dict[str, str]) -> Path:
    for name, text in settings.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder


def test_on_ubuntu_it_is_a_profile_for_this_very_bubblewrap(tmp_path: Path) -> None:
    machine = _machine(tmp_path, {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"})
    lines = namespaces_mend(BWRAP, machine).splitlines()
    assert lines[0] == f"sudo tee {APPARMOR_FILE} <<'END'"
    assert lines[3:6] == [
        'profile motes-bwrap "/opt/app \\[1\\]/bwrap" flags=(unconfined) {', "  userns,", "}"
    ]  # fmt: skip
    assert lines[6:] == ["END", f"sudo apparmor_parser -r {APPARMOR_FILE}"]


def test_a_setting_that_forbids_namespaces_is_named_and_stays_after_a_restart(tmp_path: Path) -> None:
    machine = _machine(tmp_path / "debian", {"proc/sys/kernel/unprivileged_userns_clone": "0"})
    assert "echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/" in namespaces_mend(BWRAP, machine)
    machine = _machine(tmp_path / "other", {"proc/sys/user/max_user_namespaces": "0"})
    assert "user.max_user_namespaces=15000" in namespaces_mend(BWRAP, machine)


def test_without_such_a_setting_it_is_a_container(tmp_path: Path) -> None:
    machine = _machine(tmp_path, {"proc/sys/user/max_user_namespaces": "96343"})
    assert "--security-opt seccomp=unconfined" in namespaces_mend(BWRAP, machine)


def test_landlock_that_was_not_started_needs_a_word_for_the_kernel_and_one_that_is_not_built_another_kernel(
    tmp_path: Path,
) -> None:
    machine = _machine(tmp_path, {"sys/kernel/security/lsm": "capability,yama"})
    assert "lsm=landlock,capability,yama " in landlock_mend(errno.EOPNOTSUPP, machine)
    assert "CONFIG_SECURITY_LANDLOCK=y" in landlock_mend(errno.ENOSYS, machine)


SYSTEMD = {"run/systemd/system/x": "", "sys/fs/cgroup/cgroup.controllers": "cpu memory pids"}
OWN_MANAGER = "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers"
START = "systemd-run --user --scope -p Delegate=yes motes up"


def test_a_cgroup_is_had_by_one_line_where_systemd_gives_users_the_controllers(tmp_path: Path) -> None:
    machine = _machine(tmp_path, {**SYSTEMD, OWN_MANAGER: "cpu memory pids"})
    assert cgroup_mend(1000, machine).startswith(START)
    assert cgroup_mend(0, machine).startswith("systemd-run --scope -p Delegate=yes motes up")


def test_where_users_have_no_processors_to_share_root_has_to_say_so_first(tmp_path: Path) -> None:
    lines = cgroup_mend(1000, _machine(tmp_path, {**SYSTEMD, OWN_MANAGER: "memory pids"})).splitlines()
    assert lines[1:4] == ["[Service]", "Delegate=cpu io memory pids", "END"] and START in lines[4]


def test_with_cgroups_of_version_1_the_kernel_has_to_be_told(tmp_path: Path) -> None:
    old = _machine(tmp_path / "old", {"run/systemd/system/x": ""})
    assert "systemd.unified_cgroup_hierarchy=1" in cgroup_mend(1000, old)
    assert "chown" in cgroup_mend(1000, tmp_path / "without systemd")


def test_code_of_others_needs_both_walls() -> None:
    check_may_lend(Walls.BOTH)
    with pytest.raises(SpaceFailed, match="namespaces only"):
        check_may_lend(Walls.NAMESPACES)
