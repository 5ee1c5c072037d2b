"""A real sshd on the loopback: another machine, as far as a home folder of its own, keys and a port make one."""

from __future__ import annotations

import functools
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ports import free_port
from system import fake_systemctl
from system.running import DEADLINE_S, RunningCluster, wait_until

_PACKAGES = ("openssh-server", "libwrap0")
"""Of Debian: the program, and the one library of it that few machines have."""
_AS_ROOT = """
cp /etc/passwd "$FOLDER/passwd" && echo 'sshd:x:65533:65533::/nonexistent:/bin/false' >> "$FOLDER/passwd"
mount --bind "$FOLDER/passwd" /etc/passwd && mount -t tmpfs -o mode=755 none /run && mkdir /run/sshd || exit 1
mkdir -p /etc/systemd/system && mount -t tmpfs none /etc/systemd/system || exit 1
exec "$@"
"""
"""As root sshd wants a user and a folder, and a unit would be the machine's: all of it in a mount namespace."""


@functools.cache
def program() -> tuple[str, str]:
    """sshd, and where libraries of it are. Skips the test where there is none."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which("sshd", path=path):
        return found, ""
    folder = Path(tempfile.mkdtemp(prefix="motes-sshd-"))
    for package in _PACKAGES:
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            pytest.skip("no sshd on this machine, and no Debian to have it from")
        done = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no sshd on this machine, and the registry gives none: {done.stderr.strip()[-200:]}")
    for file in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(file), str(folder)], check=True)
    (library,) = folder.rglob("libwrap.so.0")
    return str(folder / "usr" / "sbin" / "sshd"), str(library.parent)


class Sshd:
    """`settings` is for `ssh -F`, where the machine is called `far`; what is done there has the home folder `home`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
            pytest.skip("no ssh on this machine")
        if pwd.getpwuid(os.geteuid()).pw_shell.endswith(("nologin", "false")):
            pytest.skip("this user may not log in anywhere: it has no shell")
        sshd, libraries = program()
        self.home, self.state = folder / "home", folder / "systemd"
        programs = folder / "programs"
        for each in (self.home, self.state, programs):
            each.mkdir(parents=True)
        for name in ("systemctl", "loginctl"):
            (programs / name).write_text(f"#!{sys.executable}\n" + Path(fake_systemctl.__file__).read_text())
            (programs / name).chmod(0o755)
        for name in ("key", "hostkey"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        self.port = free_port()
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/hostkey\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/key.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nStrictModes no\nSetEnv HOME={self.home} FAKE_SYSTEMD={self.state}"
            f" XDG_CONFIG_HOME={self.home}/.config PATH={programs}:/usr/local/bin:/usr/bin:/bin\n"
        )
        kind, key, *_ = (folder / "hostkey.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        self.settings = folder / "ssh_config"
        self.settings.write_text(
            f"Host far\n  HostName 127.0.0.1\n  Port {self.port}\n  User {getpass.getuser()}\n  IdentitiesOnly yes\n"
            f"  IdentityFile {folder}/key\n  UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking yes\n"
        )
        self.log = folder / "sshd.log"
        command = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
        if os.geteuid() == 0:
            command = ["unshare", "--mount", "sh", "-c", _AS_ROOT, "sh", *command]
        environment = {**os.environ, "FOLDER": str(folder), "LD_LIBRARY_PATH": libraries}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(self._listens, "sshd listens")

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def cluster(self) -> RunningCluster:
        """What Motes has there."""
        return RunningCluster(self.home / ".local" / "share" / "motes")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_S)
