"""Each source of the signs on a folder made for it, as the kernel and systemd write such, and on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from motes.agent.sources import ASK_AGAIN_S, Charger, Keyboard, Logind, Memory, Others, Sources, Terminals
from motes.space import measure

NOW_S = 1_800_000_000.0


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir(parents=True)
    for file, text in files.items():
        (folder / name / file).write_text(f"{text}\n")


def test_a_machine_without_a_battery_is_always_on_mains(tmp_path: Path) -> None:
    supply(tmp_path, "mouse", type="Battery", scope="Device", status="Discharging")
    for folder in (tmp_path, tmp_path / "missing"):
        said, charging = Charger(folder).read()
        assert charging and not said.is_there and "always on mains" in said.says


@pytest.mark.parametrize(("online", "charging"), [("1", True), ("0", False)])
def test_a_laptop_is_charging_when_one_of_its_chargers_is_plugged_in(
    tmp_path: Path, online: str, charging: bool
) -> None:
    supply(tmp_path, "BAT0", type="Battery", status="Full")
    supply(tmp_path, "AC", type="Mains", online="0")
    supply(tmp_path, "usb-c", type="USB", online=online)
    said, found = Charger(tmp_path).read()
    assert said.is_there and found is charging


@pytest.mark.parametrize(("status", "charging"), [("Charging", True), ("Full", True), ("Discharging", False)])
def test_where_no_charger_is_listed_the_battery_says_it(tmp_path: Path, status: str, charging: bool) -> None:
    supply(tmp_path, "BAT0", type="Battery", status=status)
    assert Charger(tmp_path).read()[1] is charging
    supply(tmp_path, "BAT1", type="Battery", status="Unknown")
    assert Charger(tmp_path).read()[1] is False, "what is not known is not taken for mains"


def test_memory_is_what_programs_can_still_get(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  2048 kB\nMemFree: 10 kB\nMemAvailable:  1024 kB\nHugePages_Total: 0\n")
    said, free_bytes, total_bytes = Memory(file).read()
    assert (said.is_there, free_bytes, total_bytes) == (True, 2**20, 2**21)
    file.write_text("nonsense")
    assert not Memory(file).read()[0].is_there and Memory(file).read()[1] is None


def test_terminals_tell_when_somebody_typed_last(tmp_path: Path) -> None:
    (tmp_path / "pts").mkdir()
    for name, ago_s in (("pts/0", 500.0), ("pts/3", 40.0), ("tty1", 9_000.0), ("ttyS0", 1.0), ("pts/ptmx", 1.0)):
        (tmp_path / name).touch()
        # What programs print, its other time, is nobody's typing.
        os.utime(tmp_path / name, (NOW_S - ago_s, NOW_S))
    assert Terminals(tmp_path).read(NOW_S).idle_s == 40.0
    assert Terminals(tmp_path).read(NOW_S - 100.0).idle_s == 0.0, "a clock that was set back"
    nothing = Terminals(tmp_path / "missing").read(NOW_S)
    assert not nothing.said.is_there and nothing.idle_s is None


def test_the_keyboard_is_touched_when_its_interrupts_grow(tmp_path: Path) -> None:
    file = tmp_path / "interrupts"

    def write(keys: int, pad: int) -> None:
        lines = (
            "           CPU0       CPU1",
            f"  1:      {keys}          0   IO-APIC    1-edge      i8042",
            "  8:        999          0   IO-APIC    8-edge      rtc0",
            f" 12:          5       {pad}   IO-APIC   12-edge      i8042",
        )
        file.write_text("\n".join(lines))

    keyboard = Keyboard(file)
    write(100, 0)
    assert keyboard.read(1_000.0).idle_s == 0.0, "what was before is not known"
    assert keyboard.read(1_400.0).idle_s == 400.0
    write(100, 1)
    assert keyboard.read(1_401.0).idle_s == 0.0
    file.write_text("  8:        999          0   IO-APIC    8-edge      rtc0")
    assert not keyboard.read(1_402.0).said.is_there


@pytest.fixture
def busctl(tmp_path: Path) -> Path:
    """Answers what is in the file `answer`, and counts."""
    program = tmp_path / "busctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {tmp_path}/answer\n')
    program.chmod(0o755)
    return program


def asked(busctl: Path) -> int:
    return len((busctl.parent / "asked").read_text().splitlines())


def test_logind_says_since_when_all_sessions_are_idle(busctl: Path) -> None:
    (busctl.parent / "answer").write_text(f"b true\nt {int((NOW_S - 600) * 1e6)}\n")
    logind = Logind(str(busctl))
    assert logind.read(0.0, NOW_S).idle_s == 600.0
    (busctl.parent / "answer").write_text("b false\nt 0\n")
    assert logind.read(1.0, NOW_S).idle_s == 0.0, "that somebody is back is seen at the next look"
    assert "IdleHint IdleSinceHint" in (busctl.parent / "asked").read_text()
    for second in range(2, 6):
        logind.read(float(second), NOW_S)
    assert asked(busctl) == 2
    logind.read(1.0 + ASK_AGAIN_S, NOW_S)
    assert asked(busctl) == 3


@pytest.mark.parametrize("answer", ["", "b maybe", "b true\nt soon\n", "b true\n"])
def test_a_logind_that_answers_nonsense_is_not_there(busctl: Path, answer: str) -> None:
    (busctl.parent / "answer").write_text(answer)
    found = Logind(str(busctl)).read(0.0, NOW_S)
    assert not found.said.is_there and found.idle_s is None


def test_without_busctl_or_with_one_that_hangs_there_is_no_logind(tmp_path: Path) -> None:
    assert not Logind(str(tmp_path / "missing")).read(0.0, NOW_S).said.is_there
    hanging = tmp_path / "hanging"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    assert not Logind(str(hanging)).read(0.0, NOW_S).said.is_there


def test_other_programs_are_all_but_ours(tmp_path: Path) -> None:
    stat, mine = tmp_path / "stat", tmp_path / str(os.getpid())
    mine.mkdir()

    def write(user: int, idle: int, ours: int, steal: int = 0) -> None:
        stat.write_text(f"cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 1 1 1\n")
        (mine / "stat").write_text(f"1 (a (b) c) S {' '.join(['0'] * 10)} {ours} 0 0 0 0")

    write(0, 0, 0)
    others = Others(os.getpid(), stat, tmp_path)
    assert others.read()[1] == 0.0
    write(80, 20, 30)
    assert others.read()[1] == pytest.approx(0.5)
    write(80, 120, 30)
    assert others.read()[1] == 0.0
    write(80, 120, 30, steal=100)
    assert others.read()[1] == 0.0, "what a machine below took is no program's of this one"
    stat.unlink()
    assert others.read()[1] is None and not others.read()[0].is_there


def test_what_a_child_spends_is_ours_and_what_a_stranger_spends_is_not(tmp_path: Path) -> None:
    stat = tmp_path / "stat"

    def share(root: int) -> float | None:
        """Half of the processors' time went by in work, some of it of the child that spins."""
        stat.write_text("cpu 0 0 0 0 0 0 0 0")
        others = Others(root, stat)
        others.read()
        spent_s = measure.cpu_s(spinning.pid) + 0.2
        while measure.cpu_s(spinning.pid) < spent_s:
            time.sleep(0.01)
        stat.write_text("cpu 500 0 0 500 0 0 0 0")
        return others.read()[1]

    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    resting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        found = share(os.getpid())
        assert share(resting.pid) == 0.5
        assert found is not None and found < 0.5
    finally:
        for process in (spinning, resting):
            process.kill()
            process.wait()


def test_all_sources_are_read_only_when_they_matter() -> None:
    sources = Sources(os.getpid())
    signs, said = sources.read(idle=False, charging=False)
    assert [each.name for each in said] == ["memory"] and signs.idle_s is signs.load is signs.charging is None
    assert signs.free_bytes and signs.memory_bytes >= signs.free_bytes and 0 <= signs.minute < 7 * 24 * 60
    signs, said = sources.read(idle=True, charging=True)
    assert [each.name for each in said] == ["memory", "charger", "sessions", "terminals", "keyboard", "other programs"]
    assert signs.charging is not None and signs.load is not None


def test_the_hours_are_those_of_the_clock_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = []
    for zone in ("UTC0", "XXX-5:30"):
        monkeypatch.setenv("TZ", zone)
        minutes.append(Sources(os.getpid()).read(idle=False, charging=False)[0].minute)
    monkeypatch.undo()
    time.tzset()
    assert (minutes[1] - minutes[0]) % (7 * 24 * 60) in (330, 331)
