# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What happens to connections when something changes or dies: scenes with real clients, played by tests/net with small
numbers and by tests/bench/flows with large ones. Each takes a Crowd whose backends are all up, leaves it so, and returns
what was seen. Times are from the moment the state word was flipped (the verdict's event), all CLOCK_MONOTONIC.
"""
import collections
import statistics
import time

from cluster import PORT
from topology import VIP4, stop, wait_for

SHORT = "{closed: 1s}"  # in place of a minute, where a scene waits until ended connections are forgotten
SETTLED_S = 10  # a client that was not told by then is counted as not told


def ms(ns):
    return round(ns / 1e6, 3)


def spread_ms(values_ns):
    """Median, 99th percentile (nearest rank) and largest."""
    v = sorted(values_ns)
    if not v:
        return {"median_ms": None, "p99_ms": None, "max_ms": None}
    return {"median_ms": ms(statistics.median(v)), "p99_ms": ms(v[min(len(v) - 1, int(0.99 * len(v)))]), "max_ms": ms(v[-1])}


def homes(group):
    return collections.Counter(s.backend for s in group.report())


# ---- changes ----

def pool_changes(c, n):
    """n connections exchange data while the pool grows from 3 to 4, is re-weighted, reordered, and loses gpu2 by drain.

    Needs a controller with gpu1, gpu2 and gpu3 alone, and SHORT.
    """
    swarm, seen = c.swarm(), {}
    three = {"gpu1": 100, "gpu2": 100, "gpu3": 100}
    group = swarm.echo(c.take_sources(n)).wait_open()
    group.wait_exchange()

    def change(name, expected, *argv, **kw):
        """Reload while data flows; who got new connections afterwards."""
        before_ns = time.monotonic_ns()
        c.reload(c.flow_config(flows=SHORT, **kw), *argv)
        wait_for(lambda: expected.items() <= c.states().items(), f"{expected} after {name}", 15)
        group.wait_exchange()
        newcomers = swarm.echo(c.take_sources(max(60, n // 20))).wait_open()
        seen[name] = {"flows": n, "broken": group.broken() + newcomers.broken(), "ejected": len(c.downs(before_ns)),
                      "new_flows": dict(sorted(homes(newcomers).items()))}
        newcomers.close()

    four = three | {"gpu4": 100}
    change("pool_grows", {"gpu4": "up"}, weights=four)
    weighed = {"gpu1": 300, "gpu2": 50, "gpu3": 100, "gpu4": 20}
    change("weight_change", {}, weights=weighed)
    change("reorder", {}, weights=weighed, order=-1)
    without = {k: v for k, v in weighed.items() if k != "gpu2"}
    change("removed_by_drain", {"gpu2": "draining"}, weights=without)
    seen["removed_by_drain"]["left_there"] = c.live()["gpu2"]
    group.close("fin")
    wait_for(lambda: "gpu2" not in c.states(), "gpu2 to leave when its last connection has ended")
    seen["removed_by_drain"]["gone_when_empty"] = True
    swarm.end()
    c.reload(c.flow_config(flows=SHORT, weights=four))
    c.wait_states()
    return seen


def drain(c, n, deadline="2s"):
    """gpu2 drains under n connections; some end, the rest is cut at a deadline of a second drain."""
    swarm = c.swarm()
    group = swarm.echo(c.take_sources(n, beside="gpu2")).wait_open()
    leaving = swarm.echo(c.take_sources(n // 4, home="gpu2")).wait_open()
    seen = {"flows": n + n // 4}
    c.shunt("backend", "drain", "gpu2")
    newcomers = swarm.echo(c.take_sources(max(60, n // 10))).wait_open()
    seen["new_at_drained"] = homes(newcomers)["gpu2"]
    seen["live_at_drained"] = c.live()["gpu2"]
    for g in (group, leaving, newcomers):
        g.wait_exchange()
    seen["broken"] = sum(g.broken() for g in (group, leaving, newcomers))
    waiting = c.balancer.start("drain", *c.shunt_argv("backend", "undrain", "gpu2"))
    waiting.wait(10)
    c.wait_states()
    waiting = c.balancer.start("drain", *c.shunt_argv("backend", "drain", "gpu2", "--wait"))
    c.wait_states(gpu2="draining")
    leaving.wait_exchange()
    seen["waits_for_flows"] = waiting.poll() is None
    leaving.close("fin")
    seen["exit_at_zero"] = waiting.wait(30)
    c.shunt("backend", "undrain", "gpu2")
    c.wait_states()

    stubborn = swarm.echo(c.take_sources(n // 4, home="gpu2")).wait_open()
    begun_ns = time.monotonic_ns()
    waiting = c.balancer.start("drain", *c.shunt_argv("backend", "drain", "gpu2", "--wait", "--deadline", deadline))
    wait_for(lambda: stubborn.count()[2] == stubborn.n, "the rest to be cut", SETTLED_S)
    states = stubborn.report()
    seen["cut_at_deadline"] = sum(s.state == "ECONNRESET" for s in states)
    seen["cut_first_ms"] = ms(min(s.ended_ns for s in states) - begun_ns)
    seen["cut_last_ms"] = ms(max(s.ended_ns for s in states) - begun_ns)
    seen["exit_at_deadline"] = waiting.wait(30)
    group.wait_exchange()
    newcomers.wait_exchange()
    seen["broken"] += group.broken() + newcomers.broken()
    c.shunt("backend", "undrain", "gpu2")
    c.wait_states()
    group.wait_exchange()
    newcomers.wait_exchange()
    seen["broken"] += group.broken() + newcomers.broken()
    swarm.end()
    return seen


# ---- deaths ----

def reset_by_host(c, swarm, n, family, name="gpu3"):
    """n silent readers are reset by their own backend's kernel, as its service ends: what hosts and switch of this machine take
    for it without a balancer. Times from the first one on."""
    readers = swarm.read(c.take_sources(n, family, home=name)).wait_open()
    stop(c.servers[name])
    wait_for(lambda: readers.count()[2] == n, "the resets", SETTLED_S)
    c.servers[name] = c.start_server(next(b for b in c.backends if b.name == name))
    ended = sorted(s.ended_ns for s in readers.report())
    return spread_ms([t - ended[0] for t in ended])


def power_off(c, n_readers, n_others, family=4, victim="gpu2", floor=False):
    """The backend of n silent readers loses its power; n others exchange data elsewhere. floor: see reset_by_host()."""
    swarm = c.swarm(family)
    by_host = reset_by_host(c, swarm, n_readers, family) if floor else None
    others = swarm.echo(c.take_sources(n_others, family, beside=victim), 1000).wait_open()
    readers = swarm.read(c.take_sources(n_readers, family, home=victim)).wait_open()
    others.wait_exchange()
    before = others.broken() + readers.broken()
    if before:
        raise RuntimeError(f"{before} connections broke before the scene: {c.shunt_text('event', 'show')[-1000:]}")
    fault_ns = c.power_off(victim)
    down = c.wait_down(victim, fault_ns)
    deadline = time.monotonic() + SETTLED_S
    while readers.count()[2] < n_readers and time.monotonic() < deadline:
        time.sleep(0.02)
    states = readers.report()
    reset = [s.ended_ns - down["at_ns"] for s in states if s.state == "ECONNRESET"]
    others.wait_exchange()
    seen = {"readers": n_readers, "reset": len(reset), "detect_ms": ms(down["at_ns"] - fault_ns), **spread_ms(reset),
            "others": n_others, "others_broken": others.broken(),
            "others_ejected": len([n for n in c.downs(fault_ns) if n != victim])}
    told = c.events(fault_ns, what="flows told")
    seen["told"] = told[0]["evidence"] if told else None
    if by_host:
        seen["reset_by_host"] = by_host
        seen["ratio"] = round(seen["median_ms"] / by_host["median_ms"], 2) if reset else None
    c.power_on(victim)
    swarm.end()
    return seen


def connect_in_flight(c, n_wanted, burst=64, victim="gpu2", trials_max=100):
    """connect() calls under way when the backend they go to loses its power: n of them at least, over several trials."""
    served, refused, lost, trials = [], [], 0, 0
    swarm = c.swarm()
    while len(served) + len(refused) + lost < n_wanted and trials < trials_max:
        trials += 1
        fault = []
        group = swarm.read(c.take_sources(burst, home=victim), burst, lambda: fault.append(c.plug.unplug(victim)))
        down = c.wait_down(victim, fault[0])
        stop(c.servers[victim])
        deadline = time.monotonic() + 3  # longer than the first repetition of a SYN
        while group.count()[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        for s in group.report():
            returned_ns = s.connected_ns or s.ended_ns
            if s.opened_ns > down["at_ns"] or 0 < returned_ns < fault[0]:
                continue  # it was not under way
            lost += not returned_ns
            if returned_ns:
                (served if s.connected_ns else refused).append(returned_ns - max(s.opened_ns, fault[0]))
        c.power_on(victim)
        group.close()
    swarm.end()
    both = served + refused
    return {"trials": trials, "in_flight": len(both) + lost, "served_by_heir": len(served), "refused": len(refused), "never": lost,
            **spread_ms(both), "over_10_ms": sum(t > 10_000_000 for t in both) + lost}


def failback(c, n, victim="gpu2"):
    """A backend dies, n new connections go to its heirs, it returns. Needs SHORT."""
    swarm = c.swarm()
    fault_ns = c.power_off(victim)
    c.wait_down(victim, fault_ns)
    away = swarm.echo(c.take_sources(n, home=victim)).wait_open()
    served = homes(away)
    c.power_on(victim)
    home = swarm.echo(c.take_sources(max(20, n // 5), home=victim)).wait_open()
    away.wait_exchange(3)
    home.wait_exchange()
    seen = {"flows": n, "at_heirs": n - served[victim], "broken": away.broken() + home.broken(), "new": home.n,
            "new_at_home": homes(home)[victim]}
    away.close("fin")
    home.close("fin")
    wait_for(lambda: sum(b["detours"] for b in c.shunt("backend", "show")) == 0, "the detours to end with their connections")
    swarm.end()
    return seen


def two_deaths(c, n, first_back):
    """gpu1 dies, then gpu2, which is the heir of a part of its flows; gpu1 or gpu2 is the first to return. New connections
    are opened at each stage. Broken are those that end though their backend never died since."""
    swarm = c.swarm()
    groups, broken, reset = [], 0, 0

    def stage(dead=None):
        """More connections; then what became of all: those of the backend that just died must end, no others."""
        nonlocal broken, reset
        if dead:
            ours = [g for g in groups if any(s.backend == dead and s.state == "open" for s in g.report())]
            wait_for(lambda: not any(s.backend == dead and s.state == "open" for g in ours for s in g.report()),
                     f"the clients of {dead} to be told", SETTLED_S)
        groups.append(swarm.echo(c.take_sources(n, home="gpu1") + c.take_sources(n, home="gpu2") + c.take_sources(n)).wait_open())
        for g in groups:
            g.wait_exchange()
        lost = [s for g in groups for s in g.report() if s.state != "open" and s.source not in counted]
        counted.update(s.source for s in lost)
        broken += sum(s.backend != dead for s in lost) + sum(g.count()[3] for g in groups)
        reset += sum(s.backend == dead and s.state == "ECONNRESET" for s in lost)

    counted = set()
    stage()
    for name in ("gpu1", "gpu2"):
        fault_ns = c.power_off(name)
        c.wait_down(name, fault_ns)
        stage(name)
    for name in (first_back, "gpu1" if first_back == "gpu2" else "gpu2"):
        c.power_on(name)
        stage()
    total = sum(g.n for g in groups)
    swarm.end()
    return {"flows": total, "reset_with_their_backend": reset, "broken": broken}


# ---- attacks ----

def rss_kib(process):
    with open(f"/proc/{process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def syn_flood(c, n_syns, rate, n_established, capacity=None, legit_rate=100):
    """SYNs from n spoofed sources while connections live, some of them at heirs of a backend that died and came back.

    capacity, of the journal: wait until half of it is free again; most of a minute.
    """
    swarm = c.swarm()
    home = swarm.echo(c.take_sources(n_established, beside="gpu2"), 1000).wait_open()
    fault_ns = c.power_off("gpu2")
    c.wait_down("gpu2", fault_ns)
    detours = swarm.echo(c.take_sources(n_established, home="gpu2"), 1000).wait_open()
    c.power_on("gpu2")
    shuntd = c.shuntd
    before = {"rss": rss_kib(shuntd), "used": c.used()}
    begun_ns = time.monotonic_ns()
    flood = c.client.start("flood", c.build / "tests/lib/flood", "eth0", n_syns, rate, c.balancer.mac, VIP4, PORT)
    peak, legit, rss = 0, [], before["rss"]
    while flood.poll() is None:
        legit.append(swarm.echo(c.take_sources(legit_rate // 2), 1000))
        time.sleep(0.5)
        peak, rss = max(peak, c.used()), max(rss, rss_kib(shuntd))
    for g in legit:
        wait_for(lambda: not g.count()[0], "legitimate connections to be set up or to fail", SETTLED_S)
    flooded_ns = time.monotonic_ns()
    reports = [s for g in legit for s in g.report()]
    connect = [s.connected_ns - s.opened_ns for s in reports if s.connected_ns]
    for g in (home, detours):
        g.wait_exchange()
    sent, took_ms = (int(x) for x in c.log("flood").split()[1::2])
    seen = {"syns": sent, "seconds": round(took_ms / 1000, 1), "established": 2 * n_established, "at_heirs": n_established,
            "established_broken": home.broken() + detours.broken(), "legitimate": len(reports),
            "legitimate_failed": sum(s.state != "open" for s in reports), "connect": spread_ms(connect),
            "ejected": len(c.downs(begun_ns)), "journal_before": before["used"], "journal_peak": peak,
            "rss_kib_before": before["rss"], "rss_kib_peak": rss}
    if capacity:
        wait_for(lambda: c.used() < capacity / 2, "the journal to have room again", 120)
        seen["room_again_s"] = round((time.monotonic_ns() - flooded_ns) / 1e9, 1)
    for g in (home, detours, *legit):
        g.wait_exchange()
    seen["ejected_later"] = len(c.downs(flooded_ns))
    seen["broken_later"] = home.broken() + detours.broken() + sum(g.broken() for g in legit)
    swarm.end()
    return seen
