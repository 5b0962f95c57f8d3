# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two balancers with real keepalived: the VIP goes to who is fit, and connections go on there."""
import os
import subprocess
import time

import pytest

import moves
from conftest import BUILD
from pair import Pair
from topology import VIP4, VIP6, wait_for

VIP4_SECOND = "203.0.113.11"
N = 100  # connections that live through each move


@pytest.fixture(scope="module")
def cluster():
    with Pair("shunt-keepalived", BUILD, n_backends=3) as p:
        p.start_servers()
        yield p


@pytest.fixture
def master(cluster):
    """Both sides fit, keepalived as in the example; the side that has the VIP. The other is its `other`."""
    return cluster.start_all(keepalived=quick)


@pytest.fixture
def streams(master):
    """Connections that exchange lines through the VIP; none may have broken in the end."""
    swarm = master.swarm()
    group = swarm.echo(master.take_sources(N), 200).wait_open()
    group.wait_exchange()
    yield group
    group.wait_exchange(3)
    assert group.broken() == 0
    swarm.end()


def quick(side, **changes):
    """The example with less patience for a dead shuntd."""
    return side.keepalived_config(**{"terminate_delay 3 ": "terminate_delay 1 ", **changes})


def says(side):
    return side.health.read_text()


# ---- who has it ----

def test_one_has_the_vip_and_both_show_it(master):
    for side, state, interface in ((master, "master", "eth0"), (master.other, "backup", None)):
        vip = side.shunt("vip", "show", "chat4")[0]
        assert (vip["held"], vip["held_by"]) == (interface is not None, interface)
        stats = side.stats()
        assert [(i["name"], i["group"], i["state"]) for i in stats["vrrp"]] == [("VI_1", False, state)]
        assert (stats["health"], stats["ill_because"], stats["track_file"]) == ("well", None, 0)
        assert "VI_1" in side.shunt_text("stats", "show")
    assert master.events(object="vip", name="chat4", what="held") and master.events(object="vrrp", name="VI_1", what="master")


def test_a_vip_on_the_loopback_is_held_there(master):
    side = master.other
    side.balancer.ip(f"addr add {VIP4}/32 dev lo")
    try:
        wait_for(lambda: side.shunt("vip", "show", "chat4")[0]["held_by"] == "lo", "the address to be seen")
    finally:
        side.balancer.ip(f"addr del {VIP4}/32 dev lo")
    wait_for(lambda: not side.shunt("vip", "show", "chat4")[0]["held"], "its end to be seen")
    assert [e["what"] for e in side.events(object="vip", name="chat4") if e["why"] == "lo"] == ["held", "released"]


# ---- why it moves ----

def test_it_moves_when_the_host_dies_and_again_when_the_other_one_does(master, streams):
    for side in (master, master.other):
        master.plug.unplug(side.balancer.name)
        wait_for(side.other.holds, "the standby to take over")
        streams.wait_exchange()
        master.plug.plug(side.balancer.name)
        side.other.wait_holds()
        wait_for(lambda: says(side) == "0\n", "who returned to be fit")


def test_connections_with_detours_move_with_it_to_the_peer_and_back(cluster):
    """They are not where the table would lead them: without what its peer told it the standby would break them."""
    key = cluster.write_keys("peer.key", "000102030405060708090a0b0c0d0e0f")

    def config(side):
        return side.pair_config(f"peer: {{address: {side.other.balancer.ipv4}, local: {side.balancer.ipv4}, key_file: {key}}}\n")

    def told(side):
        return side.shunt("peer", "show")[0]["state"] == "in sync" and side.shunt("flow", "count")["total"]["detours"] == 30

    for side in cluster.sides:
        side.forget()
    master = cluster.start_all(config, quick)
    swarm = cluster.swarm()
    master.shunt("backend", "drain", "gpu2")
    away = swarm.echo(cluster.take_sources(30, home="gpu2"), 200).wait_open()
    master.shunt("backend", "undrain", "gpu2")
    at_home = swarm.echo(cluster.take_sources(30, home="gpu2"), 200).wait_open()
    for side in (master, master.other):
        wait_for(lambda: told(side.other), "the standby to have been told")
        cluster.plug.unplug(side.balancer.name)
        wait_for(side.other.holds, "the standby to take over")
        for group in (away, at_home):
            group.wait_exchange(3)
            assert group.broken() == 0
        cluster.plug.plug(side.balancer.name)
        side.other.wait_holds()
        wait_for(lambda: says(side) == "0\n", "who returned to be fit")
    assert {s.backend for s in at_home.report()} == {"gpu2"} and "gpu2" not in {s.backend for s in away.report()}
    swarm.end()
    for side in cluster.sides:
        side.stop_shuntd()


def test_who_hears_nobody_gives_it_away(master, streams):
    """All it sends is lost, and what comes for the VIP is not: nobody else would notice."""
    for b in master.backends:
        master.balancer.ip(f"neigh replace {b.ipv4} lladdr 02:00:00:00:00:fe dev eth0 nud permanent")
    try:
        master.other.wait_holds()
        assert master.events(object="shuntd", what="ill")[-1]["why"].startswith("all backends are silent")
        streams.wait_exchange()
    finally:
        for b in master.backends:
            master.balancer.ip(f"neigh replace {b.ipv4} lladdr {b.mac} dev eth0 nud permanent", f"neigh del {b.ipv4} dev eth0")


def test_it_moves_when_the_program_is_detached_and_cannot_come_back(master, streams):
    with master.usurped():
        master.other.wait_holds()
        assert says(master) == "1\n" and master.stats()["ill_because"] == "the program is not attached to eth0"
    wait_for(lambda: says(master) == "0\n", "the program to be back")


def test_it_moves_when_a_required_vip_has_no_living_backend_here(cluster, master):
    """gpu3 alone serves a VIP, and one of the two balancers can't reach it."""
    def config(side, required):
        return side.pair_config(weights={"gpu1": 100, "gpu2": 100}).replace("pools:\n", (
            f"  - {{name: spare, address: {VIP4}, protocol: tcp, port: 81, pool: spares, required: {required}}}\npools:\n"
            "  - name: spares\n    forward: ipip\n    backends: [{name: gpu3, address: 10.0.0.13}]\n"))

    def unreachable(side):
        side.balancer.ip("neigh replace 10.0.0.13 lladdr 02:00:00:00:00:fe dev eth0 nud permanent")
        side.wait_states(gpu3="down")

    try:
        for side in cluster.sides:
            side.reload(config(side, "false"))
            side.wait_states()
        unreachable(master)
        assert says(master) == "0\n" and master.holds()
        master.reload(config(master, "true"))
        master.other.wait_holds()
        assert master.stats()["ill_because"] == "no backend of VIP spare is up"
    finally:
        master.balancer.ip("neigh replace 10.0.0.13 lladdr 02:00:00:00:00:0d dev eth0 nud permanent", "neigh del 10.0.0.13 dev eth0")
        for side in cluster.sides:
            side.stop_shuntd()


def test_it_moves_when_the_prober_stands_still(master, streams):
    with master.prober_stopped():
        master.other.wait_holds()
        assert says(master) == "1\n" and master.stats()["ill_because"] == "the prober has stopped"
    wait_for(lambda: says(master) == "0\n", "the prober's next round to be noticed")
    assert not master.holds()


def test_it_moves_when_shuntd_is_dead_for_longer_than_the_delay(master, streams):
    master.kill_shuntd()
    master.other.wait_holds()
    assert "Quorum lost for tracked process shuntd_ready" in master.log(master.own("keepalived"))


def test_it_is_given_away_when_shuntd_fails_to_start_again_and_again(cluster):
    """As under systemd, which tries for ever; and somebody asks what is pinned meanwhile. One side, whose shuntd is the only one here."""
    for side in cluster.sides:
        side.stop_keepalived()
        side.forget()
    side = cluster.sides[0]
    side.start_shuntd(side.pair_config())
    side.wait_states()
    wait_for(lambda: says(side) == "0\n", "it to be fit")
    side.start_keepalived(quick(side, **{"process shuntd-ready\n": "process shuntd-ready\n"}))
    wait_for(side.holds, "the VIP")
    side.kill_shuntd()
    side.start_shuntd(side.pair_config())
    until_ns = time.monotonic_ns() + 2_000_000_000
    wait_for(lambda: time.monotonic_ns() > until_ns, "twice the delay")
    assert side.holds() and "Quorum lost for tracked process" not in side.log(side.own("keepalived"))
    side.kill_shuntd()
    wrong = side.write("wrong.yaml", "interfaces: []\n")
    ended_ns, starts = time.monotonic_ns() + 6_000_000_000, 0
    while side.holds() and time.monotonic_ns() < ended_ns:
        assert side.balancer.try_run(BUILD / "shuntd", "-f", wrong).returncode == 1
        subprocess.run(side.balancer.enter(*side.shunt_argv("backend", "show")), check=True, capture_output=True, timeout=30,
                       env={**os.environ, "SHUNT_CONFIG": str(side.directory / side.own("shunt.yaml"))})
        starts += 1
        time.sleep(0.1)
    assert not side.holds() and starts > 3
    side.start_shuntd(side.pair_config())
    wait_for(side.holds, "the VIP again")


def test_who_detaches_gives_it_away_first(cluster):
    """Without pins its program goes with it."""
    for side in cluster.sides:
        side.forget()
    master = cluster.start_all(lambda side: side.pair_config(pin="none"), quick)
    swarm = cluster.swarm()
    group = swarm.echo(cluster.take_sources(N), 200).wait_open()
    assert master.stop_shuntd() == 0
    assert says(master) == "1\n"
    master.other.wait_holds()
    assert "vip chat4: released (eth0)" in master.log(master.own("shuntd"))
    group.wait_exchange(3)
    assert group.broken() == 0
    swarm.end()


@pytest.mark.parametrize("name", ["keepalived_stopped", "shuntd_detaches"])
def test_a_planned_move_loses_no_datagram_and_no_connection(cluster, name):
    for side in cluster.sides:
        side.forget()
    seen = moves.move(cluster, name, N, 1)
    assert (seen["broken"], seen["lost_outside_of_moves"]) == (0, 0)
    assert [seen[f"from_{b.name}"]["lost"] for b in cluster.balancers] == [[0], [0]]


# ---- what does not move it ----

def test_a_restart_and_a_crash_do_not_move_it(cluster):
    master = cluster.start_all(keepalived=lambda side: quick(side, **{"terminate_delay 1 ": "terminate_delay 2 "}))
    swarm = cluster.swarm()
    group = swarm.echo(cluster.take_sources(N), 200).wait_open()
    config = master.pair_config()
    for end in (master.stop_shuntd, master.kill_shuntd, master.stop_shuntd, master.kill_shuntd):
        end()
        assert says(master) == "0\n" and master.holds()
        master.start_shuntd(config)
        assert master.stats()["health"] == "well" and says(master) == "0\n"
    rounds = master.stats()["probe"]["round"]
    wait_for(lambda: master.stats()["probe"]["round"] > rounds + 220, "more rounds than fit into the delay")
    assert master.holds() and not master.other.holds() and master.keepalived_state() == "MASTER"
    assert "took over" in master.log(master.own("shuntd"))
    assert group.broken() == 0
    swarm.end()


def test_who_returns_does_not_take_it_back(cluster, master):
    first = cluster.sides[0]  # of the higher priority
    first.stop_keepalived()
    first.other.wait_holds()
    first.start_keepalived(quick(first))
    wait_for(lambda: first.vrrp("VI_1") == "backup", "keepalived to be back")
    rounds = first.stats()["probe"]["round"]
    wait_for(lambda: first.holds() or first.stats()["probe"]["round"] > rounds + 40, "forty adverts")
    assert first.other.holds() and not first.holds()


def test_a_start_says_ill_until_the_backends_are_up(master):
    side = master.other
    side.forget()
    side.health.write_text("0\n")
    side.plug.unplug(side.balancer.name)
    side.start_shuntd(side.pair_config(pin="none"))
    assert says(side) == "1\n" and side.stats()["ill_because"].startswith("starting")
    side.plug.plug(side.balancer.name)
    wait_for(lambda: says(side) == "0\n", "the backends to join")


# ---- the files ----

def test_a_track_file_that_is_taken_away_is_put_back(master):
    side = master.other
    for spoil in (side.health.unlink, lambda: side.health.write_text("7\n"), lambda: side.health.write_text("")):
        spoil()
        wait_for(lambda: side.health.exists() and says(side) == "0\n", "the file to be as it was")
    assert master.holds()


def test_garbage_in_the_fifo_is_passed_over_and_a_fifo_that_is_gone_is_made_again(master):
    side = master.other
    fifo = side.directory / side.own("vrrp")

    def write(*lines):
        """As keepalived does: opened for both, nothing waited for."""
        fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        os.write(fd, b"".join(lines))
        return fd

    os.close(write(b"\0\xff\n", b"x" * 3000, b"\n", b"INSTANCE \"VI_9\" NOBODY 100\n", b"INSTANCE \"VI_9\" MASTER 999\n", b"\n\n",
                   b"GROUP \"all\" FAULT 0\n", b"INSTANCE \"VI_9\" BACK"))
    wait_for(lambda: side.vrrp("all") == "fault", "the group's state")
    assert side.vrrp("VI_9") is None
    os.close(write(b"UP 100\n"))
    wait_for(lambda: side.vrrp("VI_9") == "backup", "the line whose writer went away in between")
    fifo.unlink()
    wait_for(fifo.is_fifo, "another FIFO")
    assert fifo.stat().st_mode & 0o777 == 0o600
    fd = write(b"INSTANCE \"VI_9\" MASTER 100\n")
    wait_for(lambda: side.vrrp("VI_9") == "master", "what is written there")
    os.close(fd)
    os.close(write(b"INSTANCE \"VI_9\" DELETED 0\nGROUP \"all\" DELETED 0\n"))
    wait_for(lambda: side.vrrp("VI_9") == "deleted", "the end")
    assert [e["what"] for e in side.events(object="vrrp", name="VI_9")] == ["backup", "master", "deleted"]
    side.stop_shuntd()
    side.stop_keepalived()


@pytest.mark.parametrize("key, spoil, said", [
    ("health", lambda p: p.mkdir(), "keepalived.track_file .*: Is a directory"),
    ("vrrp", lambda p: p.write_text(""), "keepalived.notify_fifo .*: it is there, and no FIFO")])
def test_a_file_that_cannot_be_is_no_start(cluster, key, spoil, said):
    side = cluster.sides[1]
    side.stop_shuntd()
    path = side.directory / f"spoilt-{key}"
    spoil(path)
    with pytest.raises(RuntimeError, match=said):
        side.start_shuntd(side.pair_config().replace(str(side.directory / side.own(key)), str(path)))


# ---- other shapes ----

def test_of_two_vips_each_has_one_and_who_is_alone_has_both(cluster, master):
    def config(side):
        return side.pair_config().replace("pools:\n", f"  - {{name: second, address: {VIP4_SECOND}, protocol: tcp, port: 80, pool: gpus}}\npools:\n")

    a, b = cluster.sides
    cluster.client.ip(f"route replace {VIP4_SECOND}/32 dev eth0")
    for side in (a, b):
        side.reload(config(side))
        side.start_keepalived(side.keepalived_config("keepalived-active-active.conf", **{"preempt_delay 30": "preempt_delay 1"}))
    a.wait_holds(VIP4)
    b.wait_holds(VIP4_SECOND)
    assert (a.vrrp("VI_1"), a.vrrp("VI_2")) == ("master", "backup")
    cluster.plug.unplug(a.balancer.name)
    wait_for(lambda: b.holds(VIP4) and b.holds(VIP4_SECOND), "the one that is left to have both")
    cluster.plug.plug(a.balancer.name)
    a.wait_holds(VIP4)
    b.wait_holds(VIP4_SECOND)


def test_a_virtual_mac_address_moves_with_the_vip(cluster):
    master = cluster.start_all(keepalived=lambda side: quick(side, **{"# use_vmac": "use_vmac"}))
    swarm = cluster.swarm()
    group = swarm.echo(cluster.take_sources(N), 200).wait_open()
    assert master.shunt("vip", "show", "chat4")[0]["held_by"] == "vrrp.51"
    assert "00:00:5e:00:01:33" in cluster.client.run("ip", "neigh", "show", VIP4)  # RFC 5798, 7.3
    with master.usurped():
        master.other.wait_holds()
    group.wait_exchange(3)
    assert group.broken() == 0
    swarm.end()


def test_an_ipv6_vip_moves_as_well(cluster):
    def keepalived(side):
        text = quick(side)
        instance = text[text.index("vrrp_instance"):text.rindex("}") + 1]
        return f"{text}\n{instance.replace('VI_1', 'VI_6').replace(f'{VIP4}/32', f'{VIP6}/128')}\n"

    cluster.start_all(keepalived=keepalived)
    side = wait_for(lambda: next((side for side in cluster.sides if side.holds(VIP6)), None), "one to have it")
    swarm = cluster.swarm(family=6)
    group = swarm.echo(cluster.take_sources(N, family=6), 200).wait_open()
    assert side.shunt("vip", "show", "chat6")[0]["held_by"] == "eth0"
    cluster.plug.unplug(side.balancer.name)
    wait_for(lambda: side.other.holds(VIP6) and side.other.holds(VIP4), "the other to have both")
    group.wait_exchange(3)
    assert group.broken() == 0
    swarm.end()
