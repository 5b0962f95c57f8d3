# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Connections survive every change of the pool, and the clients of a dead backend are told. Small numbers of what
tests/bench/flows shows with large ones."""
import time

import pytest

import scenes
from conftest import BUILD
from crowd import OTHER, Crowd, where
from topology import wait_for


@pytest.fixture(scope="module")
def cluster():
    with Crowd("shunt-flows", BUILD) as c:
        c.start_servers()
        yield c


@pytest.fixture
def running(cluster, shuntd):
    shuntd(cluster.flow_config())
    return cluster


# ---- changes ----

def test_no_connection_breaks_when_the_pool_grows_is_weighed_reordered_and_drained(cluster, shuntd):
    shuntd(cluster.flow_config(weights={"gpu1": 100, "gpu2": 100, "gpu3": 100}, flows=scenes.SHORT), "gpu1", "gpu2", "gpu3")
    seen = scenes.pool_changes(cluster, 300)
    assert {name: s["broken"] for name, s in seen.items()} == dict.fromkeys(seen, 0)
    assert seen["pool_grows"]["new_flows"]["gpu4"]
    assert seen["removed_by_drain"]["left_there"] and "gpu2" not in seen["removed_by_drain"]["new_flows"]


def test_a_removed_backend_is_cut_by_force(running):
    swarm = running.swarm()
    there, elsewhere = (swarm.echo(running.take_sources(40, **kw)).wait_open() for kw in ({"home": "gpu2"}, {"beside": "gpu2"}))
    running.reload(running.flow_config(weights={"gpu1": 100, "gpu3": 100, "gpu4": 100}), "force")
    wait_for(lambda: there.count()[2] == 40, "the clients to be told")
    assert {s.state for s in there.report()} == {"ECONNRESET"}
    elsewhere.wait_exchange()
    assert elsewhere.broken() == 0
    swarm.end()


def test_a_drained_backend_gets_no_new_flow_and_its_old_ones_end_or_are_cut_at_the_deadline(running):
    seen = scenes.drain(running, 200)
    assert (seen["broken"], seen["new_at_drained"]) == (0, 0)
    assert seen["live_at_drained"] == 50 and seen["waits_for_flows"] and seen["exit_at_zero"] == 0
    assert seen["cut_at_deadline"] == 50 and seen["exit_at_deadline"] == 1 and seen["cut_first_ms"] >= 2000


def test_live_counts_are_those_of_the_clients(running):
    swarm = running.swarm()
    group = swarm.echo(running.take_sources(200)).wait_open()
    assert running.live() == dict(scenes.homes(group))
    group.close("fin")
    wait_for(lambda: set(running.live().values()) == {0}, "the ends to be seen")
    swarm.end()


# ---- deaths ----

@pytest.mark.parametrize("family", [4, 6])
def test_silent_readers_of_a_dead_backend_are_reset_and_nobody_else(running, family):
    seen = scenes.power_off(running, 200, 200, family)
    assert (seen["reset"], seen["others_broken"], seen["others_ejected"]) == (200, 0, 0)


def test_silent_readers_are_told_whoever_detects_the_death(cluster, shuntd):
    shuntd(cluster.flow_config(detector="controller"))
    assert scenes.power_off(cluster, 100, 50)["reset"] == 100


@pytest.mark.parametrize("detector", ["kernel", "controller"])
def test_who_is_found_silent_and_is_only_late_loses_no_connection(cluster, shuntd, detector):
    shuntd(cluster.flow_config(detector=detector, doubt="1s"))
    swarm = cluster.swarm()
    there = swarm.echo(cluster.take_sources(40, home="gpu2"), 100).wait_open()
    late_ns = cluster.plug.unplug("gpu2")
    wait_for(lambda: cluster.states()["gpu2"] == "doubted", "the verdict")
    elsewhere = swarm.echo(cluster.take_sources(20, home="gpu2"), 100).wait_open()  # new ones don't wait
    cluster.plug.plug("gpu2")
    event = wait_for(lambda: cluster.events(late_ns, name="gpu2", what="late"), "the doubt to be dispelled")[0]
    assert cluster.states()["gpu2"] == "up" and event["evidence"]["late_us"] < 1000000 and event["evidence"]["times"] == 1
    for group in (there, elsewhere):
        group.wait_exchange(3)
        assert group.broken() == 0
    assert "gpu2" not in scenes.homes(elsewhere) and cluster.downs(late_ns) == []
    assert cluster.shunt("probe", "show", "gpu2")[0]["late"] == 1
    newer = swarm.echo(cluster.take_sources(20, home="gpu2")).wait_open()
    assert set(scenes.homes(newer)) == {"gpu2"}
    swarm.end()


def test_a_doubt_is_the_next_controller_s_to_end(cluster, shuntd):
    """It was killed between the verdict and the end of the doubt: no connection is given up for that."""
    config = cluster.flow_config(doubt="1s", pin=cluster.pin)
    shuntd(config)
    swarm = cluster.swarm()
    there = swarm.echo(cluster.take_sources(40, home="gpu2"), 100).wait_open()
    cluster.plug.unplug("gpu2")
    wait_for(lambda: cluster.states()["gpu2"] == "doubted", "the verdict")
    begun_ns = time.monotonic_ns()
    try:
        cluster.kill_shuntd()
        cluster.plug.plug("gpu2")
        shuntd(config)
        there.wait_exchange(3)
        assert there.broken() == 0 and cluster.downs(begun_ns) == []
    finally:
        cluster.forget()
    swarm.end()


def test_who_stays_silent_loses_its_connections_behind_the_doubt(cluster, shuntd):
    shuntd(cluster.flow_config(doubt="500ms"))
    swarm = cluster.swarm()
    talkers = swarm.echo(cluster.take_sources(40, home="gpu2"), 100).wait_open()
    fault_ns = cluster.power_off("gpu2")
    down = cluster.wait_down("gpu2", fault_ns)
    wait_for(lambda: talkers.count()[2] == 40, "the clients to be told")
    assert {s.state for s in talkers.report()} == {"ECONNRESET"}
    assert min(s.ended_ns for s in talkers.report()) >= down["at_ns"] + 500_000_000
    cluster.power_on("gpu2")
    swarm.end()


def test_a_connect_under_way_to_a_dead_backend_returns_without_repeating_its_syn(running):
    seen = scenes.connect_in_flight(running, 30)
    assert seen["in_flight"] >= 30 and seen["never"] == 0
    assert seen["max_ms"] < 900  # a SYN is repeated after 1 s (RFC 6298 section 2)


def test_flows_opened_at_heirs_stay_there_when_their_home_returns(cluster, shuntd):
    shuntd(cluster.flow_config(flows=scenes.SHORT))
    seen = scenes.failback(cluster, 200)
    assert (seen["at_heirs"], seen["broken"], seen["new_at_home"]) == (200, 0, seen["new"])


@pytest.mark.parametrize("first_back", ["gpu1", "gpu2"])
def test_owner_and_heir_die_and_return_and_no_flow_of_a_living_backend_breaks(running, first_back):
    seen = scenes.two_deaths(running, 40, first_back)
    assert seen["broken"] == 0 and seen["reset_with_their_backend"] > 0


@pytest.mark.parametrize("on_failure", ["rehash", "drop"])
def test_nobody_is_told_where_the_vip_says_so(cluster, shuntd, on_failure):
    """rehash: the heir, who doesn't know the flow, answers what the client says; drop: nobody does."""
    shuntd(cluster.flow_config(vip=f"on_failure: {on_failure}"))
    swarm = cluster.swarm()
    readers = swarm.read(cluster.take_sources(30, home="gpu2")).wait_open()
    talkers = swarm.echo(cluster.take_sources(30, home="gpu2"), 200).wait_open()
    fault_ns = cluster.power_off("gpu2")
    cluster.wait_down("gpu2", fault_ns)
    if on_failure == "rehash":
        wait_for(lambda: talkers.count()[2] == 30, "the heirs to refuse")
        assert {s.state for s in talkers.report()} == {"ECONNRESET"}
    else:
        wait_for(lambda: talkers.count()[3] == 30, "the talkers to wait in vain")
    assert readers.count()[1] == 30
    cluster.power_on("gpu2")
    swarm.end()


# ---- the operator's view ----

def test_flow_reset_ends_what_it_names_and_nothing_else(running):
    swarm = running.swarm()
    a, b = (swarm.echo(running.take_sources(30, home=name)).wait_open() for name in ("gpu1", "gpu3"))
    assert len(running.shunt("flow", "show", "backend", "gpu1", "state", "open")["flows"]) == 30
    running.shunt("flow", "reset", "backend", "gpu1")
    wait_for(lambda: a.count()[2] == 30, "the clients to be told")
    assert {s.state for s in a.report()} == {"ECONNRESET"}
    b.wait_exchange()
    assert b.broken() == 0
    swarm.end()


def test_flow_where_names_the_backend_of_a_detour(running):
    """A flow that was opened while its owner drained, and whose owner is back: its place is not the hash's."""
    swarm = running.swarm()
    running.shunt("backend", "drain", "gpu2")
    away = swarm.echo(running.take_sources(20, home="gpu2")).wait_open()
    running.shunt("backend", "undrain", "gpu2")
    with running.control() as control:
        told = {s.source: where(control, s.source, "chat4")["backend"] for s in away.report()}
    assert told == {s.source: s.backend for s in away.report()} and "gpu2" not in told.values()
    assert {f["backend"] for f in running.shunt("flow", "show", "detours")["flows"]} == set(told.values())
    away.wait_exchange()
    assert away.broken() == 0
    swarm.end()


def test_closed_flows_are_swept_and_their_clients_may_come_again(cluster, shuntd):
    shuntd(cluster.flow_config(flows="{closed: 1s}"))
    swarm = cluster.swarm()
    sources = cluster.take_sources(100)
    for how in ("rst", "fin"):
        before = cluster.used()
        group = swarm.echo(sources).wait_open()
        group.close(how)
        wait_for(lambda: cluster.used() <= before, f"{how} flows to be given back", 20)
    swarm.end()


def test_idle_flows_whose_clients_live_stay_recorded(cluster, shuntd):
    """They are asked, and their answers count; a client that is gone without a word is forgotten."""
    shuntd(cluster.flow_config(flows="{closed: 1s, idle: 1s}"))
    swarm = cluster.swarm()
    readers = swarm.read(cluster.take_sources(50, home="gpu1")).wait_open()
    opened_ns = time.monotonic_ns()
    wait_for(lambda: time.monotonic_ns() - opened_ns > 4_000_000_000, "four times the idle time")
    assert readers.count() == (0, 50, 0, 0) and cluster.live()["gpu1"] == 50
    cluster.power_off("gpu1")
    wait_for(lambda: readers.count()[2] == 50, "the clients to be told")
    cluster.power_on("gpu1")
    swarm.end()


def test_a_full_journal_still_serves_new_flows(cluster, shuntd):
    shuntd(cluster.flow_config(flows="{max: 1024}"))
    swarm = cluster.swarm()
    group = swarm.echo(cluster.take_sources(1500)).wait_open()
    group.wait_exchange()
    assert group.broken() == 0 and cluster.used() <= 1024
    swarm.end()


# ---- policing ----

def test_syns_above_their_sources_limit_are_dropped_and_others_are_served(cluster, shuntd):
    shuntd(cluster.flow_config(vip="syn_limit: {rate: 20, burst: 20, prefix: 32, action: drop}"))
    swarm = cluster.swarm()
    greedy = swarm.read(cluster.take_sources(100), window=100)
    other = swarm.read([f"{OTHER},{port}" for port in cluster.take_ports(10)])
    wait_for(lambda: other.count()[1] == 10, "another client's connections", 3)
    wait_for(lambda: greedy.count()[1] >= 20, "those within the limit")
    assert greedy.count()[1] < 100
    swarm.end()
