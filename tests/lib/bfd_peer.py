#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BFD daemons of others on a Host of the topology: FRR's bfdd and BIRD, each with its own configuration, sockets and
pid file; and a peer that says whatever it is told. show() is what the daemon itself says of its session.

  bfd_peer.py LOCAL REMOTE    the latter, in its own namespace: a packet each 8 ms and one for each that it hears. A line on
                              stdin, "KEY=NUMBER ...", changes what it says: state, diag, multiplier, ttl, tx_us, rx_us, silent;
                              each is answered with the packets sent and heard so far and the state heard last
"""
import pathlib
import select
import shutil
import socket
import struct
import subprocess
import sys
import time

from topology import stop, wait_for

ADMIN_DOWN, DOWN, INIT, UP = range(4)
POLL, FINAL = 0x20, 0x10
PORT = 3784


class Daemon:
    def __init__(self, host, remote, interval_ms=10, multiplier=3, prefix=()):
        """prefix: of its command line, such as "chrt"."""
        self.host, self.remote, self.interval_ms, self.multiplier, self.prefix = host, remote, interval_ms, multiplier, prefix
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
        self.process = self.host.start(f"{self.name}-{self.host.name}", *self.prefix, *argv)

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


class Puppet:
    """The peer that says whatever it is told, as a process on a host."""

    def __init__(self, host, remote):
        self.process = host.start(f"puppet-{host.name}", "/usr/bin/python3", pathlib.Path(__file__).resolve(), host.ipv4, remote,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def say(self, **values):
        """(packets sent, packets heard, state heard last) until then."""
        line = " ".join(f"{key}={value}" for key, value in values.items())
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return tuple(map(int, self.process.stdout.readline().split()))

    def stop(self):
        return stop(self.process)


def main(local, remote):
    values = {"state": -1, "diag": 0, "multiplier": 20, "ttl": 255, "tx_us": 10000, "rx_us": 10000, "silent": 0}
    ear, mouth = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    ear.bind((local, PORT))
    mouth.bind((local, 50000))
    state, theirs, heard_state, sent, heard, due = DOWN, 0, DOWN, 0, 0, 0.0
    while True:
        ready, _, _ = select.select([ear, sys.stdin], [], [], max(0.0, due - time.monotonic()))
        flags = 0
        if ear in ready:
            packet = ear.recv(64)
            theirs, heard_state, heard = struct.unpack("!I", packet[4:8])[0], packet[1] >> 6, heard + 1
            flags = FINAL if packet[1] & POLL else 0
            # RFC 5880 6.8.6: from Down by Down to Init, by Init to Up; from Init by Init or Up to Up; by Down from Up to Down
            state = {DOWN: {DOWN: INIT, INIT: UP}, INIT: {INIT: UP, UP: UP}, UP: {DOWN: DOWN}}[state].get(heard_state, state)
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            values.update((key, int(value)) for key, value in (word.split("=") for word in line.split()))
            print(sent, heard, heard_state, flush=True)
        if values["silent"] or (ear not in ready and time.monotonic() < due):
            due = max(due, time.monotonic() + 0.008) if values["silent"] else due
            continue
        due = time.monotonic() + 0.008
        says = state if values["state"] < 0 else values["state"]
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, values["ttl"])
        mouth.sendto(struct.pack("!BBBBIIIII", 1 << 5 | values["diag"], says << 6 | flags, values["multiplier"], 24, 0x50504554,
                                 theirs, values["tx_us"], values["rx_us"], 0), (remote, PORT))
        sent += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
