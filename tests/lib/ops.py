# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What operators do to a controller that serves: it is restarted, killed, replaced, reloaded, again and again, under connections that
exchange data, new ones, and a numbered stream of datagrams. What is lost, and how late it is. Played by tests/bench/ops.
"""
import itertools
import statistics
import threading
import time

from cluster import PORT
from moves import RATE, Stream
from topology import VIP4, wait_for

PROBE = {"interval": "100us", "multiplier": 3}  # as shipped
NEW_EACH, NEW_PAUSE_S = 50, 0.25  # 200 new connections a second
GROUPS = 250  # swarm.c's limit


def config(c, weights=None, flows="{closed: 1s}"):
    """Pinned, with a UDP VIP beside."""
    text = c.flow_config(weights=weights, flows=flows, pin=c.pin, **PROBE)
    return text.replace("pools:\n", f"  - {{name: pulse4, address: {VIP4}, protocol: udp, port: {PORT}, pool: gpus}}\npools:\n")


class Newcomers(threading.Thread):
    """Connections that are opened at a rate, exchange a line or two, and are closed."""

    def __init__(self, crowd):
        super().__init__(daemon=True)
        self.swarm = crowd.swarm(name="newcomers")
        # At their owners' or not: all are the client's own ports, asked of nobody meanwhile.
        self.sources = iter(crowd.take_sources(GROUPS * NEW_EACH))
        self.ending, self.opened, self.failed, self.connect_ns = threading.Event(), 0, 0, []

    def settle(self, group):
        for s in group.report():
            self.failed += s.state != "open"
            if s.connected_ns:
                self.connect_ns.append(s.connected_ns - s.opened_ns)
        group.close()

    def run(self):
        groups = []
        for _ in range(GROUPS):
            if self.ending.wait(NEW_PAUSE_S):
                break
            groups.append(self.swarm.echo(list(itertools.islice(self.sources, NEW_EACH)), 200))
            self.opened += NEW_EACH
            if len(groups) > 4:  # a second old
                self.settle(groups.pop(0))
        time.sleep(1)  # the newest of them come to their end
        for group in groups:
            self.settle(group)

    def end(self):
        self.ending.set()
        self.join()
        self.swarm.end()


def gap_ms(arrivals):
    """The longest time without a datagram."""
    times = sorted(at_ns for _, at_ns in arrivals)
    return round(max(b - a for a, b in zip(times, times[1:])) / 1e6, 2)


def restart(c, i):
    c.start_shuntd(config(c))


def kill(c, i):
    c.kill_shuntd()
    c.start_shuntd(config(c))


def replace(c, i):
    """By one that can't go on with the maps: they have another capacity."""
    c.start_shuntd(config(c, flows=f"{{closed: 1s, max: {200_000 + i}}}"))
    assert c.shunt("daemon", "show")["start"] == "began anew"


def reload(c, i):
    since_ns = time.monotonic_ns()
    weights = {b.name: 100 for b in c.backends} | {"gpu1": 50 + i}
    c.reload(config(c, weights))
    wait_for(lambda: c.events(since_ns, object="shuntd", what="reloaded"), "the end of the reload")


SCENES = {"restarted": (restart, 10), "killed": (kill, 10), "replaced_anew": (replace, 10), "reloaded": (reload, 100)}


def play(c, name, n_streams, n=None):
    """Needs a Crowd whose servers run."""
    deed, times = SCENES[name]
    n = n or times
    c.start_shuntd(config(c))
    c.wait_states()
    swarm = c.swarm()
    group = swarm.echo(c.take_sources(n_streams), 200).wait_open()
    group.wait_exchange()
    newcomers, stream, programs, fallen = Newcomers(c), Stream(c), set(), []
    newcomers.start()
    took_ms = []
    for i in range(n):
        begun, begun_ns = time.monotonic(), time.monotonic_ns()
        deed(c, i)
        took_ms.append((time.monotonic() - begun) * 1000)
        c.wait_states()
        programs.add(c.shunt("daemon", "show")["interfaces"][0]["program"])
        group.wait_exchange(1)
        fallen += [f"{e['name']} {e['why']}" for e in c.events(begun_ns, object="backend", what="down")]
    arrivals, sent = stream.end()
    newcomers.end()
    group.wait_exchange()
    seen = {"times": n, "programs": len(programs), "took_ms_median": round(statistics.median(took_ms), 1),
            "streams": n_streams, "broken": group.broken(),
            "new_connections": newcomers.opened, "failed": newcomers.failed,
            "connect_ms_max": round(max(newcomers.connect_ns) / 1e6, 2),
            "datagrams": sent, "rate": RATE, "lost": sent - len({number for number, _ in arrivals}),
            "longest_gap_ms": gap_ms(arrivals), "sender_late_ms_max": int(c.log("pulse").split()[3]) / 1000,
            "wrong_verdicts": fallen, "only_late": sum(p["late"] for p in c.shunt("probe", "show")), "probe": PROBE}
    swarm.end()
    return seen
