# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two balancers and keepalived, which gives one of them the VIP. The client is on their segment, as their router would be:
it asks by ARP who has the VIP. keepalived runs the files of tools/examples, with the paths and addresses of the test filled in.

keepalived is started outside and enters the namespace itself (--namespace): the kernel tells of processes that end in the
first network namespace only, and it asks for that before it enters another (open_track_processes() in its main()).
"""
import pathlib
import shutil

from cluster import ROOT
from crowd import Crowd
from topology import VIP4, VIP6, stop, wait_for

EXAMPLES = ROOT / "tools/examples"


class Pair(Crowd):
    keepalived = None

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
        """The configuration of this side."""
        return (f"keepalived: {{track_file: {self.directory / self.own('health')}, notify_fifo: {self.directory / self.own('vrrp')}}}\n"
                + more + self.flow_config(**kw))

    def keepalived_config(self, example="keepalived-pair.conf", **changes):
        """The example as this side runs it. changes: texts in it, and what is there instead."""
        text = (EXAMPLES / example).read_text()
        for old, new in {"/run/shunt/health": str(self.directory / self.own("health")),
                         "/run/shunt/vrrp": str(self.directory / self.own("vrrp")),
                         # Both run in one process namespace: by its name alone each would be taken for the other.
                         "process shuntd\n": f"process {self.build}/shuntd -f {self.directory / self.own('shunt.yaml')}\n    full_command\n",
                         **changes}.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def start_keepalived(self, config=None):
        """In place of the one before."""
        self.stop_keepalived()
        name = self.own("keepalived")
        path = self.write(f"{name}.conf", config or self.keepalived_config())
        self.keepalived = self.start(name, [
            "keepalived", "-n", "-l", "-D", "-P", "-G", "-f", path, "-i", self.balancer.name, "-s", self.balancer.netns,
            "-p", self.directory / f"{name}.pid", "-r", self.directory / f"{name}-vrrp.pid"])

    def stop_keepalived(self):
        process, self.keepalived = self.keepalived, None
        return stop(process) if process else None

    def holds(self, vip=VIP4):
        """Whether this side has the VIP as an address."""
        return f"inet {vip}/" in self.balancer.run("ip", "-4", "addr", "show")

    def wait_holds(self, vip=VIP4, seconds=10):
        """Until this side has it, and it alone."""
        wait_for(lambda: self.holds(vip) and not self.other.holds(vip), f"{self.balancer.name} to have {vip} alone", seconds)

    def health(self):
        """What its track file says."""
        return (self.directory / self.own("health")).read_text()
