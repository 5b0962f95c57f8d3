# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Hosts without an agent, that only forward: asked by echo (RFC 9747), beside such as have one."""
import time

import pytest

import forge
from cluster import Cluster
from conftest import BUILD
from topology import wait_for


@pytest.fixture(scope="module")
def cluster():
    """gpu1 and gpu2 are plain Linux hosts that forward; gpu3 has an agent."""
    with Cluster("shunt-echo", BUILD, n_backends=3) as c:
        for b in c.backends[:2]:
            forwarding(b, True)
        c.start_agent(c.backends[2])
        wait_for(lambda: "ready: 1 interfaces" in c.log("agent-gpu3"), "the agent")
        yield c


def forwarding(host, on):
    host.run("sysctl", "-qw", *[f"net.{key}={int(on)}" for key in ("ipv4.ip_forward", "ipv6.conf.all.forwarding")])


def pool(cluster, checks, forward="ipip", family=4):
    """The pool of these backends, each asked in its way."""
    hosts = {b.name: b for b in cluster.backends}
    return f"  - name: gpus\n    forward: {forward}\n    slots: 1021\n    backends:\n" + "".join(
        f"      - {{name: {n}, address: '{hosts[n].ipv4 if family == 4 else hosts[n].ipv6}', check: {{type: {check}}}}}\n"
        for n, check in checks.items())


MIXED = {"gpu1": "echo", "gpu2": "echo", "gpu3": "heartbeat"}


@pytest.fixture
def begin(cluster, shuntd):
    """Start the controller and wait until all are up; the time before."""
    def start(checks=MIXED, forward="ipip", family=4, **said):
        begun_ns = time.monotonic_ns()
        text = cluster.config(interval="1ms", hold="100ms", pools=pool(cluster, checks, forward, family), **said)
        shuntd(text, *checks)
        return begun_ns
    yield start
    for b in cluster.backends[:2]:
        forwarding(b, True)


def probe(cluster, name):
    return next(p for p in cluster.shunt("probe", "show") if p["backend"] == name)


def wait_answers(cluster, name, n):
    before = probe(cluster, name)["answers"]
    wait_for(lambda: probe(cluster, name)["answers"] > before + n, f"{n} answers of {name}")


def down(cluster, name, since_ns):
    """The evidence of its fall, which was silence."""
    event = wait_for(lambda: cluster.events(since_ns, object="backend", name=name, what="down"), f"the fall of {name}")[0]
    assert event["why"] == "silent"
    return event["evidence"]


def downs(cluster, since_ns):
    return [e["text"] for e in cluster.events(since_ns, object="backend", what="down")]


@pytest.mark.parametrize("detector", ["kernel", "controller"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forward", ["l2", "ipip"])
def test_plain_host_that_forwards_is_up_and_stays_up(cluster, begin, forward, family, detector):
    begun_ns = begin(forward=forward, family=family, detector=detector)
    wait_answers(cluster, "gpu1", 500)
    assert downs(cluster, begun_ns) == []
    assert probe(cluster, "gpu1")["engine"] in (None, "unknown")


@pytest.mark.parametrize("family", [4, 6])
def test_plain_host_whose_plug_is_pulled_is_silent_and_another_bears_witness(cluster, begin, family):
    begin(family=family)
    fault_ns = cluster.plug.unplug("gpu1")
    assert down(cluster, "gpu1", fault_ns)["witness"] in ("gpu2", "gpu3")
    assert cluster.states() == {"gpu1": "down", "gpu2": "up", "gpu3": "up"}
    cluster.plug.plug("gpu1")
    cluster.wait_states()


def test_plain_hosts_bear_witness_for_each_other_and_for_agents(cluster, begin):
    begin({"gpu1": "echo", "gpu2": "echo"})
    assert down(cluster, "gpu1", cluster.plug.unplug("gpu1"))["witness"] == "gpu2"
    cluster.plug.plug("gpu1")
    begin({"gpu1": "echo", "gpu3": "heartbeat"})
    assert down(cluster, "gpu3", cluster.plug.unplug("gpu3"))["witness"] == "gpu1"


@pytest.mark.parametrize("family", [4, 6])
def test_plain_host_that_forwards_no_more_is_silent_until_it_does_again(cluster, begin, family):
    begun_ns = begin(family=family)
    forwarding(cluster.backends[0], False)
    down(cluster, "gpu1", begun_ns)
    forwarding(cluster.backends[0], True)
    cluster.wait_states()
    assert len(downs(cluster, begun_ns)) == 1


def test_balancer_whose_own_link_is_cut_convicts_no_plain_host(cluster, begin):
    begun_ns = begin({"gpu1": "echo", "gpu2": "echo"})
    cluster.plug.unplug("balancer")
    wait_for(lambda: cluster.events(begun_ns, what="self-suspect"), "self-suspicion")
    cluster.plug.plug("balancer")
    wait_answers(cluster, "gpu1", 50)
    assert downs(cluster, begun_ns) == []


def test_echoes_follow_a_host_that_gets_another_mac_address(cluster, begin):
    begun_ns = begin()
    host = cluster.backends[0]

    def move(mac):
        host.ip(f"link set eth0 address {mac}")
        cluster.balancer.ip(f"neigh replace {host.ipv4} lladdr {mac} dev eth0 nud reachable")
    try:
        move("02:00:00:00:00:77")
        wait_for(lambda: cluster.events(begun_ns, name="gpu1", what="resolved", why="its way changed"), "another way to gpu1")
        wait_answers(cluster, "gpu1", 50)
        cluster.wait_states()
    finally:
        move(host.mac)


def test_echoes_follow_a_balancer_that_gets_another_address(cluster, begin):
    """Without gpu3: its agent lists the balancers that it answers."""
    begun_ns = begin({"gpu1": "echo", "gpu2": "echo"})
    cluster.balancer.ip("addr add 10.0.0.200/24 dev eth0", "route change 10.0.0.0/24 dev eth0 src 10.0.0.200")
    try:
        for name in ("gpu1", "gpu2"):
            wait_for(lambda: cluster.events(begun_ns, name=name, what="resolved", why="its way changed"), f"another way to {name}")
            wait_answers(cluster, name, 50)
        cluster.wait_states(gpu1="up", gpu2="up")
        assert forge.overhear(cluster.switch, "balancer")[cluster.balancer.mac, cluster.backends[0].mac][26:34] == \
            bytes([10, 0, 0, 200] * 2)
    finally:
        cluster.balancer.ip(f"route change 10.0.0.0/24 dev eth0 src {cluster.balancer.ipv4}", "addr del 10.0.0.200/24 dev eth0")


def test_check_that_becomes_another_takes_no_backend_down(cluster, begin):
    begun_ns = begin({"gpu2": "echo", "gpu3": "heartbeat"})
    forwarding(cluster.backends[2], True)
    for check, weight in (("echo", 100), ("heartbeat", 100), ("echo", 50), ("heartbeat", 100)):
        pools = pool(cluster, {"gpu2": "echo", "gpu3": check}).replace("name: gpu3,", f"name: gpu3, weight: {weight},")
        cluster.write("shunt.yaml", cluster.config(interval="1ms", hold="100ms", pools=pools))
        changes = cluster.shunt("config", "reload")["changes"]
        assert changes[0].startswith("backend gpu3: ") and any(": check " in c for c in changes), changes
        wait_answers(cluster, "gpu3", 100)
        assert probe(cluster, "gpu3")["check"]["type"] == check
    assert downs(cluster, begun_ns) == []
    forwarding(cluster.backends[2], False)


def test_host_behind_a_gateway_cannot_be_echoed(cluster, begin):
    """The gateway would send the echo back, whether or not the host lives."""
    begun_ns = begin({"gpu1": "echo", "gpu2": "echo"})
    cluster.balancer.ip("route add 10.0.9.0/24 via 10.0.0.12")
    try:
        far = pool(cluster, {"gpu1": "echo", "gpu2": "echo"}).replace("10.0.0.11", "10.0.9.11")
        cluster.start_shuntd(cluster.config(interval="1ms", hold="100ms", pools=far))
        cluster.wait_states(gpu2="up")
        said = cluster.events(begun_ns, object="backend", name="gpu1", what="unresolved")
        assert "gateway" in said[0]["why"] and cluster.states()["gpu1"] == "down"
        assert probe(cluster, "gpu1")["rounds_asked"] == 0
    finally:
        cluster.balancer.ip("route del 10.0.9.0/24")


def test_who_is_up_stays_so_when_the_controller_is_killed_or_restarted(cluster, begin):
    begun_ns = begin(pin=cluster.pin)
    try:
        for end in (cluster.kill_shuntd, cluster.stop_shuntd):
            end()
            begin(pin=cluster.pin)
            wait_answers(cluster, "gpu1", 100)
            assert cluster.events(object="shuntd", what="took over")
        assert downs(cluster, begun_ns) == []
    finally:
        cluster.forget()
