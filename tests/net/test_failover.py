# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who is ejected, who isn't, and where the flows go: with plugs pulled, processes killed and daemons stopped."""
import functools
import signal
import time

import pytest

from topology import VIP4, stop, wait_for

DETECTORS = ["kernel", "controller"]
PORTS = range(20000, 20032)


@pytest.fixture
def config(cluster):
    """Probes ten times slower than the default: a busy machine is not what is tested here."""
    return functools.partial(cluster.config, interval="1ms")


def downs(cluster, since_ns):
    return [(e["name"], e["why"]) for e in cluster.events(since_ns, object="backend", what="down")]


def mapping(cluster):
    return {port: cluster.where(port, "chat4") for port in PORTS}


def suspects_itself(cluster):
    return cluster.shunt("stats", "show")["probe"]["suspect_since_ns"]


def answers(cluster):
    return {p["backend"]: p["answers"] for p in cluster.shunt("probe", "show")}


def wait_answering(cluster):
    """Until every backend has answered anew."""
    before = answers(cluster)
    wait_for(lambda: all(n > before[name] for name, n in answers(cluster).items()), "answers of every backend")


@pytest.mark.parametrize("detector", DETECTORS)
def test_flows_of_an_unplugged_backend_move_to_heirs_and_return(cluster, shuntd, config, detector):
    shuntd(config(detector=detector))
    before = mapping(cluster)
    fault_ns = cluster.plug.unplug("gpu2")
    event = wait_for(lambda: cluster.events(fault_ns, object="backend", name="gpu2", what="down"), "the verdict")[0]
    assert event["why"] == "silent"
    answered = {a["port"]: a["backend"] for a in cluster.ask(VIP4, 32)}
    assert set(answered.values()) == {"gpu1", "gpu3", "gpu4"}  # and no error: that has no backend
    assert answered == {port: cluster.where(port, "chat4") for port in answered}
    during = mapping(cluster)
    assert {p: b for p, b in during.items() if before[p] != "gpu2"} == {p: b for p, b in before.items() if b != "gpu2"}
    assert "gpu2" not in during.values()

    plugged_ns = cluster.plug.plug("gpu2")
    up = wait_for(lambda: cluster.events(plugged_ns, object="backend", name="gpu2", what="up"), "gpu2 back up")[0]
    assert up["at_ns"] - plugged_ns >= 1_000_000_000  # hold
    assert mapping(cluster) == before
    assert downs(cluster, fault_ns) == [("gpu2", "silent")]


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_verdict_names_its_witness(cluster, shuntd, config, detector):
    shuntd(config(detector=detector))
    fault_ns = cluster.plug.unplug("gpu4")
    event = wait_for(lambda: cluster.events(fault_ns, object="backend", name="gpu4", what="down"), "the verdict")[0]
    assert event["evidence"]["witness"] in ("gpu1", "gpu2", "gpu3")


def test_a_backend_that_falls_again_soon_is_held_for_longer_each_time(cluster, shuntd, config):
    shuntd(config(hold="100ms", hold_max="250ms"))
    for hold_ms in (100, 200, 250, 250):
        begun_ns = cluster.plug.unplug("gpu2")
        cluster.wait_states(gpu2="down")
        assert cluster.shunt("backend", "show", "gpu2")[0]["hold_us"] == hold_ms * 1000
        cluster.plug.plug("gpu2")
        up = wait_for(lambda: cluster.events(begun_ns, object="backend", name="gpu2", what="up"), "gpu2 back up")[0]
        assert up["evidence"]["hold_ms"] == hold_ms
    assert cluster.shunt("backend", "show", "gpu2")[0]["hold_us"] is None


def test_probes_that_are_lost_by_chance_eject_nobody(cluster, shuntd, config):
    """At 20 % three in a row are lost some eight times in a thousand rounds."""
    shuntd(config())
    names = [b.name for b in cluster.backends]
    rounds = cluster.shunt("stats", "show")["probe"]["round"]
    cluster.plug.lose(100, *names)  # until it is known: the first loss may be three in a row
    wait_for(lambda: all(p["rounds_to_convict"] > 5 for p in cluster.shunt("probe", "show")), "the loss to be seen")
    begun_ns = cluster.plug.lose(200, *names)
    wait_for(lambda: cluster.shunt("stats", "show")["probe"]["round"] > rounds + 4000, "four thousand rounds", 30)
    assert [e["text"] for e in cluster.events(begun_ns, object="backend", what="down")] == []
    begun_ns = cluster.plug.unplug("gpu2")
    event = wait_for(lambda: cluster.events(begun_ns, object="backend", name="gpu2", what="down"), "the verdict")[0]
    assert event["why"] == "silent" and event["evidence"]["rounds"] > 5
    cluster.plug.plug(*names)
    cluster.wait_states()


def test_probe_shows_what_became_of_each_backends_probes(cluster, shuntd, config):
    shuntd(config())
    begun_ns = cluster.plug.unplug("gpu2")
    event = wait_for(lambda: cluster.events(begun_ns, object="backend", name="gpu2", what="down"), "the verdict")[0]

    def lost():
        gpu1, gpu2 = (cluster.shunt("probe", "show", name)[0] for name in ("gpu1", "gpu2"))
        return gpu2["window_loss_permille"] and (gpu1, gpu2)
    gpu1, gpu2 = wait_for(lost, "lost rounds")
    assert gpu2["evidence"] == event["evidence"]
    assert (gpu2["state"], gpu2["verdict"], gpu2["hold_us"]) == ("down", "silent", 1_000_000)
    assert (gpu1["state"], gpu1["verdict"], gpu1["hold_us"]) == ("up", "answering", None)
    assert gpu1["answers"] > gpu1["window_answers"] > 0
    assert 0 < gpu1["rtt_p50_us"] <= gpu1["rtt_p99_us"]
    assert gpu1["agent_version"] == 1 and gpu1["full"] is False
    assert (gpu1["interval_us"], gpu1["check"]) == (1000, {"type": "heartbeat", "text": ""})


def test_two_backends_die_in_either_order_and_the_flows_go_the_same_way(cluster, shuntd, config):
    shuntd(config(hold="100ms"))
    ends = []
    for order in (("gpu1", "gpu3"), ("gpu3", "gpu1")):
        for name in order:
            cluster.plug.unplug(name)
            cluster.wait_states(**{name: "down"})
        ends.append(mapping(cluster))
        cluster.plug.plug(*order)
        cluster.wait_states()
    assert ends[0] == ends[1]
    assert set(ends[0].values()) == {"gpu2", "gpu4"}


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_balancer_whose_own_link_is_cut_ejects_nobody(cluster, shuntd, config, detector):
    """Ten times: what is dangerous is the moment when the first answer is back and the others are not."""
    shuntd(config(detector=detector))
    begun_ns = time.monotonic_ns()
    for _ in range(10):
        cluster.plug.unplug("balancer")
        wait_for(lambda: suspects_itself(cluster), "the suspicion")
        cluster.plug.plug("balancer")
        wait_for(lambda: not suspects_itself(cluster), "the suspicion's end")
        wait_answering(cluster)
    assert cluster.events(begun_ns, what="self-suspect")
    assert downs(cluster, begun_ns) == []
    assert set(cluster.states().values()) == {"up"}


@pytest.mark.parametrize("detector", DETECTORS)
def test_silence_of_every_backend_at_once_ejects_nobody(cluster, shuntd, config, detector):
    shuntd(config(detector=detector))
    names = [b.name for b in cluster.backends]
    begun_ns = time.monotonic_ns()
    for _ in range(10):
        cluster.plug.unplug(*names)
        wait_for(lambda: suspects_itself(cluster), "the suspicion")
        cluster.plug.plug(*names)
        wait_answering(cluster)
    assert downs(cluster, begun_ns) == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_backend_that_stays_silent_when_the_others_are_back_is_ejected(cluster, shuntd, config, detector):
    """The pardon after a cut is for the rounds of the cut, not for the dead."""
    shuntd(config(detector=detector))
    begun_ns = cluster.plug.unplug(*[b.name for b in cluster.backends])
    wait_for(lambda: suspects_itself(cluster), "the suspicion")
    cluster.plug.plug("gpu1", "gpu2", "gpu4")
    cluster.wait_states(gpu1="up", gpu2="up", gpu3="down", gpu4="up")
    assert downs(cluster, begun_ns) == [("gpu3", "silent")]


def test_a_backend_without_a_witness_is_never_ejected(cluster, shuntd, config):
    only = cluster.backends[0]
    shuntd(config(pools=f"  - name: gpus\n    forward: ipip\n    backends: [{{name: gpu1, address: {only.ipv4}}}]"), "gpu1")
    fault_ns = cluster.plug.unplug("gpu1")
    wait_for(lambda: suspects_itself(cluster), "the suspicion")
    cluster.plug.plug("gpu1")
    wait_answering(cluster)
    assert downs(cluster, fault_ns) == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_controller_stopped_for_two_seconds_ejects_nobody_and_packets_go_on(cluster, shuntd, config, detector):
    process = shuntd(config(detector=detector))
    stopped_ns = time.monotonic_ns()
    process.send_signal(signal.SIGSTOP)
    assert [a["error"] for a in cluster.ask(VIP4, 16) if a["error"]] == []
    wait_for(lambda: time.monotonic_ns() - stopped_ns > 2_000_000_000, "two seconds")
    process.send_signal(signal.SIGCONT)
    wait_answering(cluster)
    assert downs(cluster, stopped_ns) == []


def test_a_backend_whose_agent_ends_is_taken_down_until_it_is_back(cluster, shuntd, config):
    shuntd(config(hold="100ms"))
    agent, host = cluster.agents["gpu3"], cluster.backends[2]
    assert stop(agent) == 0
    cluster.wait_states(gpu3="down")
    assert {a["backend"] for a in cluster.ask(VIP4, 24)} == {"gpu1", "gpu2", "gpu4"}
    cluster.agents["gpu3"] = cluster.start_agent(host)
    cluster.wait_states(gpu3="up")


def test_a_backend_that_is_not_there_at_the_start_joins_when_it_comes(cluster, shuntd, config):
    cluster.plug.unplug("gpu1")
    shuntd(config(), "gpu2", "gpu3", "gpu4")
    assert cluster.states()["gpu1"] == "down"
    assert {a["backend"] for a in cluster.ask(VIP4, 24)} == {"gpu2", "gpu3", "gpu4"}
    cluster.plug.plug("gpu1")
    cluster.wait_states()


def test_a_backend_with_a_new_mac_address_is_followed(cluster, shuntd, config):
    shuntd(config())
    host, new = cluster.backends[0], "02:00:00:00:01:0b"
    host.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_notify=1")  # it announces the change, as a host that took over would
    try:
        host.ip(f"link set eth0 address {new}")
        wait_for(lambda: cluster.shunt("backend", "show", "gpu1")[0]["mac"] == new, "the new address")
        wait_for(lambda: "gpu1" in {a["backend"] for a in cluster.ask(VIP4, 16)}, "gpu1 serving")
    finally:
        host.ip(f"link set eth0 address {host.mac}")
        wait_for(lambda: cluster.shunt("backend", "show", "gpu1")[0]["mac"] == host.mac, "the old address")


def test_a_controller_that_ends_leaves_nothing_attached(cluster, shuntd, config):
    shuntd(config())
    assert "xdp" in cluster.balancer.run("ip", "link", "show", "eth0")
    assert cluster.stop_shuntd() == 0
    assert "xdp" not in cluster.balancer.run("ip", "link", "show", "eth0")
    assert not cluster.socket.exists()


def test_a_way_that_is_gone_for_a_moment_ejects_nobody(cluster, shuntd, config):
    shuntd(config(interval="10ms", multiplier=20))
    begun_ns = time.monotonic_ns()
    route = f"unreachable {cluster.backends[1].ipv4}/32"
    wait_for(lambda: cluster.balancer.ip(f"route add {route}", f"route del {route}") or
             cluster.events(begun_ns, name="gpu2", what="unresolved"), "the loss to be seen")
    wait_for(lambda: cluster.shunt("backend", "show", "gpu2")[0]["egress"], "the way to be back")
    cluster.balancer.ip(f"route add {route}")
    lost_ns = time.monotonic_ns()
    try:
        down = wait_for(lambda: cluster.events(begun_ns, name="gpu2", what="down"), "the verdict")[0]
        assert down["why"] in ("unresolved", "silent") and down["at_ns"] > lost_ns + 45_000_000
    finally:
        cluster.balancer.ip(f"route del {route}")
    cluster.wait_states()
