# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two balancers and keepalived, which gives one of them the VIP. The client is on their segment, as their router would be:
it asks by ARP who has the VIP. keepalived runs the files of tools/examples, with the paths and addresses of the test filled in.

keepalived is started outside and enters the namespace itself (--namespace): the kernel tells of processes that end in the
first network namespace only, and it asks for that before it enters another (open_track_processes() in its main()).
"""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal

from cluster import ROOT
from crowd import Crowd
from topology import VIP4, VIP6, run, stop, wait_for

EXAMPLES = ROOT / "tools/examples"


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000  # ptrace(2), waitpid(2)


class Pair(Crowd):
    keepalived = keepalived_runs = None

    def __init__(self, prefix, build, n_backends=4, keep=False):
        super().__init__(prefix, build, n_backends, keep, n_balancers=2)

    def up(self):
        super().up()
        self.client.ip(f"route replace {VIP4}/32 dev eth0", f"route replace {VIP6}/128 dev eth0")
        there = self.at(self.balancers[1])
        self.sides = there.sides = [self, there]

    def down(self):
        super().down()
        for host in self.balancers:
            shutil.rmtree(pathlib.Path("/run/keepalived") / host.netns, ignore_errors=True)

    @property
    def other(self):
        """The side that this one isn't."""
        return self.sides[1] if self is self.sides[0] else self.sides[0]

    def pair_config(self, more="", **kw):
        """The configuration of this side: pinned, and patient, since a busy machine is to move nothing. more: lines of it."""
        return (f"keepalived: {{track_file: {self.directory / self.own('health')}, notify_fifo: {self.directory / self.own('vrrp')}}}\n"
                + more + self.flow_config(**{"interval": "10ms", "multiplier": 10, "pin": self.pin} | kw))

    def keepalived_config(self, example="keepalived-pair.conf", **changes):
        """The example as this side runs it. changes: texts in it, and what is there instead."""
        text = (EXAMPLES / example).read_text()
        for old, new in {"/run/shunt/health": str(self.directory / self.own("health")),
                         "/run/shunt/vrrp": str(self.directory / self.own("vrrp")),
                         # Both run in one process namespace: by its name alone each would be taken for the other.
                         "process shuntd-ready\n": f"process {self.build}/shuntd -f {self.directory / self.own('shunt.yaml')}\n    full_command\n",
                         **changes}.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def start_keepalived(self, config=None):
        """In place of the one before."""
        self.stop_keepalived()
        name = self.own("keepalived")
        self.keepalived_runs = config or self.keepalived_config()
        path = self.write(f"{name}.conf", self.keepalived_runs)
        self.keepalived = self.start(name, [
            "keepalived", "-n", "-l", "-D", "-P", "-G", "-f", path, "-i", self.balancer.name, "-s", self.balancer.netns,
            "-p", self.directory / f"{name}.pid", "-r", self.directory / f"{name}-vrrp.pid"])

    def entered(self):
        """The states that its only instance went through, by its log."""
        return re.findall(r"Entering (\w+) STATE", self.log(self.own("keepalived")))

    def keepalived_state(self):
        """The newest of them: a shuntd that was started after it doesn't know."""
        return (self.entered() or [None])[-1]

    def stop_keepalived(self):
        process, self.keepalived = self.keepalived, None
        return stop(process) if process else None

    def holds(self, vip=VIP4):
        """Whether this side has the VIP as an address."""
        return f" {vip}/" in self.balancer.run("ip", "addr", "show")

    def wait_holds(self, vip=VIP4, seconds=10):
        """Until this side has it, and it alone."""
        wait_for(lambda: self.holds(vip) and not self.other.holds(vip), f"{self.balancer.name} to have {vip} alone", seconds)

    @property
    def health(self):
        """The path of its track file."""
        return self.directory / self.own("health")

    def stats(self):
        return self.shunt("stats", "show")

    def start_all(self, config=lambda side: side.pair_config(), keepalived=lambda side: side.keepalived_config()):
        """Whatever of both sides does not run, or not as it should. Returns when both are fit and one has the VIP: that side."""
        self.plug.plug(*[h.name for h in self.hosts])
        for side in self.sides:
            text = config(side)
            if not side.shuntd or side.shuntd.poll() is not None or (side.directory / side.own("shunt.yaml")).read_text() != text:
                side.start_shuntd(text)
        for side in self.sides:
            side.wait_states()
            wait_for(lambda: side.stats()["track_file"] == 0, f"{side.balancer.name} to be fit")
            text = keepalived(side)
            if not side.keepalived or side.keepalived.poll() is not None or text != side.keepalived_runs:
                side.start_keepalived(text)
        wait_for(lambda: all(side.keepalived_state() in ("MASTER", "BACKUP") for side in self.sides), "both keepalived to be ready")
        wait_for(lambda: self.sides[0].holds() != self.sides[1].holds(), "one to have the VIP alone")
        return self.sides[0] if self.sides[0].holds() else self.sides[1]

    def vrrp(self, name):
        """What keepalived said last of an instance or a group."""
        return next((i["state"] for i in self.stats()["vrrp"] if i["name"] == name), None)

    def program(self):
        """The number of the program on its interface."""
        return json.loads(self.balancer.run("bpftool", "-j", "net", "show"))[0]["xdp"][0]["id"]

    @contextlib.contextmanager
    def usurped(self):
        """Somebody took the program off the interface, and put his own there."""
        link = next(x["id"] for x in json.loads(run("bpftool", "-j", "link", "show")) if x.get("prog_id") == self.program())
        self.shuntd.send_signal(signal.SIGSTOP)  # or it would be quicker
        run("bpftool", "link", "detach", "id", link)
        self.balancer.run("ip", "link", "set", "dev", "eth0", "xdp", "obj", self.build / "bpf/plug.bpf.o", "program", "port_ingress")
        self.shuntd.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.balancer.run("ip", "link", "set", "dev", "eth0", "xdp", "off")

    @contextlib.contextmanager
    def prober_stopped(self):
        """The thread that asks stands still; all others go on."""
        libc = ctypes.CDLL(None, use_errno=True)

        def ptrace(request, tid):
            if libc.ptrace(request, tid, None, None):
                raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")
        threads = map(int, os.listdir(f"/proc/{self.shuntd.pid}/task"))
        tid = next(t for t in threads if os.sched_getscheduler(t) == os.SCHED_FIFO)
        ptrace(PTRACE_SEIZE, tid)
        ptrace(PTRACE_INTERRUPT, tid)
        os.waitpid(tid, WALL)
        try:
            yield
        finally:
            ptrace(PTRACE_DETACH, tid)
