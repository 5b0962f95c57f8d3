# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A Cluster with thousands of real TCP connections through it (swarm.c, server.c), each of which can be asked about."""
import signal
import collections
import ipaddress
import itertools
import json
import socket
import subprocess

from cluster import PORT, Cluster
from topology import VIP4, VIP6, stop, wait_for

PORTS = range(2048, 32768)  # of the connections: below the ephemeral ones, so that no other client has them
ALIASES = range(101, 106)  # last bytes of the client's other addresses, for when one has too few ports
OTHER = "10.0.0.105"
TICK_MS = 60_000  # a reader's next line; long: what is not said can't help a reader to notice a death

Seen = collections.namedtuple("Seen", "source backend state opened_ns connected_ns ended_ns lines")


class Control:
    """shuntd's socket, for more questions than one wants to start processes for."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("r")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.lines.close()
        self.socket.close()

    def ask(self, name, command, **args):
        request = {"object": name, "command": command} | ({"args": args} if args else {})
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(self.lines.readline())
        if "error" in answer:
            raise RuntimeError(f"{name} {command} {args}: {answer['error']}")
        return answer["result"]


class Group:
    """Connections that were opened together."""

    def __init__(self, swarm, number, n):
        self.swarm, self.number, self.n = swarm, number, n

    def count(self):
        """(being set up, open, ended, open but without an answer for too long)"""
        return tuple(map(int, self.swarm.say(f"count {self.number}").split()[1:]))

    def wait_open(self, seconds=60):
        """Until none is being set up; all of them must be open then."""
        wait_for(lambda: not self.count()[0], f"{self.n} connections to be set up", seconds)
        if self.count()[1] != self.n:
            raise RuntimeError(f"not all of {self.n} connections opened: {collections.Counter(s.state for s in self.report())}")
        return self

    def report(self):
        n = int(self.swarm.say(f"report {self.number}").split()[1])
        rows = (self.swarm.answer().split() for _ in range(n))
        return [Seen(*row[:3], *map(int, row[3:])) for row in rows]

    def close(self, how="rst"):
        """End what is open. A client that resets keeps no port in TIME-WAIT."""
        self.swarm.say(f"close {self.number} {how}")

    def broken(self):
        """How many ended that nobody closed, or don't get their lines back any more."""
        _, _, _, late = self.count()
        return late + sum(s.state not in ("open", "closed") for s in self.report())

    def lines(self):
        return {s.source: s.lines for s in self.report()}

    def wait_exchange(self, rounds=2, seconds=30):
        """Until every open one of them got `rounds` more lines back, or is late."""
        before = self.lines()

        def came():
            rows = [s for s in self.report() if s.state == "open"]
            return self.count()[3] or all(s.lines - before[s.source] >= rounds for s in rows)
        wait_for(came, f"{rounds} lines on every connection", seconds)


class Swarm:
    """One process of clients of one VIP."""

    def __init__(self, crowd, address, name):
        self.crowd = crowd
        self.process = crowd.client.start(name, crowd.build / "tests/lib/swarm", address, PORT, stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE)

    def say(self, line):
        self.tell(line)
        return self.answer()

    def tell(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline().decode()
        if not line or line.startswith("error"):
            raise RuntimeError(f"swarm: {line.strip() or 'ended'}")
        return line.strip()

    def read(self, sources, window=64, meanwhile=None):
        """Silent readers from these sources. `meanwhile` is called while the first `window` of them connect."""
        return self._open("read", 0, window, sources, meanwhile)

    def echo(self, sources, period_ms=500, window=64):
        """Connections that send a line every period and expect it back."""
        return self._open("echo", period_ms, window, sources)

    def _open(self, kind, period_ms, window, sources, meanwhile=None):
        self.tell(f"open {kind} {period_ms} {window} {' '.join(sources)}")
        if meanwhile:
            meanwhile()
        return Group(self, int(self.answer().split()[1]), len(sources))

    def end(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


class Crowd(Cluster):
    """Servers of many connections in the engines' place, and a client with many addresses."""

    def up(self):
        super().up()
        self.client.ip(*[f"addr add 10.0.0.{n}/24 dev eth0" for n in ALIASES],
                       *[f"addr add 2001:db8:1::{n}/64 dev eth0 nodad" for n in ALIASES])
        # Neighbours before thousands of answers ask for them at once.
        for host in self.hosts:
            host.run("sysctl", "-qw", "net.ipv4.neigh.default.gc_thresh1=1024", check=False)
        self.ports = itertools.cycle(PORTS)
        self.sources = {v: itertools.cycle([f"{a},{port}" for a in addresses for port in PORTS]) for v, addresses in (
            (4, [self.client.ipv4, *[f"10.0.0.{n}" for n in ALIASES[:-1]]]), (6, [self.client.ipv6, *[f"2001:db8:1::{n}" for n in ALIASES]]))}

    def start_server(self, backend):
        name = backend.name
        server = backend.start(f"server-{name}", self.build / "tests/lib/server", name, TICK_MS, f"{VIP4}:{PORT}", f"[{VIP6}]:{PORT}")
        wait_for(lambda: "ready" in self.log(f"server-{name}"), f"server of {name}")
        return server

    def start_servers(self):
        """An agent and a server on every backend. Returns when the servers listen and the agents' VIPs are up."""
        self.agents = {b.name: self.start_agent(b) for b in self.backends}
        self.servers = {b.name: self.start_server(b) for b in self.backends}
        for b in self.backends:
            wait_for(lambda: VIP4 in b.run("ip", "addr", "show", "dev", "lo"), f"agent of {b.name}")

    def power_off(self, name):
        """Unplug a backend, which does nothing from then on; the time just before."""
        fault_ns = self.plug.unplug(name)
        self.servers[name].send_signal(signal.SIGSTOP)
        return fault_ns

    def power_on(self, name):
        """Plug it in with its service running and all connections forgotten, and wait until it is up; the event."""
        self.servers[name].kill()
        self.servers[name].wait()
        self.servers[name] = self.start_server(next(b for b in self.backends if b.name == name))
        at_ns = self.plug.plug(name)
        return wait_for(lambda: self.events(at_ns, object="backend", name=name, what="up"), f"{name} back up", 15)[0]

    def wait_down(self, name, since_ns):
        """The event of the verdict."""
        return wait_for(lambda: self.events(since_ns, object="backend", name=name, what="down"), f"the verdict on {name}", 5)[0]

    def downs(self, since_ns):
        """Names of the backends that were taken down since."""
        return [e["name"] for e in self.events(since_ns, object="backend", what="down")]

    def reload(self, config, *argv):
        """Give the controller another configuration; what changed."""
        self.write(self.own("shunt.yaml"), config)
        return self.shunt("config", "reload", *argv)

    def flow_config(self, weights=None, forward="ipip", interval="4ms", hold="100ms", order=1, flows="", vip="", detector="kernel",
                    multiplier=10, pin=None, doubt=None):
        """One pool of these backends (name: weight; all alike if none are named), a TCP VIP for each family. Silence convicts after
        40 ms: longer than a busy machine stands still.

        order -1 writes every list in reverse. vip: more keys of both VIPs; flows: `{max: ..., closed: ...}`.
        """
        weights = weights or {b.name: 100 for b in self.backends}
        address = {b.name: b.ipv4 for b in self.backends}
        backends = "\n".join(f"      - {{name: {n}, address: {address[n]}, weight: {w}}}" for n, w in list(weights.items())[::order])
        pools = f"  - name: gpus\n    forward: {forward}\n    backends:\n{backends}"
        more = f", {vip}" if vip else ""
        vips = "\n".join([f"  - {{name: chat{v}, address: '{a}', protocol: tcp, port: {PORT}, pool: gpus{more}}}"
                          for v, a in ((4, VIP4), (6, VIP6))][::order])
        return (f"flows: {flows}\n" if flows else "") + self.config(interval=interval, hold=hold, pools=pools, vips=vips,
                                                                    detector=detector, multiplier=multiplier, pin=pin, doubt=doubt)

    def control(self):
        return Control(self.socket)

    def take_sources(self, n, family=4, home=None, beside=None):
        """n sources of the client that were not used lately; all of them with this owner, or with another."""
        fresh = self.sources[family]
        if not home and not beside:
            return list(itertools.islice(fresh, n))
        taken = []
        with self.control() as control:
            while len(taken) < n:
                source = next(fresh)
                owner = where(control, source, f"chat{family}")["owner"]
                taken += [source] if owner == home or (beside and owner != beside) else []
        return taken

    def take_ports(self, n):
        """n ports for OTHER, the client's address that take_sources() leaves alone."""
        return list(itertools.islice(self.ports, n))

    def live(self):
        """Backend -> its flows as shuntd counts them."""
        return {b["name"]: b["live"] for b in self.shunt("backend", "show")}

    def used(self):
        """Entries of the journal that are in use."""
        total = self.shunt("flow", "count")["total"]
        return total["open"] + total["closing"] + total["closed"]

    def swarm(self, family=4, name=None):
        return Swarm(self, VIP4 if family == 4 else VIP6, name or f"swarm{family}")


def where(control, source, vip):
    """What `flow where` says of a source of the swarm."""
    address, port = source.rsplit(",", 1)
    text = f"[{address}]:{port}" if ipaddress.ip_address(address).version == 6 else f"{address}:{port}"
    return control.ask("flow", "where", source=text, vip=vip)
