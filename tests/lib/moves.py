# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A VIP that moves between two balancers, again and again, under connections and a numbered stream of datagrams: what
is lost, for how long there is no service, and what of that VRRP takes (RFC 5798, 6.1). Played by a test with small numbers
and by the bench with large ones. Times are CLOCK_MONOTONIC.
"""
import array
import os
import re
import statistics
import time

from cluster import PORT
from pair import EXAMPLES
from topology import VIP4, stop, wait_for

RATE = 10_000  # datagrams a second
PULSE_PORTS = range(40000, 40016)
ADVERT_MS = 10  # as in the example


def config(side, **kw):
    """The pair's configuration with a UDP VIP beside."""
    return side.pair_config(**kw).replace(
        "pools:\n", f"  - {{name: pulse4, address: {VIP4}, protocol: udp, port: {PORT}, pool: gpus}}\npools:\n")


def floor_ms(side):
    """What VRRP lets pass before this side takes over from a dead master: 3 adverts and its skew."""
    priority = int(re.search(rf"^@{side.balancer.name}\s+priority (\d+)", (EXAMPLES / "keepalived-pair.conf").read_text(), re.M)[1])
    return (3 + (256 - priority) / 256) * ADVERT_MS


class Stream:
    """Numbered datagrams through the VIP, and who counts them at the backends."""

    def __init__(self, pair):
        self.pair = pair
        self.files = [pair.directory / f"tally-{b.name}.bin" for b in pair.backends]
        self.tallies = [b.start(f"tally-{b.name}", pair.build / "tests/lib/tally", VIP4, PORT, f)
                        for b, f in zip(pair.backends, self.files)]
        for b in pair.backends:
            wait_for(lambda: "ready" in pair.log(f"tally-{b.name}"), f"tally of {b.name}")
        self.pulse = pair.start_pulse(RATE, PULSE_PORTS, seconds=3600)

    def end(self):
        """Sorted [(number, arrived at)], and how many were sent."""
        stop(self.pulse)
        sent = int(self.pair.log("pulse").split()[1])
        time.sleep(0.1)  # what is under way arrives
        for tally in self.tallies:
            stop(tally)
        arrivals = []
        for f in self.files:
            words = array.array("Q", f.read_bytes())
            arrivals += zip(words[::2], words[1::2])
        return sorted(arrivals), sent


def holes(arrivals, since_ns, until_ns):
    """Runs of numbers that never came, of those that would have come in this time: [(when the last before it came, how many)]."""
    found, before = [], None
    for number, at_ns in arrivals:
        if before and number > before[0] + 1 and since_ns <= before[1] <= until_ns:
            found.append((before[1], number - before[0] - 1))
        before = (number, at_ns)
    return found


def die(master):
    return master.plug.unplug(master.balancer.name)


def revive(master):
    master.plug.plug(master.balancer.name)


def leave(master):
    """keepalived is told to end: somebody works on the host."""
    at_ns = time.monotonic_ns()
    master.stop_keepalived()
    return at_ns


def come_back(master):
    master.start_keepalived()


def fall_ill(master):
    """The controller says that it is ill."""
    at_ns = time.monotonic_ns()
    master.stop_shuntd()
    return at_ns


def get_well(master):
    master.start_shuntd(config(master, pin="none"))


# name: (what happens to the master, how it comes back, more of shunt.yaml)
MOVES = {
    "host_dies": (die, revive, {}),
    "keepalived_stopped": (leave, come_back, {}),
    "shuntd_detaches": (fall_ill, get_well, {"pin": "none"}),
}


def stay(pair, n_streams, seconds):
    """Nothing happens, but that two processes a processor are busy: how often the VIP moves all the same."""
    pair.start_all(config)
    swarm = pair.swarm()
    group = swarm.echo(pair.take_sources(n_streams), 200).wait_open()
    n_before = sum(len(side.entered()) for side in pair.sides)
    hogs = [pair.client.start(f"hog{i}", "sh", "-c", f"timeout {seconds} sh -c 'while :; do :; done'") for i in range(2 * os.cpu_count())]
    for hog in hogs:
        hog.wait()
    group.wait_exchange()
    seen = {"streams": n_streams, "seconds": seconds, "broken": group.broken(),
            "moves": sum(len(side.entered()) for side in pair.sides) - n_before}
    swarm.end()
    return seen


def move(pair, name, n_streams, n_each):
    """`n_each` moves in each direction. Needs a Pair whose servers run."""
    happen, undo, more = MOVES[name]
    pair.start_all(lambda side: config(side, **more))
    swarm = pair.swarm()
    group = swarm.echo(pair.take_sources(n_streams), 200).wait_open()
    group.wait_exchange()
    stream = Stream(pair)
    moves, seconds = [], []
    for _ in range(2 * n_each):
        master = next(side for side in pair.sides if side.holds())
        group.wait_exchange()
        at_ns = happen(master)
        wait_for(master.other.holds, "the other to have the VIP")
        group.wait_exchange()
        undo(master)
        master.other.wait_holds()
        master.wait_states()
        wait_for(lambda: master.stats()["track_file"] == 0 and master.keepalived_state() == "BACKUP", "the one that left to be ready")
        moves.append((at_ns, master.balancer.name, floor_ms(master.other)))
        seconds.append(time.monotonic_ns())
    arrivals, sent = stream.end()
    rows = []
    for (at_ns, who, floor), until_ns in zip(moves, seconds):
        found = holes(arrivals, at_ns - 5_000_000, until_ns)
        lost = sum(n for _, n in found)
        rows.append({"from": who, "lost": lost, "without_service_ms": round(lost * 1000 / RATE, 1), "vrrp_floor_ms": round(floor, 1)})
    elsewhere = sent - len({n for n, _ in arrivals}) - sum(r["lost"] for r in rows)
    seen = {"streams": n_streams, "broken": group.broken(), "moves": len(rows), "datagrams": sent, "lost_outside_of_moves": elsewhere}
    for side in pair.sides:
        mine = [r for r in rows if r["from"] == side.balancer.name]
        gaps = [r["without_service_ms"] for r in mine]
        seen[f"from_{side.balancer.name}"] = {
            "moves": len(mine), "lost": [r["lost"] for r in mine], "without_service_ms_median": round(statistics.median(gaps), 1),
            "without_service_ms_max": max(gaps), "vrrp_floor_ms": mine[0]["vrrp_floor_ms"]}
    swarm.end()
    return seen


SCENES = [*MOVES, "busy"]


def play(pair, name, n_streams, times=None):
    """times: moves in each direction; of `busy`, minutes."""
    return stay(pair, n_streams, 60 * (times or 1)) if name == "busy" else move(pair, name, n_streams, times or 10)
