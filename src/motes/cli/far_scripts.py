"""The scripts that make a machine a host or a keeper, for the shell there (motes.cli.far), and what each of them says.

What is put into one is quoted here; what is pasted whole stands between two marks that it cannot hold.
"""

from __future__ import annotations

import base64
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motes.cli.wheel import Wheel

_BEGIN = """
P="$HOME/.local/lib/motes"
H="${MOTES_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/motes}"
unset MOTES_CONTEXT
export MOTES_HOME="$H"
"""
LOOK = f"""{_BEGIN}echo "@@system $(uname -s)"
for each in python3 python3.11 python3.12 python3.13 python3.14 "$HOME/.local/bin/python3"; do
  found=$(command -v "$each") || continue
  "$found" -c 'import sys; print(sys.version_info >= (3, 11))' </dev/null 2>/dev/null | grep -q True || continue
  echo "@@python $found"
  echo "@@version $("$found" -c 'import platform; print(platform.python_version())' </dev/null)"
  "$found" -c 'import venv, ensurepip' </dev/null 2>/dev/null && echo "@@venv yes" && break
done
[ -f "$P/installed" ] && echo "@@installed $(cat "$P/installed")"
[ -f "$H/keeper.json" ] && echo "@@joined yes"
[ -f "$H/keys/controller.pub" ] && echo "@@controller $(cat "$H/keys/controller.pub")"
[ -f "$H/hosts.json" ] && echo "@@hosts $(tr -d '\\n' < "$H/hosts.json")"
{{ [ -f "$H/nats/nats.conf" ] || [ -f "$H/foreign.json" ]; }} && echo "@@founded yes"
[ -f "$H/listen.json" ] && echo "@@listens yes"
exit 0
"""
"""Says `system`; `python`, `version` and `venv` of the best interpreter; `installed`, `joined`, `controller`, `hosts`,
`founded`, `listens` as far as they are so."""
_INSTALL = """
set -e
if ! "$P/bin/python" -m pip --version </dev/null >/dev/null 2>&1; then
  {python} -m venv --clear "$P" </dev/null >&2
fi
rm -f "$P/installed"
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
base64 -d > "$T/{name}" <<'MOTES_END'
{wheel}
MOTES_END
cat > "$T/pins" <<'MOTES_END'
{pins}
MOTES_END
pip() {{ "$P/bin/python" -m pip --quiet --disable-pip-version-check --no-input install "$@" </dev/null >&2; }}
pip --constraint "$T/pins" "$T/{name}"
# Another version may have the same number, as in a checkout.
pip --force-reinstall --no-deps "$T/{name}"
# What runs has the code of before.
"$P/bin/motes" down </dev/null >/dev/null 2>&1 || true
mkdir -p "$HOME/.local/bin"
[ -e "$HOME/.local/bin/motes" ] || ln -s "$P/bin/motes" "$HOME/.local/bin/motes"
echo {hash} > "$P/installed"
"""
_JOIN = """
set -e
told=$("$P/bin/motes" join - {options} --json <<'MOTES_END'
{invite}
MOTES_END
)
echo "@@joined $told"
"""
_SERVICE = """
if told=$("$P/bin/motes" service install --json </dev/null 2>"$P/said"); then
  echo "@@service $told"
else
  echo "@@refused $(tail -n 1 "$P/said")"
  "$P/bin/motes" up {options} </dev/null >&2 || exit 1
fi
"""
_FOUND = """
set -e
"$P/bin/motes" down </dev/null >/dev/null 2>&1 || true
"$P/bin/motes" up {options} </dev/null >&2
"""
KEY = f"""{_BEGIN}set -e
umask 077
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
"$P/bin/motes" creds --owner --output "$T/owner" </dev/null >/dev/null
echo "@@creds $(base64 < "$T/owner" | tr -d '\\n')"
"""
"""Says `creds`: the owner's, as a file of credentials in base64."""


def install(python: str, wheel: Wheel) -> str:
    """In a virtual environment of its own, made by `python` where there is none. Ends what runs there."""
    return _BEGIN + _INSTALL.format(
        python=shlex.quote(python),
        name=wheel.name,
        wheel=base64.encodebytes(wheel.data).decode().strip(),
        pins="\n".join(wheel.pins),
        hash=wheel.hash,
    )


def join(invite: str, name: str | None, lend: str) -> str:
    """Says `joined`: what `motes join --json` prints."""
    options = [*(("--name", name) if name else ()), *(("--lend", lend) if lend else ())]
    return _BEGIN + _JOIN.format(options=shlex.join(options), invite=invite)


def start(http: str) -> str:
    """By systemd, and says `service`: what `motes service install --json` prints; else by hand, and says `refused`."""
    return _BEGIN + _SERVICE.format(options=shlex.join(("--http", http)))


def found(listen: str, http: str) -> str:
    """A cluster of its own, which listens for others."""
    return _BEGIN + _FOUND.format(options=shlex.join(("--listen", listen, "--http", http)))
