# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The units of systemd: they are good, tight, and say of privileges what the programs say."""
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build")).resolve()
UNITS = {"shuntd.service": "user/shuntd/main.c", "shunt-agent.service": "user/agent/main.c"}
EXPOSURE = 40  # in tenths, chosen: systemd-analyze calls OK what is below 50


def values(name, key):
    return [word for line in re.findall(rf"^{key}=(.*)$", (ROOT / "tools/systemd" / name).read_text(), re.M) for word in line.split()]


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_good_and_tight(tmp_path, name):
    """With the programs of this build in the place of installed ones."""
    unit = tmp_path / name
    unit.write_text(re.sub(r"/usr/s?bin/(?=shunt)", f"{BUILD}/", (ROOT / "tools/systemd" / name).read_text()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", unit],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", UNITS)
def test_unit_gives_the_privileges_that_the_program_starts_with(name):
    text = (ROOT / UNITS[name]).read_text()
    start = set(re.findall(r"PRIVILEGE\((\w+)\)", text))
    assert {f"CAP_{p}" for p in start} == set(values(name, "CapabilityBoundingSet"))


def test_units_keep_what_the_programs_ask_for():
    """The prober's thread is real-time; what is pinned outlives the service, and so does its directory."""
    assert not values("shuntd.service", "RestrictRealtime")
    for name in UNITS:
        assert "-/sys/fs/bpf" in values(name, "ReadWritePaths")
        assert not values(name, "ProtectKernelTunables")  # closes bpffs
        assert values(name, "Type") == ["notify"] and values(name, "RuntimeDirectoryPreserve") == ["yes"]
        assert values(name, "Restart") == ["on-failure"] and values(name, "WatchdogSec")  # whoever is told to end, stays ended
