# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The files that configurations come from: the examples that ship, and a disk that is full or may not be written."""
import json
import pathlib
import re
import subprocess

import pytest

from topology import run, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "tools/examples").glob("**/*shunt*.yaml"))
KEY = "000102030405060708090a0b0c0d0e0f"


def shown(cluster):
    return cluster.shunt_text("config", "show")


def refusal(cluster):
    """What `config save` says when it fails."""
    done = subprocess.run([str(a) for a in cluster.shunt_argv("config", "save")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_a_disk_that_is_full_leaves_the_file_as_it_was(cluster):
    cluster.stop_shuntd()
    directory = cluster.directory / "small"
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=12k", "small", directory)
    try:
        path = directory / "shunt.yaml"
        path.write_text(cluster.config(interval="1ms"))
        (directory / "filler").write_bytes(b"x" * 4096)
        process = cluster.shuntd = cluster.balancer.start("shuntd", cluster.build / "shuntd", "-f", path)
        wait_for(lambda: cluster.shunt_text("stats", "show", check=False), "shuntd's socket")
        (directory / "filler2").write_bytes(b"x" * 4096)
        assert "No space left" in refusal(cluster)
        run("mount", "-o", "remount,ro", directory)
        assert "Read-only" in refusal(cluster)
        assert path.read_text() == cluster.config(interval="1ms")
        assert sorted(p.name for p in directory.iterdir()) == ["filler", "filler2", "shunt.yaml"]
        assert process.poll() is None
    finally:
        cluster.stop_shuntd()
        run("umount", directory)


def adapted(cluster, example):
    """It, with places that this host has."""
    cluster.write_keys("peer.key", KEY)
    text = example.read_text().replace("/sys/fs/bpf/shunt", "none").replace("/var/lib/shunt", f"{cluster.directory}/state")
    text = text.replace("/etc/shunt/", f"{cluster.directory}/").replace("/run/shunt/", f"{cluster.directory}/")
    text = re.sub(r"^(interfaces:).*$", r"\1 [eth0]", text, flags=re.M)
    text = re.sub(r"(local:) *[0-9.]+", rf"\1 {cluster.balancer.ipv4}", text)
    return text.replace("100us", "1ms")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_an_example_goes_round(cluster, example):
    """Shown, applied, saved and applied again it is itself; and from there to another configuration and back."""
    text = adapted(cluster, example)
    cluster.start_shuntd(text)
    first = shown(cluster)
    for name, same in (("shown.yaml", first), ("example.yaml", text)):
        path = cluster.write(name, same)
        assert cluster.shunt("config", "diff", path)["changes"] == []
        assert cluster.shunt("config", "apply", path)["changes"] == []
        assert shown(cluster) == first
    other = cluster.write("other.yaml", first.replace("interval: 1ms", "interval: 2ms").replace("weight: 100", "weight: 90"))
    changes = cluster.shunt("config", "diff", other)["changes"]
    assert cluster.shunt("config", "apply", other)["changes"] == changes != []
    assert shown(cluster) == other.read_text()
    cluster.shunt("config", "save")
    assert (cluster.directory / "shunt.yaml").read_text() == other.read_text()
    assert len(cluster.shunt("config", "apply", cluster.write("example.yaml", text))["changes"]) == len(changes)
    assert shown(cluster) == first
    cluster.stop_shuntd()
    assert json.loads(run(cluster.build / "shunt", "-j", "config", "check", cluster.directory / "shunt.yaml"))
