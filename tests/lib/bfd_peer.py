# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BFD daemons of others on a Host of the topology: FRR's bfdd and BIRD, each with its own configuration, sockets and
pid file; and a peer that says whatever it is told.

A peer has start(), stop(), kill(), admin(down) and show(), which is what the daemon itself says of its session.
"""
import shutil
import socket
import struct
import threading

from topology import run, stop, wait_for

ADMIN_DOWN, DOWN, INIT, UP = range(4)
POLL, FINAL, MULTIPOINT = 0x20, 0x10, 0x01
PORT = 3784


class Daemon:
    def __init__(self, host, remote, interval_ms=10, multiplier=3):
        self.host, self.remote, self.interval_ms, self.multiplier = host, remote, interval_ms, multiplier
        self.local = host.ipv6 if ":" in remote else host.ipv4
        self.directory = host.topology.directory / f"{self.name}-{host.name}"
        self.process = None

    def begin(self, config, *argv):
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.directory.mkdir(mode=0o700)
        (self.directory / "config").write_text(config)
        shutil.chown(self.directory, self.user)
        shutil.chown(self.directory / "config", self.user)
        self.process = self.host.start(f"{self.name}-{self.host.name}", *argv)

    def stop(self):
        return stop(self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Frr(Daemon):
    name, user = "bfdd", "frr"  # it lays down its rights itself, and refuses to be root

    def start(self):
        self.begin(f"bfd\n peer {self.remote} local-address {self.local}\n"
                   f"  detect-multiplier {self.multiplier}\n  receive-interval {self.interval_ms}\n"
                   f"  transmit-interval {self.interval_ms}\n exit\nexit\n",
                   "/usr/lib/frr/bfdd", "-f", self.directory / "config", "-i", self.directory / "pid",
                   "--vty_socket", self.directory, "-z", self.directory / "zserv", "--bfdctl", self.directory / "bfdctl",
                   "-P", "0", "--log", "stdout")
        wait_for(lambda: "peer" in self.show(), "bfdd")
        return self

    def vtysh(self, *commands):
        argv = [word for command in commands for word in ("-c", command)]
        return self.host.try_run("/usr/bin/vtysh", "--vty_socket", self.directory, "-d", "bfdd", *argv).stdout

    def show(self):
        return self.vtysh("show bfd peers")

    def admin(self, down):
        self.vtysh("configure", "bfd", f"peer {self.remote} local-address {self.local}",
                   "shutdown" if down else "no shutdown")


class Bird(Daemon):
    name, user = "bird", "root"

    def start(self):
        self.begin(f"router id 10.0.0.{self.host.number};\nprotocol device {{}}\nprotocol bfd bfd1 {{\n"
                   f"  interface \"eth0\" {{ min rx interval {self.interval_ms} ms; min tx interval {self.interval_ms} ms; "
                   f"idle tx interval 1 s; multiplier {self.multiplier}; }};\n  neighbor {self.remote} dev \"eth0\";\n}}\n",
                   "/usr/sbin/bird", "-f", "-c", self.directory / "config", "-s", self.directory / "ctl", "-P", self.directory / "pid")
        wait_for(lambda: "bfd1" in self.show(), "bird")
        return self

    def birdc(self, *words):
        return self.host.try_run("/usr/sbin/birdc", "-s", self.directory / "ctl", *words).stdout

    def show(self):
        return self.birdc("show", "bfd", "sessions")

    def admin(self, down):
        self.birdc("disable" if down else "enable", "bfd1")
