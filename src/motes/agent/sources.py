"""Where the signs come from on a Linux machine: logind, terminals, keyboard, other programs, charger, memory.

Each source says whether it is there and what it says now; none needs rights that an ordinary user lacks. Reading may
take a while (a battery answers through the firmware), so it is not done on an event loop.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from motes.agent.core.lending import Signs
from motes.model.hours import DAY_MINUTES
from motes.model.units import format_bytes, format_seconds
from motes.space.measure import processes_below

LOGIND_TIMEOUT_S = 1.0
ASK_AGAIN_S = 5.0
"""A session in use is asked about less often, and so is a logind that did not answer: that somebody is back is what
must be seen at once, not that he has gone."""
_LOGIND = "org.freedesktop.login1"
_ASK_LOGIND = (
    "--system", "get-property", _LOGIND, "/org/freedesktop/login1", f"{_LOGIND}.Manager", "IdleHint", "IdleSinceHint"
)  # fmt: skip
_MICROSECOND = 1e-6
_OTHERS = "other programs"
FIRST_S = 0.2
"""Between the first two looks at other programs."""


class Said(NamedTuple):
    """One source: whether it is there, and what it says, in words."""

    name: str
    is_there: bool
    says: str


class Presence(NamedTuple):
    """What one source knows of the owner: seconds since he was seen, or None."""

    said: Said
    idle_s: float | None


class Logind:
    """The sessions of systemd: desktops say there when they are idle; what plays a film may say that it is not."""

    def __init__(self, program: str = "busctl") -> None:
        self._program = program
        self._asked_at = float("-inf")
        self._last = Presence(Said("sessions", False, ""), None)

    def read(self, now: float, wall_s: float) -> Presence:
        """May be up to ASK_AGAIN_S old, but not where nobody was there."""
        is_idle = self._last.idle_s is not None and self._last.idle_s > 0
        if is_idle or now - self._asked_at >= ASK_AGAIN_S:
            self._asked_at, self._last = now, self._ask(wall_s)
        return self._last

    def _ask(self, wall_s: float) -> Presence:
        try:
            done = subprocess.run(
                [self._program, *_ASK_LOGIND],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LOGIND_TIMEOUT_S,
            )
            hint, since = (line.split()[1] for line in done.stdout.splitlines()[:2])
            idle_s = max(wall_s - int(since) * _MICROSECOND, 1.0) if hint == "true" else 0.0
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return Presence(Said("sessions", False, "systemd-logind does not answer"), None)
        says = f"idle for {format_seconds(round(idle_s))}" if idle_s else "one is in use"
        return Presence(Said("sessions", True, says), idle_s)


class Terminals:
    """When somebody last typed in a terminal: the kernel notes it, to eight seconds, as the time of its last read."""

    def __init__(self, devices: Path = Path("/dev")) -> None:
        self._devices = devices

    def read(self, wall_s: float) -> Presence:
        """Without any open there is nothing to tell."""
        terminals = [path for path in (*self._devices.glob("pts/[0-9]*"), *self._devices.glob("tty[1-9]*"))]
        reads = [at for path in terminals if (at := _read_at(path)) is not None]
        if not reads:
            return Presence(Said("terminals", False, "none is open"), None)
        idle_s = max(wall_s - max(reads), 0.0)
        return Presence(Said("terminals", True, f"last used {format_seconds(round(idle_s))} ago"), idle_s)


def _read_at(path: Path) -> float | None:
    try:
        return path.stat().st_atime
    except OSError:
        return None


class Keyboard:
    """A laptop's own keyboard and pad: their interrupts are counted apart. (What is plugged in shares them with disks,
    and /dev/input notes no times.)"""

    def __init__(self, interrupts: Path = Path("/proc/interrupts")) -> None:
        self._interrupts = interrupts
        self._count: int | None = None
        self._touched_at = 0.0

    def read(self, now: float) -> Presence:
        """What was before the first look is not known: that counts as a touch."""
        count = self._counted()
        if count is None:
            return Presence(Said("keyboard", False, "none with interrupts of its own"), None)
        if count != self._count:
            self._count, self._touched_at = count, now
        idle_s = now - self._touched_at
        return Presence(Said("keyboard", True, f"untouched for {format_seconds(round(idle_s))}"), idle_s)

    def _counted(self) -> int | None:
        try:
            lines = [line.split() for line in self._interrupts.read_text().splitlines() if "i8042" in line]
        except OSError:
            return None
        return sum(int(word) for line in lines for word in line[1:] if word.isdigit()) if lines else None


class Others:
    """The share of all processors that programs take which are none of ours; `root` and what it started are ours."""

    def __init__(self, root: int, stat: Path = Path("/proc/stat"), processes: Path = Path("/proc")) -> None:
        self._root = root
        self._stat = stat
        self._processes = processes
        self._before: tuple[float, float, float] | None = None
        self._share = 0.0

    def read(self) -> tuple[Said, float | None]:
        """Between this look and the one before; the first takes a moment."""
        try:
            if self._before is None:
                self._before = self._sample()
                time.sleep(FIRST_S)
            before, self._before = self._before, self._sample()
        except (OSError, ValueError, IndexError):
            return Said(_OTHERS, False, f"{self._stat} cannot be read"), None
        passed, busy, ours = (new - old for new, old in zip(self._before, before, strict=True))
        if passed > 0:
            self._share = min(max((busy - max(ours, 0.0)) / passed, 0.0), 1.0)
        return Said(_OTHERS, True, f"take {self._share:.0%} of the processors"), self._share

    def _sample(self) -> tuple[float, float, float]:
        """All ticks of all processors so far, those in which they worked, and those that were ours."""
        words = [int(word) for word in self._stat.read_text().split("\n", 1)[0].split()[1:9]]
        # Waiting for disks is no work, and what a machine below this one took is nobody's here.
        busy = sum(words[:3]) + words[5] + words[6]
        return float(sum(words)), float(busy), sum(map(self._ticks, processes_below(self._root)))

    def _ticks(self, pid: int) -> float:
        """Of the process and of those it has waited for."""
        try:
            fields = (self._processes / str(pid) / "stat").read_text().rpartition(")")[2].split()
            return float(sum(map(int, fields[11:15])))
        except (OSError, ValueError, IndexError):
            return 0.0


class Charger:
    """/sys/class/power_supply: a machine without a battery is on mains always."""

    def __init__(self, supplies: Path = Path("/sys/class/power_supply")) -> None:
        self._supplies = supplies

    def read(self) -> tuple[Said, bool]:
        """Batteries of what is plugged in, as a mouse's, are none of the machine's."""
        found = [each for each in self._listed() if _word(each / "scope") != "Device"]
        batteries = [each for each in found if _word(each / "type") == "Battery"]
        if not batteries:
            return Said("charger", False, "no battery here: always on mains"), True
        chargers = [each for each in found if _word(each / "type") in ("Mains", "USB")]
        if chargers:
            charging = any(_word(each / "online") not in ("", "0") for each in chargers)
        else:
            charging = all(_word(each / "status") in ("Charging", "Full", "Not charging") for each in batteries)
        return Said("charger", True, "on mains" if charging else "on battery"), charging

    def _listed(self) -> Sequence[Path]:
        try:
            return sorted(self._supplies.iterdir())
        except OSError:
            return ()


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class Memory:
    """/proc/meminfo."""

    def __init__(self, meminfo: Path = Path("/proc/meminfo")) -> None:
        self._meminfo = meminfo

    def read(self) -> tuple[Said, int | None, int]:
        """What programs can still get, and all there is, in bytes."""
        try:
            lines = (line.split() for line in self._meminfo.read_text().splitlines())
            sizes = {words[0]: int(words[1]) * 1024 for words in lines if len(words) == 3}
            free_bytes, total_bytes = sizes["MemAvailable:"], sizes["MemTotal:"]
        except (OSError, ValueError, KeyError):
            return Said("memory", False, f"{self._meminfo} cannot be read"), None, 0
        return Said("memory", True, f"{format_bytes(free_bytes)} to be had"), free_bytes, total_bytes


class Sources:
    """All of them; `root` is the process below which everything is Motes's own."""

    def __init__(self, root: int) -> None:
        self._logind = Logind()
        self._terminals = Terminals()
        self._keyboard = Keyboard()
        self._others = Others(root)
        self._charger = Charger()
        self._memory = Memory()

    def read(self, *, idle: bool, charging: bool) -> tuple[Signs, list[Said]]:
        """What the machine shows now; without `idle` and `charging` the sources of those are left alone."""
        memory, free_bytes, memory_bytes = self._memory.read()
        said, signs = [memory], Signs(minute=minute_of_week(), free_bytes=free_bytes, memory_bytes=memory_bytes)
        if charging:
            charger, is_charging = self._charger.read()
            said, signs = [*said, charger], msgspec.structs.replace(signs, charging=is_charging)
        if idle:
            now, wall_s = time.monotonic(), time.time()
            seen = [self._logind.read(now, wall_s), self._terminals.read(wall_s), self._keyboard.read(now)]
            others, load = self._others.read()
            idle_s = min((each.idle_s for each in seen if each.idle_s is not None), default=None)
            said += [*(each.said for each in seen), others]
            signs = msgspec.structs.replace(signs, idle_s=idle_s, load=load)
        return signs, said


def minute_of_week() -> int:
    """By this machine's wall clock, also after its owner has set another time zone."""
    time.tzset()
    now = time.localtime()
    return now.tm_wday * DAY_MINUTES + now.tm_hour * 60 + now.tm_min
