# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What detection costs when nothing is wrong: ejections that shouldn't be, and processor time.

Backends of the costs are simulated: one host answers for all of their addresses, as its agent does for any address that is its
own. So what a prober's thread takes here is more than on a balancer of its own: the switch, that host's agent and the answers'
way through the network run in it too, for a veth delivers in the sender's context. `asking` is what it takes when the switch
drops the probes at once, `answers` the time of the program that takes the answers in, as the kernel counts it, `tick` what a
loop on the tick's processor is slowed down by while the controller is stopped and the tick alone goes on.
"""
import contextlib
import ctypes
import dataclasses
import ipaddress
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from cluster import Cluster
from crowd import Control
from topology import run, wait_for
from zoo import is_down, verdict_of

HOGS_PER_CPU = 2
SIMULATED = ipaddress.ip_address("10.1.0.1")
SPINS, SPIN_S = 7, 0.2
# Turns of a loop in so much time of its own: interrupts are a part of that, other processes aren't.
SPIN = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
n, end = 0, time.thread_time() + float(sys.argv[2])
while time.thread_time() < end:
    for _ in range(1000):
        pass
    n += 1
print(n)
"""
SKIPPED_SHARE = 0.01  # of its rounds; a prober that skips more can't keep them
LADDER = (10, 25, 50, 75, 100, 150, 200, 256)


# ---- quiet times ----

@contextlib.contextmanager
def hogs(n):
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for p in processes:
            p.kill()
            p.wait()


@dataclasses.dataclass
class Quiet:
    name: str
    interval_us: int
    hogs_per_cpu: int
    promise: str
    seconds: int = 600
    quick: int = 10

    def run(self, z, seconds):
        z.controller(interval=f"{self.interval_us}us", hold="1s")
        before = z.control.ask("stats", "show")["probe"]
        with hogs(self.hogs_per_cpu * os.cpu_count()):
            z.monitor.take()
            z.monitor.until(lambda events: False, seconds)
            events = z.monitor.take()
        after = z.control.ask("stats", "show")["probe"]
        falls = [f"{e['name']}: {verdict_of(e)}" for e in events if is_down(e)]
        z.controller()
        rounds = after["round"] - before["round"]
        return {"name": self.name, "interval_us": self.interval_us, "busy_processes": self.hogs_per_cpu * os.cpu_count(),
                "seconds": seconds, "wrong_ejections": len(falls), "wrong": {f: falls.count(f) for f in falls},
                "self_suspect": sum(e["what"] == "self-suspect" for e in events), "rounds": rounds,
                "rounds_skipped": after["rounds_skipped"] - before["rounds_skipped"], "promise": self.promise, "met": not falls}

    @staticmethod
    def lines(row):
        return [f"{row['name']:<27} {row['wrong_ejections']} wrong ejections in {row['seconds']} s at {row['interval_us']} us, "
                f"{row['busy_processes']} busy processes; {row['self_suspect']} times in doubt of itself, "
                f"{row['rounds_skipped']} of {row['rounds'] + row['rounds_skipped']} rounds skipped. {row['promise']}: "
                + ("met" if row["met"] else "NOT MET")]


QUIET = [Quiet("quiet-idle", 100, 0, "none"), Quiet("quiet-busy-100us", 100, HOGS_PER_CPU, "aim: none"),
         Quiet("quiet-busy-250us", 250, HOGS_PER_CPU, "none")]


# ---- processor time ----

class Many(Cluster):
    """One host that is hundreds of backends."""
    control = None

    def __init__(self, prefix, build):
        super().__init__(prefix, build, n_backends=1)

    def begin(self):
        host = self.backends[0]
        host.ip("route add local 10.1.0.0/16 dev lo")
        self.balancer.ip(f"route add 10.1.0.0/16 via {host.ipv4}")
        self.start_agent(host)
        wait_for(lambda: "ready: " in self.log(f"agent-{host.name}"), "the agent")

    def ask_many(self, n, interval_us):
        """A controller of n backends, all of them up."""
        if self.control:
            self.control.close()
            self.control = None
        backends = "\n".join(f"      - {{name: b{i}, address: {SIMULATED + i}}}" for i in range(n))
        self.start_shuntd(self.config(interval=f"{interval_us}us", hold="100ms", pools=f"  - name: gpus\n    forward: ipip\n    backends:\n{backends}"))
        self.control = Control(self.socket)
        wait_for(lambda: all(b["state"] == "up" for b in self.control.ask("backend", "show")), f"{n} backends to be up", 20)

    def threads(self):
        """Nanoseconds of processor time so far: (of the prober's thread, of all others of the controller)."""
        prober = others = 0
        for task in pathlib.Path(f"/proc/{self.shuntd.pid}/task").iterdir():
            ran_ns = int((task / "schedstat").read_text().split()[0])
            policy = (task / "stat").read_text().rsplit(") ", 1)[1].split()[38]  # field 41 of proc(5)
            if policy == str(os.SCHED_FIFO):
                prober += ran_ns
            else:
                others += ran_ns
        return prober, others

    def program(self):
        """The balancer's XDP program: (nanoseconds it ran, runs), counted while counting() lasts."""
        shown = json.loads(self.balancer.run("ip", "-j", "link", "show", "dev", "eth0"))[0]["xdp"]["prog"]["id"]
        stats = json.loads(run("bpftool", "-j", "prog", "show", "id", shown))
        return stats.get("run_time_ns", 0), stats.get("run_cnt", 0)

    def tick(self):
        """The share of a core that the tick takes. The controller has ended afterwards."""
        cpu = self.events(what="ready")[-1]["evidence"]["cpu"]

        def speed():
            return max(int(run(sys.executable, "-c", SPIN, cpu, SPIN_S)) for _ in range(SPINS))
        self.shuntd.send_signal(signal.SIGSTOP)
        slowed = speed()
        self.shuntd.send_signal(signal.SIGCONT)
        self.stop_shuntd()
        return round(max(0, 1 - slowed / speed()), 4)

    def probe(self):
        return self.control.ask("stats", "show")["probe"]


@contextlib.contextmanager
def counting():
    """The kernel counts the run time of BPF programs meanwhile; it costs each run some 20 ns."""
    fd = ctypes.CDLL("libbpf.so.1", use_errno=True).bpf_enable_stats(0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "bpf_enable_stats")
    try:
        yield
    finally:
        os.close(fd)


def last_line(error):
    """Of what the controller said before it ended."""
    return str(error).strip().splitlines()[-1]


def shares(m, seconds):
    """What was spent in so many seconds, in shares of a core, and how the rounds went."""
    before, begun_ns, threads, program = m.probe(), time.monotonic_ns(), m.threads(), m.program()
    time.sleep(seconds)
    after, took_ns, threads_after, program_after = m.probe(), time.monotonic_ns() - begun_ns, m.threads(), m.program()
    rounds, skipped = after["round"] - before["round"], after["rounds_skipped"] - before["rounds_skipped"]
    runs = program_after[1] - program[1]
    return {"prober": round((threads_after[0] - threads[0]) / took_ns, 4), "controller": round((threads_after[1] - threads[1]) / took_ns, 4),
            "answers": round((program_after[0] - program[0]) / took_ns, 4), "answers_per_s": round(runs / took_ns * 1e9),
            "ns_per_answer": round((program_after[0] - program[0]) / runs, 1) if runs else None, "rounds_per_s": round(rounds / took_ns * 1e9),
            "rounds_skipped_share": round(skipped / (rounds + skipped), 4) if rounds + skipped else None}


@dataclasses.dataclass
class Cost:
    sessions: int
    interval_us: int

    @property
    def name(self):
        return f"cost-{self.sessions}-at-{self.interval_us}us"

    def run(self, m, quick):
        row = {"name": self.name, "sessions": self.sessions, "interval_us": self.interval_us}
        try:
            m.ask_many(self.sessions, self.interval_us)
        except RuntimeError as e:
            return row | {"keeps_rounds": False, "says": last_line(e)}
        seconds = 1 if quick else 10
        with counting():
            row |= shares(m, seconds)
            m.plug.unplug("balancer")
            time.sleep(0.05)
            row["asking"] = shares(m, seconds)["prober"]
            m.plug.plug("balancer")
        probe = m.probe()
        row["tick"] = m.tick()
        return row | {"seconds": seconds, "keeps_rounds": row["rounds_skipped_share"] <= SKIPPED_SHARE and probe["interval_us"] <= self.interval_us,
                      "probe": probe}

    @staticmethod
    def lines(row):
        if "says" in row:
            return [f"{row['name']:<27} refused: {row['says']}"]
        total = sum(row[k] for k in ("asking", "answers", "tick", "controller"))
        return [f"{row['name']:<27} {total:.1%} of a core: asking {row['asking']:.1%}, {row['answers_per_s']} answers a second {row['answers']:.1%} "
                f"({row['ns_per_answer']} ns each), tick {row['tick']:.1%}, controller {row['controller']:.1%}; "
                f"prober's thread with switch and backends {row['prober']:.1%}; "
                f"{row['rounds_per_s']} rounds a second, {row['rounds_skipped_share']:.1%} skipped, {row['probe']['interval_us']} us in force"]


@dataclasses.dataclass
class Capacity:
    """The point where the prober can't keep its rounds on this machine, and what the controller says then."""
    interval_us: int

    @property
    def name(self):
        return f"capacity-at-{self.interval_us}us"

    def run(self, m, quick):
        row = {"name": self.name, "interval_us": self.interval_us, "kept": 0, "beyond": None, "steps": []}
        for n in LADDER:
            try:
                m.ask_many(n, self.interval_us)
                steps = [self.step(m, n, 0.5 if quick else 5) for _ in range(2)]
            except (RuntimeError, TimeoutError) as e:
                row["beyond"] = {"sessions": n, "says": last_line(e)}
                break
            best = min(steps, key=lambda s: s["rounds_skipped_share"])  # one that was interrupted says nothing
            row["steps"].append(best)
            if best["rounds_skipped_share"] > SKIPPED_SHARE or best["probe"]["interval_us"] > self.interval_us:
                row["beyond"] = best
                break
            row["kept"] = n
        return row

    @staticmethod
    def step(m, n, seconds):
        before = m.probe()
        time.sleep(seconds)
        after = m.probe()
        rounds, skipped = after["round"] - before["round"], after["rounds_skipped"] - before["rounds_skipped"]
        return {"sessions": n, "rounds_skipped_share": round(skipped / (rounds + skipped), 4), "probe": after}

    @staticmethod
    def lines(row):
        beyond = row["beyond"]
        text = f"{row['name']:<27} keeps its rounds with {row['kept']} sessions"
        return [f"{text}; with {beyond['sessions']}: " + (beyond.get("says") or json.dumps(beyond["probe"])) if beyond else text]


COSTS = [Cost(n, us) for us in (100, 250) for n in (10, 100, 256)] + [Capacity(100), Capacity(250)]
