# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Backends that are asked by BFD: FRR's and BIRD's daemons as peers, and one that says what no daemon would."""
import signal
import time

import pytest

from bfd_peer import ADMIN_DOWN, DOWN, UP, Bird, Frr, Puppet
from cluster import Cluster
from conftest import BUILD
from topology import VIP4, stop, wait_for

PATIENT = 20  # detect multiplier: longer than a busy machine stands still


@pytest.fixture(scope="module")
def cluster():
    with Cluster("shunt-bfd", BUILD) as c:
        yield c


@pytest.fixture(scope="module")
def peers(cluster):
    """gpu1: FRR, gpu2: BIRD, gpu3: BIRD over IPv6."""
    hosts, balancer = cluster.backends, cluster.balancer
    peers = {"gpu1": Frr(hosts[0], balancer.ipv4, multiplier=PATIENT), "gpu2": Bird(hosts[1], balancer.ipv4, multiplier=PATIENT),
             "gpu3": Bird(hosts[2], balancer.ipv6, multiplier=PATIENT)}
    for peer in peers.values():
        peer.start()
    yield peers
    for peer in peers.values():
        peer.stop()


@pytest.fixture
def puppet(cluster):
    p = Puppet(cluster.backends[3], cluster.balancer.ipv4)
    yield p
    p.stop()


def config(cluster, *names, interval="10ms", **kw):
    addresses = {b.name: b.ipv6 if b.name == "gpu3" else b.ipv4 for b in cluster.backends}
    backends = "\n".join(f"      - {{name: {name}, address: '{addresses[name]}'}}" for name in names)
    pools = f"  - name: gpus\n    forward: ipip\n    check: {{type: bfd, interval: {interval}, multiplier: {PATIENT}}}\n    backends:\n{backends}"
    return cluster.config(pools=pools, hold="100ms", **kw)


@pytest.fixture
def real(cluster, shuntd, peers):
    """The controller with the three daemons, all up."""
    process = shuntd(config(cluster, *peers), *peers)
    return process


def text(cluster, name):
    return cluster.shunt("probe", "show", name)[0]["check"]["text"]


def wait_down(cluster, since_ns, name):
    return wait_for(lambda: cluster.events(since_ns, object="backend", name=name, what="down"), f"{name} down")[0]


def downs(cluster, since_ns):
    return [(e["name"], e["why"]) for e in cluster.events(since_ns, object="backend", what="down")]


def wait_heard(cluster, names, packets):
    """Until each has been heard so many times more."""
    heard = lambda: {p["backend"]: p["answers"] for p in cluster.shunt("probe", "show")}
    before = heard()
    wait_for(lambda: all(heard()[n] >= before[n] + packets for n in names), f"{packets} packets of each", 30)


def test_sessions_with_frr_and_bird_come_up_over_ipv4_and_ipv6(cluster, peers, real):
    wait_for(lambda: all(text(cluster, name).startswith(f"up, hears {PATIENT} x 10ms, sends every 10ms") for name in peers), "the pace")
    for name, peer in peers.items():
        print(name, peer.show(), sep="\n")  # for the log
    frr = wait_for(lambda: (s := peers["gpu1"].show()) and s.count("Transmission interval: 10ms") == 2 and s, "FRR's view")
    assert "Status: up" in frr and "Remote diagnostics: ok" in frr
    for name in ("gpu2", "gpu3"):
        fields = peers[name].show().splitlines()[-1].split()
        assert fields[2] == "Up" and fields[-2:] == ["0.010", "0.200"]
    begun_ns = time.monotonic_ns()
    wait_heard(cluster, peers, 300)
    assert downs(cluster, begun_ns) == []


def test_who_is_up_stays_so_when_the_controller_is_killed_or_restarted(cluster, shuntd, peers):
    pinned = config(cluster, *peers, pin=cluster.pin)
    try:
        shuntd(pinned, *peers)
        begun_ns = time.monotonic_ns()
        for end in (cluster.kill_shuntd, cluster.stop_shuntd):
            end()
            shuntd(pinned, *peers)
            wait_heard(cluster, peers, 50)
            assert cluster.events(object="shuntd", what="took over")
        assert {e["why"] for e in cluster.events(begun_ns, object="backend")} == {"it served already"}
    finally:
        cluster.forget()


@pytest.mark.parametrize("name", ["gpu1", "gpu2", "gpu3"])
def test_a_peer_whose_plug_is_pulled_is_silent_and_comes_back(cluster, peers, real, name):
    fault_ns = cluster.plug.unplug(name)
    event = wait_down(cluster, fault_ns, name)
    assert event["why"] == "silent"
    assert event["evidence"]["check"] == "bfd"
    assert event["evidence"]["witness"] in set(peers) - {name}
    cluster.plug.plug(name)
    cluster.wait_states(**{n: "up" for n in peers})
    assert downs(cluster, fault_ns) == [(name, "silent")]


@pytest.mark.parametrize("name", ["gpu1", "gpu2"])
def test_a_killed_bfd_daemon_is_silent_and_its_successor_is_heard(cluster, peers, real, name):
    begun_ns = time.monotonic_ns()
    peers[name].kill()
    assert wait_down(cluster, begun_ns, name)["why"] == "silent"
    peers[name].start()
    cluster.wait_states(**{name: "up"})


def test_a_peer_that_is_shut_down_administratively_drains_and_may_fall_silent(cluster, peers, real):
    begun_ns = time.monotonic_ns()
    peers["gpu1"].admin(True)
    cluster.wait_states(gpu1="draining")
    event = cluster.events(begun_ns, object="backend", name="gpu1", what="draining")[0]
    assert event["why"] == "its BFD peer is administratively down"
    wait_heard(cluster, ["gpu2", "gpu3"], 100)  # many detection times
    peers["gpu1"].admin(False)
    cluster.wait_states(gpu1="up")
    assert downs(cluster, begun_ns) == []


def test_a_peer_that_is_shut_down_administratively_and_silent_drains_on_when_the_controller_is_killed(cluster, shuntd, peers):
    pinned = config(cluster, *peers, pin=cluster.pin)
    try:
        shuntd(pinned, *peers)
        begun_ns = time.monotonic_ns()
        peers["gpu1"].admin(True)
        cluster.wait_states(gpu1="draining")
        cluster.kill_shuntd()
        shuntd(pinned, "gpu2", "gpu3")
        wait_heard(cluster, ["gpu2", "gpu3"], 500)  # longer than what else is silent has to come up again
        assert cluster.states()["gpu1"] == "draining" and "administratively down" in text(cluster, "gpu1")
        peers["gpu1"].admin(False)
        cluster.wait_states(gpu1="up")
        assert downs(cluster, begun_ns) == []
    finally:
        peers["gpu1"].admin(False)
        cluster.forget()


def test_another_interval_takes_no_session_down(cluster, peers, real):
    fallen = lambda: [line for line in peers["gpu1"].vtysh("show bfd peers counters").splitlines() if "down events" in line]
    before, begun_ns = fallen(), time.monotonic_ns()
    assert before
    cluster.write("shunt.yaml", config(cluster, *peers, interval="25ms"))
    assert cluster.shunt("config", "reload")["changes"]
    wait_for(lambda: all(text(cluster, name).startswith(f"up, hears {PATIENT} x 25ms, sends every 25ms") for name in peers), "the pace")
    wait_for(lambda: "Transmission interval: 25ms" in peers["gpu1"].show(), "FRR's view")
    wait_heard(cluster, peers, 20)
    assert downs(cluster, begun_ns) == []
    assert fallen() == before  # nor did FRR see it fall


@pytest.mark.parametrize("name", ["gpu1", "gpu2"])
def test_a_backend_that_gets_another_name_takes_the_peers_session_and_the_old_one_drains(cluster, peers, real, name):
    """The peer has one session for an address: what it says of the old one's end is no sign of death."""
    def live():
        for _ in range(8):
            cluster.client.try_run("curl", "-sm", "0.05", f"http://{VIP4}/")  # recorded; nobody serves
        return cluster.shunt("backend", "show", name)[0]["live"]

    wait_for(live, "a flow of it")
    begun_ns = time.monotonic_ns()
    cluster.write("shunt.yaml", config(cluster, *peers).replace(f"name: {name},", "name: anew,"))
    cluster.shunt("config", "reload")
    cluster.wait_states(anew="up", **{name: "draining"})
    wait_heard(cluster, ["anew"], 200)
    assert downs(cluster, begun_ns) == [] and cluster.states()[name] == "draining"
    cluster.write("shunt.yaml", config(cluster, *peers))
    cluster.shunt("config", "reload", "force")
    wait_for(lambda: cluster.shunt("backend", "show", name)[0]["state"] == "up", "the old name's return")
    assert downs(cluster, begun_ns) == []


def test_nobody_is_ejected_while_the_controller_is_stopped_or_the_balancer_cut_off(cluster, peers, real):
    begun_ns = time.monotonic_ns()
    for _ in range(3):
        stopped_ns = time.monotonic_ns()
        real.send_signal(signal.SIGSTOP)
        wait_for(lambda: time.monotonic_ns() - stopped_ns > 300_000_000, "ten detection times")
        real.send_signal(signal.SIGCONT)
        wait_heard(cluster, peers, 10)
    for _ in range(3):
        cut_ns = cluster.plug.unplug("balancer")
        wait_for(lambda: cluster.events(cut_ns, what="self-suspect"), "the suspicion")
        wait_for(lambda: all(not text(cluster, name).startswith("up") for name in peers), "sessions down")
        cluster.plug.plug("balancer")
        wait_heard(cluster, peers, 10)
    assert downs(cluster, begun_ns) == []
    assert {cluster.states()[name] for name in peers} == {"up"}


def test_who_stays_silent_after_a_cut_is_ejected(cluster, peers, real):
    begun_ns = cluster.plug.unplug("balancer")
    wait_for(lambda: cluster.events(begun_ns, what="self-suspect"), "the suspicion")
    cluster.plug.unplug("gpu2")
    cluster.plug.plug("balancer")
    assert wait_down(cluster, begun_ns, "gpu2")["why"] == "silent"
    assert downs(cluster, begun_ns) == [("gpu2", "silent")]


def test_a_backend_alone_is_never_ejected(cluster, shuntd, peers):
    shuntd(config(cluster, "gpu2"), "gpu2")
    fault_ns = cluster.plug.unplug("gpu2")
    wait_for(lambda: cluster.events(fault_ns, what="self-suspect"), "the suspicion")
    cluster.plug.plug("gpu2")
    wait_heard(cluster, ["gpu2"], 10)
    assert downs(cluster, fault_ns) == []


# ---- silly peers ----

@pytest.mark.parametrize("diag, words", [(0, "no diagnostic"), (5, "path down")])
def test_a_peer_that_says_down_is_down(cluster, shuntd, peers, puppet, diag, words):
    shuntd(config(cluster, "gpu2", "gpu4"), "gpu2", "gpu4")
    begun_ns = time.monotonic_ns()
    puppet.say(state=DOWN, diag=diag)
    event = wait_down(cluster, begun_ns, "gpu4")
    assert event["why"] == "peer-down" and event["evidence"]["diagnostic"] == words
    puppet.say(state=-1, diag=0)
    cluster.wait_states(gpu4="up")


def test_a_peer_that_misses_us_is_down_if_others_do_not(cluster, shuntd, peers, puppet):
    shuntd(config(cluster, "gpu2", "gpu4"), "gpu2", "gpu4")
    begun_ns = time.monotonic_ns()
    puppet.say(state=DOWN, diag=1)
    event = wait_down(cluster, begun_ns, "gpu4")
    assert event["why"] == "peer-down" and event["evidence"]["witness"] == "gpu2"
    assert event["evidence"]["diagnostic"] == "control detection time expired"


def test_a_peer_that_misses_us_is_not_down_when_nobody_else_says_that_he_hears_us(cluster, shuntd, puppet):
    shuntd(config(cluster, "gpu4"), "gpu4")
    begun_ns = time.monotonic_ns()
    puppet.say(state=DOWN, diag=1)
    wait_for(lambda: cluster.events(begun_ns, what="self-suspect"), "the suspicion")
    puppet.say(state=-1, diag=0)
    wait_heard(cluster, ["gpu4"], 10)
    assert downs(cluster, begun_ns) == []


@pytest.mark.parametrize("silly", [{"multiplier": 0}, {"ttl": 254}])
def test_packets_that_must_be_discarded_keep_nobody_alive(cluster, shuntd, peers, puppet, silly):
    shuntd(config(cluster, "gpu2", "gpu4"), "gpu2", "gpu4")
    begun_ns = time.monotonic_ns()
    puppet.say(**silly)
    event = wait_down(cluster, begun_ns, "gpu4")
    assert event["why"] == "silent"
    assert text(cluster, "gpu4").endswith("nothing heard")


@pytest.mark.parametrize("ttl", [64, 255])
def test_packets_from_afar_take_no_room_in_the_queue(cluster, shuntd, puppet, ttl):
    puppet.say(silent=1)
    process = cluster.start_shuntd(config(cluster, "gpu4"))
    queued = lambda: int(cluster.balancer.run("ss", "-Huan", "sport", "=", ":3784").split()[1])
    cluster.plug.unplug("gpu1", "gpu2", "gpu3")
    wait_for(lambda: queued() == 0, "shuntd to read what was there")
    process.send_signal(signal.SIGSTOP)
    try:
        sent = puppet.say(silent=0, ttl=ttl)[0]
        wait_for(lambda: puppet.say()[0] > sent + 20, "packets")
        assert (queued() > 0) == (ttl == 255)
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_peer_that_wants_a_million_packets_a_second_gets_our_pace(cluster, shuntd, peers, puppet):
    puppet.say(tx_us=1, rx_us=1)
    shuntd(config(cluster, "gpu2", "gpu4"), "gpu2", "gpu4")
    asked = lambda: {p["backend"]: p["rounds_asked"] for p in cluster.shunt("probe", "show")}
    before = asked()
    wait_heard(cluster, ["gpu2", "gpu4"], 100)
    after = asked()
    assert after["gpu4"] - before["gpu4"] <= 2 * (after["gpu2"] - before["gpu2"])  # BIRD wants one each 10 ms
    assert text(cluster, "gpu4").startswith(f"up, hears {PATIENT} x 10ms, sends every 10ms")


def test_a_peer_that_speaks_once_an_hour_is_believed_and_shown(cluster, shuntd, peers, puppet):
    puppet.say(tx_us=3600000000, rx_us=3600000000)
    shuntd(config(cluster, "gpu2", "gpu4"), "gpu2", "gpu4")
    wait_for(lambda: text(cluster, "gpu4").startswith(f"up, hears {PATIENT} x 1h, sends every 1h"), "its pace")


def test_an_administratively_down_peer_from_the_start_is_not_admitted(cluster, shuntd, peers, puppet):
    puppet.say(state=ADMIN_DOWN)
    shuntd(config(cluster, "gpu2", "gpu4"), "gpu2")
    wait_for(lambda: "administratively down" in text(cluster, "gpu4"), "its word")
    assert cluster.states()["gpu4"] == "down"
    puppet.say(state=-1)
    cluster.wait_states(gpu4="up")
    assert puppet.say()[2] == UP


def test_another_bfd_daemon_on_the_balancer_is_named(cluster):
    other = Bird(cluster.balancer, cluster.client.ipv4).start()
    try:
        done = cluster.balancer.try_run(BUILD / "shuntd", "-f", cluster.write("taken.yaml", config(cluster, "gpu1")))
        assert done.returncode == 1
        assert "UDP port 3784 is taken: does another BFD daemon run here?" in done.stderr
    finally:
        stop(other.process)


def test_a_reload_that_needs_the_port_of_another_bfd_daemon_changes_nothing(cluster, shuntd):
    asked_by_tcp = config(cluster, "gpu1").replace(f"{{type: bfd, interval: 10ms, multiplier: {PATIENT}}}", "{type: tcp, port: 8000}")
    cluster.start_shuntd(asked_by_tcp)
    cluster.write("shunt.yaml", config(cluster, "gpu1"))
    assert cluster.shunt("config", "diff")["changes"]  # and doesn't keep the port
    other = Bird(cluster.balancer, cluster.client.ipv4).start()
    try:
        done = cluster.balancer.try_run(*cluster.shunt_argv("config", "reload"))
        assert done.returncode and "shunt.yaml:" in done.stderr and "can't be asked so: UDP port 3784 is taken" in done.stderr
        assert cluster.shunt("probe", "show", "gpu1")[0]["check"]["type"] == "tcp"
    finally:
        stop(other.process)
    assert cluster.shunt("config", "reload")["changes"]
