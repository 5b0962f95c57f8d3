# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two balancers on one switch that tell each other their connections. The client's packets are led to one or the other by its
route, as a router's would be; keepalived is elsewhere (test_keepalived.py). What the protocol does on a bad network:
tests/unit/peer_test.c."""
import json
import re
import signal
import struct
import time

import pytest

import forge
from browser import Browser
from cluster import ROOT
from conftest import BUILD
from crowd import Crowd, where
from topology import VIP4, VIP6, stop, wait_for

PORT = 7785
KEYS = ["000102030405060708090a0b0c0d0e0f", "101112131415161718191a1b1c1d1e1f"]


class Peers(Crowd):
    """Both sides: this one, which is led to first, and `there`."""

    def up(self):
        super().up()
        self.there = self.at(self.balancers[1])
        self.there.there = self
        self.sides = [self, self.there]

    def peer_config(self, key_file=None, peer="", flows="", family="ipv4", multiplier=10, **kw):
        address, local = (getattr(host, family) for host in (self.there.balancer, self.balancer))
        return (f"peer: {{address: '{address}', local: '{local}', "
                f"key_file: {key_file or self.directory / 'peer.key'}{peer}}}\n" + self.flow_config(flows=flows, multiplier=multiplier, **kw))

    def peer(self):
        return self.shunt("peer", "show")[0]

    def in_sync(self):
        return all(side.shuntd and side.peer()["state"] == "in sync" for side in self.sides)

    def wait_sync(self, seconds=10):
        wait_for(self.in_sync, "both to be in sync", seconds)

    def lead_to(self, side):
        """The client's packets go to this balancer."""
        self.client.ip(f"route replace {VIP4}/32 via {side.balancer.ipv4}", f"route replace {VIP6}/128 via {side.balancer.ipv6}")

    def entries(self, **filters):
        """Flow -> (backend, whether it is a copy)."""
        words = [str(w) for item in filters.items() for w in item]
        return {f["client"]: (f["backend"], f["copy"]) for f in self.shunt("flow", "show", *words, "limit", 100000)["flows"]}

    def wait_alike(self):
        """Until the two have the same flows, each the one's own and the other's copy."""
        def alike():
            here, there = self.entries(), self.there.entries()
            return here.keys() == there.keys() and all(there[k] == (b, not copy) for k, (b, copy) in here.items())
        wait_for(alike, "the same flows at both")

    def kill_shuntd(self):
        self.shuntd.send_signal(signal.SIGKILL)
        self.shuntd.wait()
        self.shuntd = None


@pytest.fixture(scope="module")
def cluster():
    with Peers("shunt-peer", BUILD, n_balancers=2) as c:
        c.write_keys("peer.key", KEYS[0])
        c.start_servers()
        yield c


@pytest.fixture
def start(cluster):
    """Starts both with these changes of their configurations, and waits until all is up and told."""
    def fn(**kw):
        for side in cluster.sides:
            side.start_shuntd(side.peer_config(**kw))
        for side in cluster.sides:
            side.wait_states()
        cluster.wait_sync()
        return cluster
    yield fn
    for side in cluster.sides:
        side.stop_shuntd()
    cluster.lead_to(cluster)
    cluster.plug.plug(*[h.name for h in cluster.hosts])
    for b in cluster.backends:
        if cluster.servers[b.name].poll() is not None:
            cluster.servers[b.name] = cluster.start_server(b)


@pytest.fixture
def pair(start):
    return start()


@pytest.fixture
def swarm(cluster):
    s = cluster.swarm()
    yield s
    s.end()


# ---- connections ----

def test_flows_at_heirs_whose_owner_is_back_are_served_by_the_other_balancer(pair, swarm):
    pair.shunt("backend", "drain", "gpu2")
    away = swarm.echo(pair.take_sources(30, home="gpu2")).wait_open()
    pair.shunt("backend", "undrain", "gpu2")
    at_home = swarm.echo(pair.take_sources(30, home="gpu2")).wait_open()
    pair.wait_alike()
    assert pair.there.shunt("flow", "count")["total"]["detours"] == 30
    pair.lead_to(pair.there)
    for group in (away, at_home):
        group.wait_exchange()
        assert group.broken() == 0
    with pair.there.control() as control:
        assert {s.source: where(control, s.source, "chat4")["backend"] for s in away.report()} == {s.source: s.backend for s in away.report()}
    pair.wait_alike()
    there = pair.there.entries()
    assert not any(there[s.source.replace(",", ":")][1] for s in away.report())  # they are its own now


def test_flows_of_both_balancers_survive_the_death_of_either(pair, swarm):
    pair.shunt("backend", "drain", "gpu2")
    here = swarm.echo(pair.take_sources(20, home="gpu2")).wait_open()
    pair.lead_to(pair.there)
    there = swarm.echo(pair.take_sources(20, home="gpu2")).wait_open()
    pair.shunt("backend", "undrain", "gpu2")
    pair.wait_alike()
    pair.kill_shuntd()
    here.wait_exchange()
    assert here.broken() + there.broken() == 0
    wait_for(lambda: pair.there.peer()["state"] == "down", "the loss to be seen")
    wait_for(lambda: pair.there.events(object="peer", what="lost"), "the loss to be told")


@pytest.mark.parametrize("who", [0, 1], ids=["active", "standby"])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_who_is_started_anew_is_told_everything(pair, swarm, who, how):
    side = pair.sides[who]
    pair.shunt("backend", "drain", "gpu2")
    group = swarm.echo(pair.take_sources(20, home="gpu2")).wait_open()
    pair.shunt("backend", "undrain", "gpu2")
    pair.wait_alike()
    run = side.peer()["run"]
    pair.lead_to(side.there)
    side.kill_shuntd() if how == "SIGKILL" else side.stop_shuntd()
    side.start_shuntd(side.peer_config())
    side.wait_states()
    wait_for(lambda: side.peer()["run"] not in (None, run), "another connection")
    pair.wait_sync()
    pair.wait_alike()
    pair.lead_to(side)
    group.wait_exchange()
    assert group.broken() == 0
    assert side.there.peer()["resyncs"] == 2


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_who_goes_on_with_what_is_pinned_keeps_his_flows(cluster, swarm, how):
    a, b = cluster.sides
    a.start_shuntd(a.peer_config(pin=a.pin))
    b.start_shuntd(b.peer_config())
    try:
        for side in (a, b):
            side.wait_states()
        cluster.wait_sync()
        group = swarm.echo(a.take_sources(30)).wait_open()
        a.wait_alike()
        run = b.peer()["run"]
        a.kill_shuntd() if how == "SIGKILL" else a.stop_shuntd()
        a.start_shuntd(a.peer_config(pin=a.pin))
        wait_for(lambda: b.peer()["run"] not in (None, run), "another connection")
        cluster.wait_sync()
        a.wait_alike()
        assert not any(copy for _, copy in a.entries().values())
        group.wait_exchange()
        assert group.broken() == 0
    finally:
        if a.shuntd:
            a.shunt("daemon", "stop", "detach")
        for side in (a, b):
            side.stop_shuntd()


def test_clients_of_a_dead_backend_are_told_whoever_sees_their_packets(pair, swarm):
    """Each is told once: by the balancer whose flow it is, or, if that one can't, a little later by the other."""
    readers = swarm.read(pair.take_sources(40, home="gpu3")).wait_open()
    pair.wait_alike()
    pair.power_off("gpu3")
    wait_for(lambda: readers.count()[2] == 40, "the clients to be told")
    told = wait_for(lambda: [side.events(object="backend", name="gpu3", what="flows told") for side in pair.sides][0], "the account")
    assert told[0]["evidence"]["flows"] == 40
    assert all(e["evidence"]["flows"] == 0 for e in pair.there.events(object="backend", name="gpu3", what="flows told"))
    pair.power_on("gpu3")
    pair.there.wait_states()
    readers = swarm.read(pair.take_sources(40, home="gpu3")).wait_open()
    pair.wait_alike()
    pair.lead_to(pair.there)
    pair.kill_shuntd()  # its copies are all that is known of them
    pair.plug.unplug("gpu3")
    stop(pair.servers["gpu3"])
    wait_for(lambda: readers.count()[2] == 40, "the clients to be told by the other")


def test_an_idle_client_is_asked_and_heard_wherever_its_packets_go(start, swarm):
    """Its first answer may come before the other balancer was told of the question; the second, 10 s later, does not."""
    pair = start(flows="{idle: 1s, closed: 1s}")
    readers = swarm.read(pair.take_sources(20, home="gpu1")).wait_open()
    pair.wait_alike()
    pair.lead_to(pair.there)
    wait_for(lambda: pair.there.live()["gpu1"] == 20 and not any(copy for _, copy in pair.there.entries().values()),
             "the answers to make the flows the other's own", 25)
    pair.wait_alike()
    assert readers.count() == (0, 20, 0, 0)


def test_balancers_talk_ipv6_of_connections_of_either_family(start):
    pair = start(family="ipv6")
    swarms = [pair.swarm(family) for family in (4, 6)]
    groups = [swarm.echo(pair.take_sources(20, family)).wait_open() for swarm, family in zip(swarms, (4, 6))]
    pair.wait_alike()
    assert len(pair.there.entries()) == 40
    pair.lead_to(pair.there)
    for group in groups:
        group.wait_exchange()
        assert group.broken() == 0
    for swarm in swarms:
        swarm.end()


# ---- operators ----

def test_drains_and_weights_are_the_same_at_both_and_the_later_word_counts(pair, swarm):
    a, b = pair.sides
    swarm.echo(pair.take_sources(1, home="gpu1")).wait_open()
    pair.wait_alike()
    a.shunt("backend", "drain", "gpu1", "deadline", "10m")
    wait_for(lambda: b.states()["gpu1"] == "draining", "the drain at the other")
    left = next(x for x in b.shunt("backend", "show") if x["name"] == "gpu1")["deadline_us"]
    assert 500e6 < left <= 600e6
    b.shunt("backend", "undrain", "gpu1")
    wait_for(lambda: a.states()["gpu1"] == "up", "its end at the first")
    b.shunt("backend", "set", "gpu2", "weight", "30")
    weight = lambda side: next(x for x in side.shunt("backend", "show") if x["name"] == "gpu2")["weight"]  # noqa: E731
    wait_for(lambda: weight(a) == 30, "the weight at the first")
    assert a.shunt("slot", "show") == b.shunt("slot", "show")
    a.shunt("backend", "drain", "gpu4")
    wait_for(lambda: b.states()["gpu4"] == "draining", "the drain at the other")
    b.kill_shuntd()
    a.shunt("backend", "set", "gpu2", "weight", "default")
    b.start_shuntd(b.peer_config())
    wait_for(lambda: b.states() == {"gpu1": "up", "gpu2": "up", "gpu3": "up", "gpu4": "draining"} and weight(b) == 100,
             "what was said while it was away")
    assert a.states()["gpu4"] == "draining" and weight(a) == 100


# ---- hostile and wrong ones ----

def rotate(x, n):
    return (x << n | x >> 64 - n) & (1 << 64) - 1


def siphash(key, data):
    """SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012, section 2)."""
    k0, k1 = struct.unpack("<QQ", bytes.fromhex(key))
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def rounds(n):
        for _ in range(n):
            v[0] = v[0] + v[1] & (1 << 64) - 1
            v[2] = v[2] + v[3] & (1 << 64) - 1
            v[1], v[3] = rotate(v[1], 13) ^ v[0], rotate(v[3], 16) ^ v[2]
            v[0] = rotate(v[0], 32)
            v[2] = v[2] + v[1] & (1 << 64) - 1
            v[0] = v[0] + v[3] & (1 << 64) - 1
            v[1], v[3] = rotate(v[1], 17) ^ v[2], rotate(v[3], 21) ^ v[0]
            v[2] = rotate(v[2], 32)
    data = data + b"\0" * (7 - len(data) % 8) + bytes([len(data) & 255])
    for m in struct.unpack(f"<{len(data) // 8}Q", data):
        v[3] ^= m
        rounds(2)
        v[0] ^= m
    v[2] ^= 255
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def sign(datagram, key=KEYS[0]):
    return datagram[:-8] + struct.pack("!Q", siphash(key, datagram[:-8]))


def test_forged_replayed_cut_and_foreign_datagrams_are_counted_and_harm_nothing(pair, swarm):
    group = swarm.echo(pair.take_sources(30)).wait_open()
    pair.wait_alike()
    heard = forge.overhear_all(pair.balancer, "eth0", PORT, 0.5)
    there = f"{pair.there.balancer.ipv4}:{PORT}"
    to_there = [d for source, destination, d in heard if destination == there]
    assert len(to_there) > 3 and all(sign(d) == d for d in to_there)
    source = next(s for s, d, _ in heard if d == there)
    before, entries = pair.there.peer(), pair.there.entries()
    last = to_there[-1]
    hostile = [*to_there * 5,  # replayed
               *(d[:n] for d in to_there for n in (0, 7, 20, len(d) - 1)),
               *(bytes([*d[:-1], d[-1] ^ 1]) for d in to_there),  # a wrong tag
               *(sign(d, KEYS[1]) for d in to_there),  # somebody else's key
               *(sign(d[:4] + bytes([99]) + d[5:]) for d in to_there),  # another version
               *(sign(last[:8] + struct.pack("!QQQ", 1, 2, n) + last[32:]) for n in range(20)),  # other runs
               bytes(1400), b"\xff" * 1400]
    forge.send(pair.client, [forge.udp(source, there, d) for d in hostile])
    forge.send(pair.client, [forge.udp(f"{pair.client.ipv4}:{PORT}", there, d) for d in to_there])  # another address
    after = pair.there.peer()
    for cause, times in {"forged": 3, "replayed": 5, "truncated": 3, "other_version": 1}.items():
        assert after[cause] - before[cause] >= times * len(to_there), cause
    assert (after["state"], after["run"], after["peer_run"]) == ("in sync", before["run"], before["peer_run"])
    assert pair.there.entries() == entries
    wait_for(lambda: len({e["why"] for e in pair.there.events(object="peer", what="datagrams refused")}) == 4, "the refusals to be told")
    group.wait_exchange()
    assert group.broken() == 0 and pair.in_sync()


def test_a_peer_with_another_key_is_never_believed_and_both_say_so(cluster, start):
    a, b = cluster.sides
    other = cluster.write_keys("other.key", KEYS[1])
    a.start_shuntd(a.peer_config())
    b.start_shuntd(b.peer_config(key_file=other))
    for side in (a, b):
        wait_for(lambda: side.events(object="peer", what="datagrams refused"), "the refusals to be told")
        assert side.peer()["state"] == "down" and side.peer()["forged"]
    # Changed one after the other, with both keys in between.
    both = cluster.write_keys("both.key", *KEYS)
    other.write_text(both.read_text())
    b.shunt("config", "reload")
    cluster.wait_sync()


def test_a_key_file_that_can_t_be_read_is_refused_at_the_start_and_by_a_reload(cluster, start):
    config = cluster.peer_config(key_file=cluster.directory / "nowhere.key")
    process = cluster.balancer.start("shuntd-refused", BUILD / "shuntd", "-f", cluster.write("refused.yaml", config))
    assert process.wait(10) == 1
    assert "nowhere.key" in cluster.log("shuntd-refused")
    mine = cluster.write_keys("mine.key", KEYS[0])
    start(key_file=mine)
    mine.chmod(0o644)
    with pytest.raises(RuntimeError, match="chmod 600"):
        cluster.shunt_text("config", "reload")
    mine.chmod(0o600)
    assert cluster.in_sync()


def test_a_balancer_without_a_peer_says_so(cluster, start):
    cluster.start_shuntd(cluster.flow_config())
    assert cluster.shunt("peer", "show") == []
    plain = cluster.balancer.try_run(*cluster.shunt_argv("peer", "show"))
    assert (plain.returncode, plain.stdout) == (0, "") and "no peer" in plain.stderr


# ---- bounds ----

def test_a_backend_with_another_address_is_another_at_the_peer_too(pair, swarm):
    """Of the same name: its connections are where they were, whichever balancer leads them, and whoever reloads first."""
    gpu3, gpu4 = (b.ipv4 for b in pair.backends[2:])
    config = lambda side: side.peer_config(weights={"gpu1": 100, "gpu2": 100, "gpu3": 100})  # noqa: E731
    for side in pair.sides:
        side.reload(config(side))
    groups = [swarm.echo(pair.take_sources(20, home="gpu3")).wait_open()]
    pair.wait_alike()
    for side in (pair.there, pair):
        begun_ns = time.monotonic_ns()
        side.reload(config(side).replace(f"name: gpu3, address: {gpu3}", f"name: gpu3, address: {gpu4}"))
        wait_for(lambda: side.events(begun_ns, object="backend", name="gpu3", what="up"), "the new one")
        groups.append(swarm.echo(pair.take_sources(20)).wait_open())
    for group in groups:
        group.wait_exchange()
    pair.wait_sync()
    wait_for(lambda: len(pair.there.entries()) == 60, "the copies")
    pair.lead_to(pair.there)
    for group in groups:
        group.wait_exchange()
        assert group.broken() == 0
    assert {s.backend for s in groups[0].report()} == {"gpu3"}


def test_a_journal_that_is_full_at_the_standby_is_counted_and_harms_nobody(cluster, start, swarm):
    a, b = cluster.sides
    a.start_shuntd(a.peer_config(flows="{closed: 1s}"))
    b.start_shuntd(b.peer_config(flows="{max: 1024, closed: 1s}"))
    for side in (a, b):
        side.wait_states()
    cluster.wait_sync()
    group = swarm.echo(a.take_sources(1500)).wait_open()
    wait_for(lambda: b.peer()["flows_refused_full"] >= 400, "the refusals")
    wait_for(lambda: b.events(object="peer", what="flows refused"), "the refusals to be told")
    assert b.used() <= 1024
    group.wait_exchange()
    assert group.broken() == 0 and a.peer()["state"] != "down"
    group.close("rst")
    wait_for(lambda: a.used() == 0 and b.used() == 0, "the flows to go at both", 20)


def test_the_bandwidth_is_not_exceeded(start, swarm):
    pair = start(peer=", bandwidth_mbit: 1")
    sources = pair.take_sources(5000)
    before, began_ns = pair.peer(), time.monotonic_ns()
    group = swarm.echo(sources, 10000).wait_open()
    pair.wait_alike()
    after, seconds = pair.peer(), (time.monotonic_ns() - began_ns) / 1e9
    assert after["bytes_sent"] - before["bytes_sent"] > 5000 * 26  # so that it takes a second at least
    assert (after["bytes_sent"] - before["bytes_sent"]) * 8 <= 1e6 * (seconds + 0.1)
    assert group.broken() == 0


# ---- metrics ----

def test_the_metrics_and_the_alerts_know_the_peer(pair):
    pair.start_shuntd(pair.peer_config() + "http: {}\n")
    pair.wait_states()
    pair.wait_sync()
    text = pair.balancer.run("curl", "-sf", "http://127.0.0.1:9784/metrics")
    label = f'{{peer="{pair.there.balancer.ipv4}"'
    assert f'shunt_peer_state{label},state="in sync"}} 1\n' in text
    asked = "".join((ROOT / "tools" / f).read_text() for f in ("prometheus/alerts.yaml", "grafana/shunt.json"))
    named = set(re.findall(r"\bshunt_peer_[a-z0-9_]+", asked))
    assert len(named) > 4 and all(f"\n{name}{label}" in text for name in named)
    api = json.loads(pair.balancer.run("curl", "-sf", "http://127.0.0.1:9784/api/v1/peer"))
    assert [p["address"] for p in api] == [pair.there.balancer.ipv4]


def test_the_page_tells_of_the_peer(pair):
    pair.start_shuntd(pair.peer_config() + "http: {}\n")
    browser = Browser(pair.balancer)
    try:
        browser.size(360, 780)
        browser.open("http://127.0.0.1:9784/")
        told = f"peer {pair.there.balancer.ipv4} in sync"
        wait_for(lambda: told in browser.value("document.getElementById('about').innerText"), "the peer on the page")
        assert browser.complaints == []
    finally:
        browser.close()
