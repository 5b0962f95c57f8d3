# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""shunt's daemons and the stub engines, running on the hosts of a Topology."""
import copy
import json
import pathlib
import re
import shutil
import signal
import subprocess

from topology import BPFFS, VIP4, VIP6, Topology, run, stop, wait_for

LIB = pathlib.Path(__file__).resolve().parent
ROOT = LIB.parents[1]
PORT = 80
SECOND_LEG = "10.0.1.2"  # the balancer's address on a second interface, where a test gives it one
PYTHON = "/usr/bin/python3"


class Victim:
    """An engine that does what it is told; see victim.py."""

    def __init__(self, host, port, *options):
        self.process = host.start("victim", PYTHON, LIB / "victim.py", port, *options, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.worker = int(self.process.stdout.readline().split()[1])

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def do(self, line):
        self.say(line)
        assert self.process.stdout.readline() == b"done\n"

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def end(self):
        self.process.kill()
        self.process.wait()


class Cluster(Topology):
    shuntd = None

    def at(self, host):
        """This cluster as another of its balancers sees it: with that one's controller, socket and configuration."""
        other = copy.copy(self)
        other.balancer, other.shuntd = host, None
        return other

    def own(self, name):
        """The name of something that each balancer has one of: as it is for the first."""
        return name if self.balancer is self.balancers[0] else f"{self.balancer.name}-{name}"

    @property
    def socket(self):
        return self.directory / self.own("shuntd.sock")

    def agent_socket(self, host):
        return self.directory / f"agent-{host.name}.sock"

    def agent_pin(self, host):
        return BPFFS / f"{self.name}-{host.name}"

    @property
    def pin(self):
        return BPFFS / f"{self.name}-{self.own('shuntd')}"

    def write(self, name, text):
        (self.directory / name).write_text(text)
        return self.directory / name

    def write_keys(self, name, *keys, mode=0o600):
        """A file of keys. Its path."""
        path = self.write(name, "".join(f"{k}\n" for k in keys))
        path.chmod(mode)
        return path

    def config(self, forward="ipip", family=4, detector="kernel", interval="100us", multiplier=3, hold="1s", hold_max=None,
               pools=None, vips=None, more="", key_file=None, pin=None, doubt=None):
        """A shunt.yaml for this network: one pool of all backends, a TCP and a UDP VIP for each family. No damping unless there
        is a hold_max; `more`: lines of the pool. `pin`: of shuntd, else it leaves nothing. doubt: as shipped, unless said."""
        probe = f"interval: {interval}, multiplier: {multiplier}, hold: {hold}, hold_max: {hold_max or hold}"
        probe += f", key_file: {key_file}" if key_file else ""
        probe += f", doubt: {doubt}" if doubt else ""
        backends = "\n".join(f"      - {{name: {b.name}, address: '{b.ipv4 if family == 4 else b.ipv6}'}}" for b in self.backends)
        vips = vips or "\n".join(
            f"  - {{name: {name}{v}, address: '{address}', protocol: {protocol}, port: {PORT}, pool: gpus}}"
            for name, protocol in (("chat", "tcp"), ("pulse", "udp")) for v, address in ((4, VIP4), (6, VIP6)))
        pools = pools or f"  - name: gpus\n    forward: {forward}\n{more}    backends:\n{backends}"
        return (f"interfaces: [eth0]\nseed: 0x5eed0123456789ab\n"
                f"probe: {{{probe}}}\ndetector: {detector}\n"
                f"control: {{socket: {self.socket}}}\npin: {pin or 'none'}\nstate: none\nvips:\n{vips}\npools:\n{pools}\n")

    def start_agent(self, host, more=""):
        """Takes probes and tunnelled packets from any of the balancers' addresses. `more` ends its configuration."""
        path = self.write(f"agent-{host.name}.yaml", f"interfaces: [eth0]\nvips: ['{VIP4}', '{VIP6}']\nsetup_vips: true\n"
                          f"balancers: {[*(a for b in self.balancers for a in (b.ipv4, b.ipv6)), SECOND_LEG]}\n"
                          f"control: {{socket: {self.agent_socket(host)}}}\n"
                          f"{'' if 'pin: none' in more else f'pin: {self.agent_pin(host)}'}\n{more}")
        return host.start(f"agent-{host.name}", self.build / "shunt-agent", "-f", path)

    def start_engine(self, host, *ports):
        places = [f"{address}:{port}" for address in (VIP4, f"[{VIP6}]") for port in ports or (PORT,)]
        return host.start(f"engine-{host.name}", PYTHON, LIB / "engine.py", host.name, *places)

    def start_backends(self, *ports):
        """An agent and an engine on every backend. Returns when the engines listen and the agents' VIPs are up."""
        self.agents = {b.name: self.start_agent(b) for b in self.backends}
        for b in self.backends:
            self.start_engine(b, *ports)
        for b in self.backends:
            wait_for(lambda: "ready" in self.log(f"engine-{b.name}"), f"engine of {b.name}")
            wait_for(lambda: VIP4 in b.run("ip", "addr", "show", "dev", "lo"), f"agent of {b.name}")

    def start_shuntd(self, config):
        """Start the controller on the balancer, in place of the one before; returns when its socket answers."""
        self.stop_shuntd()
        self.shuntd = process = self.balancer.start(self.own("shuntd"), self.build / "shuntd", "-f", self.write(self.own("shunt.yaml"), config))

        def answers():
            if process.poll() is not None:
                raise RuntimeError(f"shuntd ended with {process.returncode}: {self.log(self.own('shuntd'))}")
            return self.shunt_text("stats", "show", check=False)
        wait_for(answers, "shuntd's socket")
        return process

    def kill_shuntd(self):
        """As if it had never been told."""
        process, self.shuntd = self.shuntd, None
        process.kill()
        process.wait()

    def stop_shuntd(self):
        """Its exit status; None if none runs."""
        process, self.shuntd = self.shuntd, None
        return stop(process) if process else None

    def forget(self):
        """End the controller, and what it left in the kernel."""
        self.stop_shuntd()
        shutil.rmtree(self.pin, ignore_errors=True)
        wait_for(lambda: "xdp" not in self.balancer.run("ip", "link", "show", "eth0"), "eth0 without a program")

    def shunt_argv(self, *argv):
        return [self.build / "shunt", "-s", self.socket, *argv]

    def shunt_text(self, *argv, check=True):
        return run(*self.shunt_argv(*argv), check=check)

    def shunt(self, *argv):
        """What `shunt -j ...` answers."""
        return json.loads(self.shunt_text("-j", *argv))

    def reasons(self):
        """How many packets met which fate at the balancer."""
        return {r["name"]: r["packets"] for r in self.shunt("stats", "show")["reasons"]}

    def agent_reasons(self, host):
        """The same at a backend's agent, whose map is found by the program on its interface."""
        names = re.findall(r"X\((\w+),", (ROOT / "include/shunt/reasons.h").read_text().partition("SHUNT_AGENT_REASONS(X)")[2])
        program = json.loads(host.run("bpftool", "-j", "net", "show"))[0]["xdp"][0]["id"]
        for number in json.loads(run("bpftool", "-j", "prog", "show", "id", program))["map_ids"]:
            if json.loads(run("bpftool", "-j", "map", "show", "id", number))["name"] == "agent_reasons":
                rows = json.loads(run("bpftool", "-j", "map", "dump", "id", number))
                return {n: sum(v["value"] for v in row["formatted"]["values"]) for n, row in zip(names, rows)}
        raise RuntimeError(f"{host.name}: no agent's program on eth0")

    def states(self):
        """Of each; "doubted" is who is down and may be up again at once."""
        return {b["name"]: "doubted" if b["doubted"] else b["state"] for b in self.shunt("backend", "show")}

    def wait_states(self, seconds=15, **wanted):
        """Until these backends are in these states, all up if none is named."""
        wanted = wanted or {b.name: "up" for b in self.backends}
        wait_for(lambda: wanted.items() <= self.states().items(), f"states {wanted}", seconds)

    def events(self, since_ns=0, **wanted):
        """Events after a moment whose fields are as wanted."""
        return [e for e in self.shunt("event", "show") if e["at_ns"] >= since_ns and wanted.items() <= e.items()]

    def client_argv(self, *argv):
        return [PYTHON, LIB / "client.py", *argv]

    def ask(self, address, n, port=PORT, body_bytes=10):
        """n requests by n connections: [{"port", "backend", "error"}]."""
        return json.loads(self.client.run(*self.client_argv("ask", address, port, n, body_bytes)))

    def ask_udp(self, address, n, port=PORT):
        return json.loads(self.client.run(*self.client_argv("udp", address, port, n)))

    def start_load(self, rate, address=VIP4):
        """Streams opened at a rate. load_end() stops it and returns their records."""
        out = open(self.directory / "load.jsonl", "wb")
        return self.client.start("load", *self.client_argv("load", address, PORT, rate), stdout=out)

    def load_end(self, load):
        load.terminate()
        load.wait(30)
        return [json.loads(line) for line in (self.directory / "load.jsonl").read_text().splitlines()]

    def start_pulse(self, rate, source_ports, address=VIP4, seconds=60):
        """Datagrams from these source ports in turn, `rate` a second."""
        return self.client.start("pulse", self.build / "tests/lib/pulse", address, PORT, rate, seconds, *source_ports)

    def where(self, source_port, vip):
        """The backend that a flow from the client goes to."""
        source = f"[{self.client.ipv6}]:{source_port}" if vip.endswith("6") else f"{self.client.ipv4}:{source_port}"
        return self.shunt("flow", "where", source, vip)["backend"]
