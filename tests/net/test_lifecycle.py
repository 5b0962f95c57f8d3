# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A controller that is restarted, killed or replaced: what it left in the kernel serves, and the next one goes on with it."""
import json
import shutil
import signal
import time

import pytest

from cluster import PORT
from topology import VIP4, run, wait_for

PORTS = range(20000, 20032)
NAMES = ["gpu1", "gpu2", "gpu3"]


def config(cluster, *names, interval="1ms", seed=None, rest=None, **said):
    """Three of the backends unless others are named, each with what is said of it; pinned."""
    backends = {b.name: b for b in cluster.backends}
    lines = "\n".join(f"      - {{name: {n}, address: {backends[n].ipv4}{said.get(n, '')}}}" for n in names or NAMES)
    pools = f"  - name: gpus\n    forward: ipip\n    slots: {said.get('slots', 1021)}\n    backends:\n{lines}"
    text = cluster.config(interval=interval, multiplier=10, hold="100ms", pools=pools, pin=cluster.pin, **(rest or {}))
    return text.replace("0x5eed0123456789ab", seed) if seed else text


@pytest.fixture
def life(cluster):
    """Starts a controller with a configuration; in the end nothing of it is left."""
    def start(text, *names):
        process = cluster.start_shuntd(text)
        cluster.wait_states(**{name: "up" for name in names or NAMES})
        return process
    yield start
    cluster.stop_shuntd()
    shutil.rmtree(cluster.pin, ignore_errors=True)
    wait_for(lambda: "xdp" not in cluster.balancer.run("ip", "link", "show", "eth0"), "eth0 without a program")


def ids(cluster):
    return {b["name"]: b["id"] for b in cluster.shunt("backend", "show")}


def mapping(cluster, vip="chat4"):
    return {port: cluster.where(port, vip) for port in PORTS}


def fallen(cluster):
    return cluster.events(object="backend", what="down")


def said(cluster, name="shuntd"):
    return [e["what"] for e in cluster.shunt("event", "show") if e["object"] == name]


def unbroken(cluster, load):
    records = cluster.load_end(load)
    assert [r for r in records if r["error"]] == []
    return {r["backend"] for r in records}


END = {"told to end": lambda c: c.stop_shuntd(), "killed": lambda c: c.kill_shuntd()}


@pytest.mark.parametrize("end", END)
def test_controller_that_is_gone_serves_on_and_the_next_goes_on_as_if_it_had_been_there(cluster, life, end):
    life(config(cluster))
    before, at = ids(cluster), mapping(cluster)
    load = cluster.start_load(50)
    wait_for(lambda: all(b["live"] for b in cluster.shunt("backend", "show")), "streams on all")
    live = {b["name"]: b["live"] for b in cluster.shunt("backend", "show")}
    END[end](cluster)
    assert "xdp" in cluster.balancer.run("ip", "link", "show", "eth0")
    assert [r["error"] for r in cluster.ask(VIP4, 20)] == [None] * 20
    life(config(cluster))
    assert "took over" in said(cluster) and fallen(cluster) == [] and set(said(cluster, "backend")) <= {"up"}
    assert (ids(cluster), mapping(cluster)) == (before, at)
    assert all(live.values())
    assert unbroken(cluster, load) == set(NAMES)
