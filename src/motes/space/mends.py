"""What mends a machine that lacks a wall: the very profile, setting or flags, for `motes doctor` to print."""

from __future__ import annotations

import errno
import re
from pathlib import Path

APPARMOR_FILE = "/etc/apparmor.d/motes-bwrap"
_COMMAND_LINE = (
    "(GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub; on a Raspberry Pi /boot/firmware/cmdline.txt),"
    " and restart"
)
_USER_SERVICE = "/etc/systemd/system/user@.service.d"
_USUAL_MODULES = "lockdown,yama,integrity,apparmor"


def namespaces_mend(program: Path | None, root: Path = Path("/")) -> str:
    """For a machine that refuses user namespaces to the bubblewrap `program`; `root` holds its /proc."""
    if _setting("kernel/apparmor_restrict_unprivileged_userns", root) == "1" and program is not None:
        return apparmor_mend(program)
    if _setting("kernel/unprivileged_userns_clone", root) == "0":
        return _for_good("kernel.unprivileged_userns_clone=1")
    if _setting("user/max_user_namespaces", root) == "0":
        return _for_good("user.max_user_namespaces=15000")
    return (
        "in a container: start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
        " --security-opt systempaths=unconfined"
    )


def apparmor_mend(program: Path) -> str:
    """Let this one bubblewrap make user namespaces, as Ubuntu 24.04 and later allow it by a profile only."""
    return f"""sudo tee {APPARMOR_FILE} <<'END'
abi <abi/4.0>,
include <tunables/global>
profile motes-bwrap "{_quoted(program.resolve())}" flags=(unconfined) {{
  userns,
}}
END
sudo apparmor_parser -r {APPARMOR_FILE}"""


def _quoted(path: Path) -> str:
    """In AppArmor's words: its signs for patterns stand for themselves."""
    return re.sub(r'([\\"*?\[\]{}^])', r"\\\1", str(path))


def _for_good(setting: str) -> str:
    return f"echo {setting} | sudo tee /etc/sysctl.d/60-motes.conf && sudo sysctl --system"


def landlock_mend(refusal: int, root: Path = Path("/")) -> str:
    """For a kernel that answers `refusal` when it is asked for Landlock."""
    if refusal != errno.EOPNOTSUPP:
        return "a kernel with CONFIG_SECURITY_LANDLOCK=y (Linux 5.13 or later; all of it from 6.12)"
    try:
        present = (root / "sys/kernel/security/lsm").read_text().strip()
    except OSError:
        present = _USUAL_MODULES
    return f"add lsm=landlock,{present} to the kernel's command line {_COMMAND_LINE}"


def cgroup_mend(uid: int, root: Path = Path("/")) -> str:
    """For a user whose hosts have no cgroup of their own, or one that limits less; `root` holds /run and /sys."""
    if not (root / "run/systemd/system").exists():
        return (
            "as root, where cgroups of version 2 have the controllers: mkdir /sys/fs/cgroup/motes, chown it and its"
            " cgroup.procs and cgroup.subtree_control to the cluster's user, and move the shell that starts it there"
        )
    start = f"systemd-run {'--user ' if uid else ''}--scope -p Delegate=yes motes up (in a service: Delegate=yes)"
    top = root / "sys/fs/cgroup"
    if not (top / "cgroup.controllers").exists():
        return f"add systemd.unified_cgroup_hierarchy=1 to the kernel's command line {_COMMAND_LINE}; then {start}"
    theirs = top / f"user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers"
    if uid and "cpu" not in _words(theirs):
        # What users' own services may limit, root decides.
        return f"""sudo mkdir -p {_USER_SERVICE} && sudo tee {_USER_SERVICE}/motes.conf <<'END'
[Service]
Delegate=cpu io memory pids
END
sudo systemctl daemon-reload, restart, then: {start}"""
    return start


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _setting(name: str, root: Path) -> str:
    try:
        return (root / "proc/sys" / name).read_text().strip()
    except OSError:
        return ""
