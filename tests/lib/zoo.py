# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A cluster whose parts come to harm one after the other, and the account of what the balancer made of it.

gpu1 has an engine that its agent watches, on every backend an agent answers. What is done to them is in faults.py.
"""
import collections
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import random
import socket
import struct
import subprocess
import time

from cluster import Cluster, Victim
from crowd import Control
from monitor import Monitor, percentiles
from topology import NETNS, VIP4, run, stop, wait_for

ENGINE_PORT = 8000
BEAT_LIMIT_MS = 50
HOLD_MS = 20  # short, so that trials are many
ENGINE = "gpu1"
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Tool:
    """A process that answers each line with a line."""

    def __init__(self, name, process):
        self.name, self.process = name, process
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{name} did not start")

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode().split()
        if not answer or answer[0] == "error":
            raise RuntimeError(f"{self.name}: {line}: {' '.join(answer)}")
        return answer

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)


class Link:
    """An interface in a namespace that can be taken down without starting a program for it."""

    def __init__(self, netns, name):
        libc, home = ctypes.CDLL(None, use_errno=True), os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(NETNS / netns, os.O_RDONLY)
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        libc.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(there)
        self.name = name.encode()

    def set(self, up):
        """The time just before."""
        flags = struct.unpack_from("H", fcntl.ioctl(self.socket, SIOCGIFFLAGS, struct.pack("16sH22x", self.name, 0)), 16)[0]
        request = struct.pack("16sH22x", self.name, flags | IFF_UP if up else flags & ~IFF_UP)
        at_ns = time.monotonic_ns()
        fcntl.ioctl(self.socket, SIOCSIFFLAGS, request)
        return at_ns


class Zoo(Cluster):
    """`with Zoo("prefix", build) as z: z.begin()`"""
    control = monitor = engine = coroner = None

    def begin(self):
        self.agents = {b.name: self.start_agent(b, self.agent_more(b)) for b in self.backends}
        self.engine_start()
        self.controller()

    def agent_more(self, host):
        beat = f"beat: {{limit: {BEAT_LIMIT_MS}ms, socket: {self.directory}/beat.sock}}"
        return f"engine: {{listen: {ENGINE_PORT}, worker_age: 0s, {beat}}}\n" if host.name == ENGINE else ""

    def agent_start(self, name):
        host = self.host(name)
        self.agents[name] = self.start_agent(host, self.agent_more(host))
        wait_for(lambda: "ready: " in self.log(f"agent-{name}"), f"the agent of {name}")

    def host(self, name):
        return next(b for b in self.backends if b.name == name)

    def engine_start(self, *options):
        """The engine of gpu1, in place of the one before."""
        if self.engine:
            self.engine.end()
        if any(o.startswith("beat=") for o in options):
            wait_for((self.directory / "beat.sock").exists, "the agent's socket")
        self.engine = Victim(self.host(ENGINE), ENGINE_PORT, *options)

    def controller(self, **config):
        """The controller anew, until all are up."""
        if self.control:
            self.control.close()
            self.monitor.close()
        self.start_shuntd(self.config(**{"hold": f"{HOLD_MS}ms", **config}))
        self.control, self.monitor = Control(self.socket), Monitor(self.socket)
        self.wait_up()
        self.monitor.take()

    def wait_up(self, *names, seconds=20):
        names = names or [b.name for b in self.backends]

        def up():
            return {b["name"] for b in self.control.ask("backend", "show") if b["state"] == "up"} >= set(names)
        wait_for(up, f"{', '.join(names)} to be up", seconds)

    def link(self, port):
        """The switch's end of a host's cable."""
        return Link(self.switch.netns, port)

    def show_up(self):
        """The switch learns anew at which port each backend is."""
        for b in self.backends:
            b.run("bash", "-c", f"echo > /dev/udp/{self.balancer.ipv4}/9")

    def wait_answering(self):
        """Until every backend has answered anew."""
        def answers():
            return {p["backend"]: p["answers"] for p in self.control.ask("probe", "show")}
        before = answers()
        wait_for(lambda: all(n > before[name] for name, n in answers().items()), "answers of every backend")

    def tool(self, name, host, *argv):
        return Tool(name, host.start(name, self.build / "tests/lib" / argv[0], *argv[1:], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE))

    def undertaker(self):
        """coroner.c, started when it is first asked for."""
        self.coroner = self.coroner or self.tool("coroner", self.host(ENGINE), "coroner")
        return self.coroner

    def links_of(self, name):
        """The numbers of the BPF links by which XDP programs are at a backend's interface."""
        host = self.host(name)
        shown = json.loads(host.run("ip", "-j", "link", "show", "dev", "eth0"))[0]
        program = shown["xdp"]["prog"]["id"]
        return [link["id"] for link in json.loads(run("bpftool", "-j", "link", "show")) if link.get("prog_id") == program]

    @contextlib.contextmanager
    def cable(self, host):
        """A cable whose length can be changed, between the switch and a host; see delay.c."""
        far, near = f"far-{host.name}"[:15], f"near-{host.name}"[:15]
        self.switch.ip(f"link add {near} type veth peer name {far}", f"link set {far} up", f"link set {near} up",
                       f"link set {host.name} nomaster", f"link set {near} master bridge")
        # What is not known to be here would go to all, and the others' agents would answer for this host.
        self.switch.run("bridge", "fdb", "replace", host.mac, "dev", near, "master", "static")
        tool = self.tool("cable", self.switch, "delay", far, host.name)
        try:
            time.sleep(0.05)
            self.wait_up()  # who fell because it was put in is back
            self.wait_answering()
            yield tool
        finally:
            tool.end()
            self.switch.ip(f"link del {near}", f"link set {host.name} master bridge")
            self.switch.run("bridge", "fdb", "replace", host.mac, "dev", host.name, "master", "static")

    @contextlib.contextmanager
    def memory_cgroup(self, limit_bytes):
        """A memory cgroup of ours, version 1 or 2."""
        root = next(p for p in map(pathlib.Path, ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")) if (p / "cgroup.procs").exists())
        path = root / self.name
        path.mkdir()
        try:
            for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max"):
                if (path / name).exists():
                    (path / name).write_text(str(limit_bytes))
            yield path
        finally:
            wait_for(lambda: not (path / "cgroup.procs").read_text(), "an empty cgroup")
            path.rmdir()

    @contextlib.contextmanager
    def pulse(self, rate):
        """Datagrams to the UDP VIP. A function that counts how many came to backends so far."""
        process = self.start_pulse(rate, range(40000, 40064), VIP4, 600)
        try:
            yield lambda: sum(seen[2] for seen in self.plug.read().values())
        finally:
            stop(process)


def verdict_of(event):
    cause = (event.get("evidence") or {}).get("cause")
    return f"{event['why']} ({cause})" if cause and event["why"] == "dead" else event["why"]


def is_down(event):
    return event["object"] == "backend" and event["what"] == "down"


def spread(values):
    return percentiles(values, p25=0.25, p75=0.75) if values else None


class Account:
    """Of one fault: what was said, when, and of whom it was said wrongly."""

    def __init__(self):
        self.trials, self.verdicts, self.detect_us, self.wrong, self.more = 0, collections.Counter(), [], [], {}

    def note(self, verdict, detect_ns=None):
        self.verdicts[verdict] += 1
        if detect_ns is not None:
            self.detect_us.append(detect_ns / 1000)

    def judge(self, events, victims, fault_ns, more_falls=False):
        """The first fall of each victim since the fault is its verdict; what else fell, fell wrongly."""
        fell = set()
        for e in filter(is_down, events):
            if e["name"] in victims and e["at_ns"] >= fault_ns and (e["name"] not in fell or more_falls):
                self.note(verdict_of(e), None if e["name"] in fell else e["at_ns"] - fault_ns)
                fell.add(e["name"])
            else:
                self.wrong.append(f"{e['name']}: {verdict_of(e)}")
        for _ in set(victims) - fell:
            self.note("none")

    def row(self):
        return {"trials": self.trials, "verdicts": dict(self.verdicts.most_common()),
                "detect_us": spread(self.detect_us),
                "wrong_ejections": len(self.wrong), "wrong": dict(collections.Counter(self.wrong)), **self.more}


def trials(z, n, victims, strike, mend, seconds=1.0, sign=None):
    """n times: strike the victims, wait for the verdict on all of them or so many seconds, mend, wait until all are up.

    victims: trial number -> names; none: whoever falls, falls wrongly. strike(names): the moment of the fault, or a
    function that tells it when it is over. sign: the event that says that the balancer noticed, where nobody is to fall.
    """
    account, healed_us = Account(), []
    z.monitor.take()  # what it took to get here
    for i in range(n):
        names = victims(i)
        time.sleep(random.uniform(0.002, 0.01))
        account.judge(z.monitor.take(), (), 0)
        begun_ns = time.monotonic_ns()
        fault = strike(names)

        def noticed(events):
            events = [e for e in events if e["at_ns"] >= begun_ns]
            if sign:
                return next((e for e in events if e["what"] == sign), None)
            return names and {e["name"] for e in events if is_down(e)} >= set(names)
        said = z.monitor.until(noticed, seconds)
        fault_ns = fault() if callable(fault) else fault
        mend(names)
        mended_ns = time.monotonic_ns()
        z.wait_up()
        if sign or not names:
            z.wait_answering()  # else the next fault is a part of this one
            healed_us.append((time.monotonic_ns() - mended_ns) / 1000)
            account.note(sign if said else "none", said["at_ns"] - fault_ns if said else None)
        account.judge(z.monitor.take(), names, fault_ns)
        account.trials += 1
    if healed_us:
        account.more["all_answer_again_us"] = spread(healed_us)
    return account
