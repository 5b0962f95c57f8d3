# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who drains, through whatever becomes of it meanwhile. How its flows fare: test_flows.py; the agent's side: test_agent_drain.py."""
import time

import pytest

from topology import VIP4, wait_for

DETECTORS = ["kernel", "controller"]


@pytest.fixture(params=DETECTORS)
def running(cluster, shuntd, request):
    shuntd(cluster.config(interval="1ms", hold="100ms", detector=request.param))
    return cluster


def served_by(cluster, n=32):
    return {a["backend"] for a in cluster.ask(VIP4, n)}


def state(cluster, name):
    b = cluster.shunt("backend", "show", name)[0]
    return b["state"], b["verdict"]


def agent(cluster, name, word):
    host = next(b for b in cluster.backends if b.name == name)
    return host.run(cluster.build / "shunt-agent", "-s", cluster.agent_socket(host), word)


def test_a_draining_backend_gets_no_new_flow_from_the_moment_drain_returns(running):
    running.shunt("backend", "drain", "gpu2")
    assert served_by(running) == {"gpu1", "gpu3", "gpu4"}
    assert {a["backend"] for a in running.ask_udp(VIP4, 16)} <= {"gpu1", "gpu3", "gpu4"}
    assert state(running, "gpu2") == ("draining", "drained")
    running.shunt("backend", "undrain", "gpu2")
    assert state(running, "gpu2") == ("up", "answering")
    assert served_by(running) == {"gpu1", "gpu2", "gpu3", "gpu4"}


def test_a_backend_that_dies_while_it_drains_comes_back_draining(running):
    running.shunt("backend", "drain", "gpu2")
    fault_ns = running.plug.unplug("gpu2")
    event = wait_for(lambda: running.events(fault_ns, object="backend", name="gpu2", what="down"), "the verdict")[0]
    assert event["why"] == "silent"
    plugged_ns = running.plug.plug("gpu2")
    running.wait_states(gpu2="draining")
    assert running.events(plugged_ns, object="backend", name="gpu2", what="up") == []
    assert "gpu2" not in served_by(running)
    running.shunt("backend", "undrain", "gpu2")
    assert state(running, "gpu2") == ("up", "answering")


def test_a_backend_that_is_drained_while_it_is_down_comes_back_draining(running):
    running.plug.unplug("gpu2")
    running.wait_states(gpu2="down")
    running.shunt("backend", "drain", "gpu2")
    assert state(running, "gpu2")[0] == "down"
    running.plug.plug("gpu2")
    running.wait_states(gpu2="draining")
    assert "gpu2" not in served_by(running)


def test_a_backend_undrained_while_it_is_down_is_admitted_as_others_are(running):
    running.shunt("backend", "drain", "gpu2")
    fault_ns = running.plug.unplug("gpu2")
    running.wait_states(gpu2="down")
    running.shunt("backend", "undrain", "gpu2")
    assert state(running, "gpu2")[0] == "down"
    running.plug.plug("gpu2")
    down, up = (wait_for(lambda: running.events(fault_ns, object="backend", name="gpu2", what=what), what)[0]
                for what in ("down", "up"))
    assert up["at_ns"] - down["at_ns"] >= 100_000_000  # hold


def test_an_agent_asks_for_a_drain_and_ends_it(running):
    begun_ns = time.monotonic_ns()
    agent(running, "gpu3", "drain")
    running.wait_states(gpu3="draining")
    assert state(running, "gpu3") == ("draining", "asked")
    assert "gpu3" not in served_by(running)
    with pytest.raises(RuntimeError):  # where it was asked for, there it ends
        running.shunt("backend", "undrain", "gpu3")
    agent(running, "gpu3", "undrain")
    running.wait_states(gpu3="up")
    assert "gpu3" in served_by(running)
    assert running.events(begun_ns, object="backend", what="down") == []


def test_an_operators_drain_outlasts_the_agents(running):
    running.shunt("backend", "drain", "gpu3")
    agent(running, "gpu3", "drain")
    wait_for(lambda: running.shunt("probe", "show", "gpu3")[0]["engine"] == "draining", "the agent's word")
    agent(running, "gpu3", "undrain")
    wait_for(lambda: running.shunt("probe", "show", "gpu3")[0]["engine"] != "draining", "the agent's word")
    assert state(running, "gpu3") == ("draining", "drained")


def test_a_drain_outlasts_a_reload(running):
    running.shunt("backend", "drain", "gpu2")
    begun_ns = time.monotonic_ns()
    text = (running.directory / "shunt.yaml").read_text().replace("{name: gpu1,", "{name: gpu1, weight: 200,")
    running.write("shunt.yaml", text)
    running.shunt("config", "reload")
    wait_for(lambda: running.events(begun_ns, object="shuntd", what="reloaded"), "the end of the reload")
    assert state(running, "gpu2") == ("draining", "drained")
    assert "gpu2" not in served_by(running)
