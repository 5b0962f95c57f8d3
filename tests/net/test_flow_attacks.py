# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What somebody who knows a connection's addresses and ports, but not its sequence numbers, can't do; what a flood can't;
and words of operators that make no sense."""
import pytest

import forge
import scenes
from cluster import PORT
from conftest import BUILD
from crowd import OTHER, Crowd
from topology import VIP4, wait_for

SERVICE = f"{VIP4}:{PORT}"
STRANGER = "10.0.0.250:4000"  # nobody's address


@pytest.fixture(scope="module")
def cluster():
    with Crowd("shunt-flows", BUILD) as c:
        c.start_servers()
        yield c


@pytest.fixture
def running(cluster, shuntd):
    shuntd(cluster.flow_config(flows="{closed: 1s}"))
    return cluster


@pytest.fixture
def victims(running):
    """Connections at their homes, and such as are at heirs of gpu2, which died and came back: those need the journal."""
    swarm = running.swarm()
    home = swarm.echo(running.take_sources(30), 200).wait_open()
    fault_ns = running.power_off("gpu2")
    running.wait_down("gpu2", fault_ns)
    home_left = [s for s in home.report() if s.backend != "gpu2"]
    away = swarm.echo(running.take_sources(30, home="gpu2"), 200).wait_open()
    running.power_on("gpu2")
    home.wait_exchange()

    class Victims:
        sources = [s.source for s in (*home_left, *away.report())]

        @staticmethod
        def broken():
            home.wait_exchange(3)
            away.wait_exchange(3)
            return [(s.source, s.backend, s.state) for s in (*home.report(), *away.report())
                    if s.source in Victims.sources and s.state != "open"] + [g.number for g in (home, away) if g.count()[3]]
    yield Victims
    swarm.end()


@pytest.mark.parametrize("flags", ["FA", "R", "RA", "S", "SA", "A", "FA S", "R S"])
def test_forged_segments_break_nobodys_flow(running, victims, flags):
    """Twice, with numbers that fit nothing; and time for a sweep in between."""
    for number in (1, 0x7fffffff):
        forge.send(running.client, [forge.tcp(s, SERVICE, f, number, number) for s in victims.sources for f in flags.split()])
        assert victims.broken() == []


@pytest.mark.parametrize("flags", ["S", "R S"])
def test_forged_segments_move_no_flow_of_a_draining_backend(running, victims, flags):
    running.shunt("backend", "drain", "gpu1")
    try:
        forge.send(running.client, [forge.tcp(s, SERVICE, f, 1, 1) for s in victims.sources for f in flags.split()])
        assert victims.broken() == []
    finally:
        running.shunt("backend", "undrain", "gpu1")
    swept = running.swarm(name="later")
    swept.echo([f"{OTHER},{port}" for port in running.take_ports(20)]).wait_open().close("fin")
    wait_for(lambda: not running.shunt("flow", "show", "client", OTHER)["flows"], "a sweep", 20)
    swept.end()
    assert victims.broken() == []


def test_forged_icmp_errors_about_other_peoples_flows_break_none(running, victims):
    """Towards the VIP, as if a router complained about the service's answers; with quotes that fit and such that don't."""
    quotes = [forge.tcp(SERVICE, s, "A", 1, 1) for s in victims.sources]
    strange = [forge.tcp(SERVICE, STRANGER, "A"), forge.tcp(STRANGER, SERVICE, "A"), forge.tcp(SERVICE, SERVICE, "A")]
    errors = [forge.unreachable("10.0.0.1", q, code, mtu) for q in quotes for code, mtu in ((1, 0), (3, 0), (4, 68))]
    forge.send(running.client, errors + [forge.unreachable("10.0.0.1", q, to=VIP4) for q in strange])
    assert victims.broken() == []
    assert set(running.states().values()) == {"up"}


def heard(answers, sources):
    """Flags and sequence numbers of what came to these sources."""
    places = {s.replace(",", ":") for s in sources}
    return {(a["flags"], a["seq"]) for a in answers if a["source"] == SERVICE and a["destination"] in places}


def test_a_challenges_answer_from_a_host_that_never_was_a_client_moves_nothing(running, victims):
    """Its own address is all that a stranger can get reset, by a RST with the number that he said."""
    own = running.take_sources(20)
    before = running.used()
    answers = forge.send(running.client, [forge.tcp(s, SERVICE, "A", 1000, 2000) for s in own])
    assert heard(answers, own) <= {("R", 2000)}
    assert running.used() <= before
    running.power_off("gpu1")
    running.wait_states(gpu1="down")
    answers = forge.send(running.client, [forge.tcp(s, SERVICE, "A", 1000, 3000) for s in own])
    assert heard(answers, own) <= {("R", 3000)} and heard(answers, own)
    answers = forge.send(running.client, [forge.tcp(s, SERVICE, "R", 1000) for s in own])
    assert heard(answers, own) == set()  # a RST is never answered
    running.power_on("gpu1")
    assert [b for b in victims.broken() if not isinstance(b, tuple) or b[1] != "gpu1"] == []


def test_a_flood_of_spoofed_syns_breaks_nobody_and_lets_clients_in(cluster, shuntd):
    shuntd(cluster.flow_config(flows="{max: 4096}", interval="10ms"))
    seen = scenes.syn_flood(cluster, 60_000, 20_000, 100, legit_rate=40)
    assert (seen["established_broken"], seen["legitimate_failed"], seen["broken_later"]) == (0, 0, 0)
    assert seen["journal_peak"] <= 4096 and seen["ejected"] == 0
    assert seen["rss_kib_peak"] - seen["rss_kib_before"] < 4096


# ---- words ----

def refused(running, *argv):
    """(exit status, complaint)"""
    done = running.balancer.try_run(*running.shunt_argv(*argv))
    return done.returncode, done.stderr


def test_drain_of_an_unknown_backend_is_refused(running):
    for verb in ("drain", "undrain"):
        code, complaint = refused(running, "backend", verb, "gpu9")
        assert code == 1 and "gpu9" in complaint and complaint.count("\n") == 1


def test_drain_twice_and_undrain_of_who_serves_change_nothing_and_say_so(running):
    assert refused(running, "backend", "drain", "gpu2") == (0, "")
    code, complaint = refused(running, "backend", "drain", "gpu2")
    assert code == 0 and "draining already" in complaint
    assert running.states()["gpu2"] == "draining"
    assert refused(running, "backend", "undrain", "gpu2")[0] == 0
    code, complaint = refused(running, "backend", "undrain", "gpu2")
    assert code == 0 and "was not draining" in complaint
    running.wait_states()


@pytest.mark.parametrize("deadline", ["10", "m", "-1s", "1h30", "1e9s", ""])
def test_a_deadline_that_is_no_duration_is_misuse_and_drains_nobody(running, deadline):
    code, complaint = refused(running, "backend", "drain", "gpu2", "--deadline", deadline)
    assert code == 2 and complaint.count("\n") == 1
    assert running.states()["gpu2"] == "up"


def test_the_last_backend_may_be_drained_with_a_warning(running):
    swarm = running.swarm()
    group = swarm.echo(running.take_sources(40)).wait_open()
    for name in ("gpu1", "gpu2", "gpu3"):
        assert refused(running, "backend", "drain", name) == (0, "")
    code, complaint = refused(running, "backend", "drain", "gpu4")
    assert code == 0 and "warning" in complaint and "gpus" in complaint
    group.wait_exchange()
    assert group.broken() == 0
    for name in ("gpu1", "gpu2", "gpu3", "gpu4"):
        running.shunt("backend", "undrain", name)
    running.wait_states()
    swarm.end()


def test_a_reload_of_a_bad_file_changes_nothing(running):
    before = running.shunt("config", "show")
    running.write("shunt.yaml", "interfaces: [eth0]\nsede: 1\n")
    code, complaint = refused(running, "config", "reload")
    assert code == 1 and "2:1" in complaint and "sede" in complaint
    assert running.shunt("config", "show") == before
