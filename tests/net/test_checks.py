# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Backends without an agent that are asked by TCP and by HTTP: engines that close, hang and talk nonsense."""
import signal
import subprocess
import time

import pytest

from cluster import LIB, PYTHON, Cluster
from conftest import BUILD
from topology import stop, wait_for

PORT = 8000
NAMES = ["gpu1", "gpu2", "gpu3", "gpu4"]


@pytest.fixture(scope="module")
def cluster():
    with Cluster("shunt-checks", BUILD) as c:
        yield c


class Victim:
    """The engine on a host, its answers as it is told."""

    def __init__(self, host):
        self.process = host.start(f"victim-{host.name}", PYTHON, LIB / "victim.py", PORT, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        assert self.process.stdout.readline().startswith(b"ready")

    def do(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"done\n"


@pytest.fixture
def victims(cluster):
    victims = {b.name: Victim(b) for b in cluster.backends}
    yield victims
    for v in victims.values():
        v.process.kill()
        v.process.wait()


def config(cluster, check="{type: tcp, port: 8000, interval: 50ms, timeout: 200ms}", names=NAMES, **kw):
    backends = "\n".join(f"      - {{name: {b.name}, address: {b.ipv4}}}" for b in cluster.backends if b.name in names)
    pools = f"  - name: gpus\n    forward: ipip\n    check: {check}\n    backends:\n{backends}"
    return cluster.config(pools=pools, hold="100ms", **kw)


HTTP = "{type: http, port: 8000, path: /health, interval: 50ms, timeout: 200ms}"


def text(cluster, name):
    return cluster.shunt("probe", "show", name)[0]["check"]["text"]


def wait_event(cluster, since_ns, name, what):
    return wait_for(lambda: cluster.events(since_ns, object="backend", name=name, what=what), f"{name} {what}")[0]


def downs(cluster, since_ns):
    return [(e["name"], e["why"]) for e in cluster.events(since_ns, object="backend", what="down")]


def wait_answers(cluster, names=NAMES, n=3):
    answers = lambda: {p["backend"]: p["answers"] for p in cluster.shunt("probe", "show")}
    before = answers()
    wait_for(lambda: all(answers()[name] >= before[name] + n for name in names), f"{n} answers of each")


@pytest.mark.parametrize("check", [config.__defaults__[0], HTTP], ids=["tcp", "http"])
def test_who_is_up_stays_so_when_the_controller_is_killed_or_restarted(cluster, shuntd, victims, check):
    pinned = config(cluster, check, pin=cluster.pin)
    shuntd(pinned)
    begun_ns = time.monotonic_ns()
    try:
        for end in (cluster.kill_shuntd, cluster.stop_shuntd):
            end()
            shuntd(pinned)
            wait_answers(cluster)
            assert cluster.events(object="shuntd", what="took over")
        assert {e["why"] for e in cluster.events(begun_ns, object="backend")} == {"it served already"}
    finally:
        cluster.forget()


@pytest.mark.parametrize("check", [config.__defaults__[0], HTTP], ids=["tcp", "http"])
def test_a_backend_on_whose_port_nobody_listens_is_dead_until_somebody_does(cluster, shuntd, victims, check):
    shuntd(config(cluster, check))
    begun_ns = time.monotonic_ns()
    victims["gpu2"].do("close")
    event = wait_event(cluster, begun_ns, "gpu2", "down")
    assert event["why"] == "dead"
    assert event["evidence"]["cause"] == "its listening socket is gone"
    wait_for(lambda: text(cluster, "gpu2").startswith("port 8000: refused"), "the words")
    wait_answers(cluster, ["gpu1", "gpu3", "gpu4"])
    victims["gpu2"].do("listen")
    assert wait_event(cluster, begun_ns, "gpu2", "up")["why"] == "answered for the hold time"
    assert downs(cluster, begun_ns) == [("gpu2", "dead")]


@pytest.mark.parametrize("check", [config.__defaults__[0], HTTP], ids=["tcp", "http"])
def test_a_backend_that_answers_nothing_at_all_is_silent_until_it_does(cluster, shuntd, victims, check):
    shuntd(config(cluster, check))
    fault_ns = cluster.plug.unplug("gpu3")
    event = wait_event(cluster, fault_ns, "gpu3", "down")
    assert event["why"] == "silent"
    assert event["evidence"]["witness"] in ("gpu1", "gpu2", "gpu4")
    assert text(cluster, "gpu3").startswith("port 8000: no answer")
    cluster.plug.plug("gpu3")
    cluster.wait_states()
    assert downs(cluster, fault_ns) == [("gpu3", "silent")]


@pytest.mark.parametrize("check", [config.__defaults__[0], HTTP], ids=["tcp", "http"])
def test_a_balancer_that_is_cut_off_ejects_nobody(cluster, shuntd, victims, check):
    shuntd(config(cluster, check))
    begun_ns = time.monotonic_ns()
    for _ in range(5):
        cut_ns = cluster.plug.unplug("balancer")
        wait_for(lambda: cluster.events(cut_ns, what="self-suspect"), "the suspicion")
        cluster.plug.plug("balancer")
        wait_answers(cluster)
    assert downs(cluster, begun_ns) == []


@pytest.mark.parametrize("check", [config.__defaults__[0], HTTP], ids=["tcp", "http"])
def test_a_controller_that_was_stopped_ejects_nobody(cluster, shuntd, victims, check):
    process = shuntd(config(cluster, check))
    begun_ns = time.monotonic_ns()
    for _ in range(3):
        stopped_ns = time.monotonic_ns()
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: time.monotonic_ns() - stopped_ns > 700_000_000, "three timeouts")
        process.send_signal(signal.SIGCONT)
        wait_answers(cluster)
    assert cluster.events(begun_ns, object="backend") == []


@pytest.mark.parametrize("check", [config.__defaults__[0], HTTP], ids=["tcp", "http"])
def test_backends_are_asked_over_ipv6_too(cluster, shuntd, victims, check):
    backends = "\n".join(f"      - {{name: {b.name}, address: '{b.ipv6}'}}" for b in cluster.backends)
    shuntd(cluster.config(pools=f"  - name: gpus\n    forward: ipip\n    check: {check}\n    backends:\n{backends}", hold="100ms"))
    begun_ns = time.monotonic_ns()
    victims["gpu2"].do("close")
    assert wait_event(cluster, begun_ns, "gpu2", "down")["why"] == "dead"


def test_backends_that_are_asked_at_different_times_survive_a_cut_too(cluster, shuntd, victims):
    """When it ends, one is asked and answers while what another was asked during the cut is still open."""
    check = "check: {{type: tcp, port: 8000, interval: {}ms, timeout: 200ms, fall: 1}}"
    backends = "\n".join(f"      - {{name: {b.name}, address: {b.ipv4}, {check.format(ms)}}}"
                         for b, ms in zip(cluster.backends, (50, 70, 110, 130)))
    shuntd(cluster.config(pools=f"  - name: gpus\n    forward: ipip\n    backends:\n{backends}", hold="100ms"))
    begun_ns = time.monotonic_ns()
    for _ in range(5):
        cut_ns = cluster.plug.unplug("balancer")
        wait_for(lambda: cluster.events(cut_ns, what="self-suspect"), "the suspicion")
        cluster.plug.plug("balancer")
        wait_answers(cluster)
    assert downs(cluster, begun_ns) == []


def test_who_stays_silent_after_a_cut_is_ejected(cluster, shuntd, victims):
    shuntd(config(cluster))
    begun_ns = cluster.plug.unplug("balancer")
    wait_for(lambda: cluster.events(begun_ns, what="self-suspect"), "the suspicion")
    cluster.plug.unplug("gpu1")
    cluster.plug.plug("balancer")
    assert wait_event(cluster, begun_ns, "gpu1", "down")["why"] == "silent"
    assert downs(cluster, begun_ns) == [("gpu1", "silent")]


@pytest.mark.parametrize("health, words", [("500", "status 500"), ("302", "status 302"), ("hang", "no answer to its GET"),
                                           ("garbage", "")])
def test_an_engine_that_is_not_well_by_http_drains_and_keeps_its_connections(cluster, shuntd, victims, health, words):
    shuntd(config(cluster, HTTP))
    begun_ns = time.monotonic_ns()
    victims["gpu4"].do(f"health {health}")
    assert wait_event(cluster, begun_ns, "gpu4", "draining")["why"] == "its engine is not ready"
    assert words in text(cluster, "gpu4")
    victims["gpu4"].do("health 200")
    cluster.wait_states()
    assert downs(cluster, begun_ns) == []


@pytest.mark.parametrize("health", ["megabytes", "slow"])
def test_no_body_is_waited_for(cluster, shuntd, victims, health):
    shuntd(config(cluster, HTTP))
    begun_ns = time.monotonic_ns()
    victims["gpu4"].do(f"health {health}")
    wait_answers(cluster, n=10)
    assert text(cluster, "gpu4").startswith("port 8000: status 200")
    assert cluster.events(begun_ns, object="backend") == []


def test_an_engine_that_is_not_ready_at_the_start_gets_nothing(cluster, shuntd, victims):
    victims["gpu4"].do("health 503")
    shuntd(config(cluster, HTTP), "gpu1", "gpu2", "gpu3")
    wait_for(lambda: "status 503" in text(cluster, "gpu4"), "its answer")
    wait_answers(cluster, n=5)
    assert cluster.states()["gpu4"] == "down"
    victims["gpu4"].do("health 200")
    cluster.wait_states()


def test_no_more_engines_than_may_be_are_drained_for_what_http_says(cluster, shuntd, victims):
    shuntd(config(cluster, HTTP))
    begun_ns = time.monotonic_ns()
    for v in victims.values():
        v.do("health 500")
    wait_for(lambda: len(cluster.events(begun_ns, what="draining")) == 2 and len(cluster.events(begun_ns, what="kept")) == 2,
             "two of four draining, two kept")
    assert sorted(cluster.states().values()) == ["draining", "draining", "up", "up"]
    for v in victims.values():
        v.do("health 200")
    cluster.wait_states()


def test_an_engine_that_drains_for_what_http_says_and_is_killed_then_is_dead(cluster, shuntd, victims):
    shuntd(config(cluster, HTTP))
    begun_ns = time.monotonic_ns()
    victims["gpu1"].do("health 500")
    cluster.wait_states(gpu1="draining")
    victims["gpu1"].process.kill()
    assert wait_event(cluster, begun_ns, "gpu1", "down")["why"] == "dead"


def test_an_engine_that_says_it_is_not_ready_is_not_dead_for_one_lost_connection(cluster, shuntd, victims):
    shuntd(config(cluster, HTTP.replace("50ms", "500ms, rise: 1, fall: 4")))
    begun_ns = time.monotonic_ns()
    victims["gpu1"].do("health 503")
    cluster.wait_states(gpu1="draining")
    victims["gpu1"].do("close")
    wait_for(lambda: text(cluster, "gpu1").startswith("port 8000: refused"), "a question that is refused")
    victims["gpu1"].do("listen")
    victims["gpu1"].do("health 200")
    cluster.wait_states()
    assert downs(cluster, begun_ns) == []


def test_another_type_of_check_is_taken_up_without_a_gap(cluster, shuntd, victims):
    shuntd(config(cluster))
    begun_ns = time.monotonic_ns()
    cluster.write("shunt.yaml", config(cluster, HTTP))
    changes = cluster.shunt("config", "reload")["changes"]
    assert "backend gpu1: check tcp becomes http" in "\n".join(changes), changes
    wait_for(lambda: all("status 200" in text(cluster, name) for name in NAMES), "answers by HTTP")
    cluster.write("shunt.yaml", config(cluster, "{type: tcp, port: 8001, interval: 50ms}"))
    cluster.shunt("config", "reload")
    wait_for(lambda: len(downs(cluster, begun_ns)) == 4, "that nobody listens on the new port")
    assert {why for _, why in downs(cluster, begun_ns)} == {"dead"}
    # Along with another change of the same backend.
    cluster.write("shunt.yaml", config(cluster, "{type: heartbeat}").replace("name: gpu1,", "name: gpu1, weight: 50,"))
    assert len(cluster.shunt("config", "reload")["changes"]) == 5
    assert {p["check"]["type"] for p in cluster.shunt("probe", "show")} == {"heartbeat"}
    wait_for(lambda: all(p["rounds_asked"] > 100 for p in cluster.shunt("probe", "show")), "probes")


def test_a_backend_whose_only_witness_is_asked_seldom_is_silent_all_the_same(cluster, shuntd, victims):
    backends = "\n".join(f"      - {{name: {b.name}, address: {b.ipv4}, check: {{type: tcp, port: 8000, interval: {ms}ms, "
                         "timeout: 20ms}}" for b, ms in zip(cluster.backends, (50, 500)))
    shuntd(cluster.config(pools=f"  - name: gpus\n    forward: ipip\n    backends:\n{backends}", hold="100ms"), "gpu1", "gpu2")
    fault_ns = cluster.plug.unplug("gpu1")
    event = wait_event(cluster, fault_ns, "gpu1", "down")
    assert event["why"] == "silent" and event["evidence"]["witness"] == "gpu2"
    assert len(cluster.events(fault_ns, what="self-suspect")) <= 1


def test_from_heartbeats_to_tcp_and_back_nobody_is_ejected(cluster, shuntd, victims):
    agents = [cluster.start_agent(b) for b in cluster.backends[:2]]
    mixed = lambda gpu1: ("  - name: gpus\n    forward: ipip\n    backends:\n"
                          f"      - {{name: gpu1, address: {cluster.backends[0].ipv4}, check: {gpu1}}}\n"
                          f"      - {{name: gpu2, address: {cluster.backends[1].ipv4}}}\n")
    start = lambda gpu1: cluster.config(pools=mixed(gpu1), hold="100ms", interval="1ms", multiplier=12)
    shuntd(start("heartbeat"), "gpu1", "gpu2")
    begun_ns = time.monotonic_ns()
    for check in ("{type: tcp, port: 8000, interval: 500ms}", "heartbeat"):
        cluster.write("shunt.yaml", start(check))
        cluster.shunt("config", "reload")
        wait_answers(cluster, ["gpu1"], 3)
        wait_answers(cluster, ["gpu2"], 500)
    assert downs(cluster, begun_ns) == []
    for agent in agents:
        agent.kill()
        agent.wait()


def test_more_backends_are_asked_at_once_than_open_files_are_usual(cluster):
    # Nobody answers: every question is open for as long as the others.
    lines = "\n".join(f"      - {{name: b{i}, address: 10.0.1.{i}}}" for i in range(1, 251))
    text = cluster.config(pools=f"  - name: gpus\n    forward: ipip\n    check: {{type: tcp, port: 80}}\n    backends:\n{lines}")
    cluster.balancer.run("ip", "addr", "add", "10.0.1.254/24", "dev", "eth0")
    process = cluster.balancer.start("shuntd", "prlimit", "--nofile=100:1000", BUILD / "shuntd", "-f",
                                     cluster.write("shunt.yaml", text))
    try:
        wait_for(lambda: cluster.shunt_text("stats", "show", check=False), "shuntd")
        wait_for(lambda: all(p["rounds_asked"] for p in cluster.shunt("probe", "show")), "a question to each")
    finally:
        stop(process)
        cluster.balancer.run("ip", "addr", "del", "10.0.1.254/24", "dev", "eth0")


def test_a_removed_backend_is_asked_no_more(cluster, shuntd, victims):
    shuntd(config(cluster))
    cluster.write("shunt.yaml", config(cluster, names=NAMES[:3]))
    cluster.shunt("config", "reload")
    wait_for(lambda: set(cluster.states()) == set(NAMES[:3]), "gpu4 gone")
    begun_ns = time.monotonic_ns()
    victims["gpu4"].do("close")
    wait_answers(cluster, NAMES[:3], 10)
    assert cluster.events(begun_ns, object="backend", name="gpu4", what="down") == []
    cluster.write("shunt.yaml", config(cluster))
    victims["gpu4"].do("listen")
    cluster.shunt("config", "reload")
    cluster.wait_states()


def test_who_is_asked_by_tcp_bears_witness_to_silent_heartbeats(cluster, shuntd, victims):
    """gpu1 has an agent, and everybody else has none."""
    agent = cluster.start_agent(cluster.backends[0])
    backends = "\n".join(f"      - {{name: {b.name}, address: {b.ipv4}{', check: heartbeat' if b.name == 'gpu1' else ''}}}"
                         for b in cluster.backends)
    pools = "  - name: gpus\n    forward: ipip\n    check: {type: tcp, port: 8000, interval: 100ms}\n    backends:\n" + backends
    shuntd(cluster.config(pools=pools, hold="100ms", interval="1ms"))
    fault_ns = cluster.plug.unplug("gpu1")
    event = wait_event(cluster, fault_ns, "gpu1", "down")
    assert event["why"] == "silent" and event["evidence"]["witness"] in NAMES[1:]
    agent.kill()
    agent.wait()
