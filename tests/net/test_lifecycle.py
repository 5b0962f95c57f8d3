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


def shown_offline(cluster, *words):
    """What the command line answers without a daemon, and what it says of that."""
    done = cluster.balancer.try_run("env", f"SHUNT_CONFIG={cluster.directory / 'shunt.yaml'}", *cluster.shunt_argv("-j", *words))
    assert done.returncode == 0, done.stderr
    assert "shuntd is not running: this is what it left in the kernel" in done.stderr
    return json.loads(done.stdout)


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


def test_what_is_pinned_is_shown_while_no_controller_runs(cluster, life):
    life(config(cluster, gpu2=", weight: 50"))
    load = cluster.start_load(50)
    wait_for(lambda: all(b["live"] for b in cluster.shunt("backend", "show")), "streams on all")
    cluster.shunt("backend", "drain", "gpu3")
    cluster.wait_states(gpu3="draining")
    stable = ("name", "pool", "id", "address", "weight", "state", "verdict", "since", "draining", "egress", "mac", "mtu", "local")
    before = {(command, o["name"]): {k: o.get(k) for k in stable}
              for command in ("backend", "vip") for o in cluster.shunt(command, "show")}
    slots, at = cluster.shunt("slot", "show"), mapping(cluster)
    cluster.kill_shuntd()
    after = {(command, o["name"]): {k: o.get(k) for k in stable}
             for command in ("backend", "vip") for o in shown_offline(cluster, command, "show")}
    assert after == before
    assert shown_offline(cluster, "slot", "show") == slots
    source = f"{cluster.client.ipv4}:{PORTS[0]}"
    assert shown_offline(cluster, "flow", "where", source, "chat4")["backend"] == at[PORTS[0]]
    assert shown_offline(cluster, "flow", "show")["flows"]
    assert shown_offline(cluster, "stats", "show")["ill_because"] == "shuntd does not run"
    refused = cluster.balancer.try_run(*cluster.shunt_argv("backend", "undrain", "gpu3"))
    assert refused.returncode == 1 and "shuntd is not running" in refused.stderr
    cluster.load_end(load)


def test_daemon_says_what_it_went_on_with(cluster, life):
    process = life(config(cluster))
    first = cluster.shunt("daemon", "show")
    assert first["start"] == "first" and first["pid"] == process.pid and first["pin"] == str(cluster.pin)
    assert [(i["name"], i["attached"], i["mode"]) for i in first["interfaces"]] == [("eth0", True, "native")]
    life(config(cluster))
    second = cluster.shunt("daemon", "show")
    assert (second["start"], second["runs"], second["generation"]) == ("took over", 2, first["generation"])
    assert second["interfaces"][0]["program"] != first["interfaces"][0]["program"]
    life(config(cluster, seed="0x1234567812345678"))
    third = cluster.shunt("daemon", "show")
    assert (third["start"], third["runs"]) == ("began anew", 1) and third["generation"] > second["generation"]


def test_daemon_is_stopped_and_stays_in_the_kernel_unless_told_to_leave_it(cluster, life):
    process = life(config(cluster))
    assert "goes on" in cluster.shunt_text("daemon", "stop")
    assert process.wait(5) == 0 and cluster.pin.exists()
    assert [r["error"] for r in cluster.ask(VIP4, 5)] == [None] * 5
    process = life(config(cluster))
    assert "no VIP is served" in cluster.shunt_text("daemon", "stop", "--detach")
    assert process.wait(5) == 0 and not cluster.pin.exists()
    wait_for(lambda: "xdp" not in cluster.balancer.run("ip", "link", "show", "eth0"), "eth0 without a program")
