# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Hosts in network namespaces of their own, behind a switch whose ports can be unplugged.

    client --+
             +-- switch -- gpu1, gpu2, ...     every host has one interface, eth0, and the switch one port of its name
  balancer --+             a pair has a second balancer: standby

`with Topology("prefix") as t:` builds it; leaving the block, an exception, SIGINT and SIGTERM take it down. Namespaces are
called PREFIX-PID-HOST, so that a later run can remove what a killed one left behind. Processes die with the one that
started them, unless the topology is kept. Nothing here knows of shunt's daemons: see cluster.py.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

VIP4, VIP6 = "203.0.113.10", "2001:db8:ff::10"  # documentation prefixes (RFC 5737, RFC 3849)
NETNS = pathlib.Path("/run/netns")
BPFFS = pathlib.Path("/sys/fs/bpf")  # what is pinned here by a host has a directory named as its namespace
SYSCTLS = [f"net.ipv{v}.conf.{which}.{key}=0" for which in ("all", "default")
           for v, key in ((6, "accept_dad"), (6, "accept_ra"), (6, "router_solicitations"), (4, "rp_filter"))]


def wait_for(condition, what, seconds=10.0):
    """Poll until the condition is true and return its value; TimeoutError names what did not come."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)
    return value


def run(*argv, text=None, check=True):
    """Run to the end; its standard output. A failure carries the standard error."""
    done = subprocess.run([str(a) for a in argv], input=text, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Host:
    """One namespace. Addresses are on eth0; number is the last byte of each and of the MAC address."""

    def __init__(self, topology, name, number):
        self.topology, self.name, self.number = topology, name, number
        self.netns = f"{topology.name}-{name}"
        self.ipv4, self.ipv6, self.mac = f"10.0.0.{number}", f"2001:db8:1::{number}", f"02:00:00:00:00:{number:02x}"

    def enter(self, *argv):
        """The command line that runs argv in this namespace. Not `ip netns exec`: that hides the bpffs in /sys."""
        return ["nsenter", f"--net={NETNS / self.netns}", *map(str, argv)]

    def run(self, *argv, **kw):
        return run(*self.enter(*argv), **kw)

    def try_run(self, *argv):
        """The finished process, whatever its exit status."""
        return subprocess.run(self.enter(*argv), capture_output=True, text=True, timeout=60)

    def start(self, name, *argv, **kw):
        """Start a process; its output goes to NAME.log in the topology's directory unless stdout says otherwise."""
        return self.topology.start(name, self.enter(*argv), **kw)

    def ip(self, *commands):
        run("ip", "-n", self.netns, "-batch", "-", text="\n".join(commands) + "\n")


class Plug:
    """The switch's ports, by host name, and the stamps on the backends. See plug.c for the lines that are exchanged."""

    def __init__(self, topology, build):
        self.backends = [b.name for b in topology.backends]
        ports = [h.name for h in topology.hosts]
        where = [f"{b.netns}:eth0" for b in topology.backends]
        self.fifo = topology.directory / "plug"
        os.mkfifo(self.fifo)
        self.lines = os.fdopen(os.open(self.fifo, os.O_RDWR), "wb", buffering=0)
        self.process = topology.start("plug", [f"{build}/tests/lib/plug", topology.switch.netns, *ports, "--", *where],
                                      stdin=self.lines, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("plug did not start: " + topology.log("plug"))

    def say(self, line):
        self.lines.write(line.encode() + b"\n")
        answer = self.process.stdout.readline().decode().split()
        if not answer or answer[0] == "error":
            raise RuntimeError(f"plug: {line}: {' '.join(answer)}")
        return answer

    def unplug(self, *names):
        """Drop everything to and from these hosts at once; the time just before."""
        return int(self.say("unplug " + " ".join(names))[1])

    def mute(self, *names):
        """Drop what comes from these hosts."""
        return int(self.say("mute " + " ".join(names))[1])

    def deafen(self, *names):
        """Drop what goes to these hosts."""
        return int(self.say("deafen " + " ".join(names))[1])

    def lose(self, permille, *names):
        """Drop so much of what goes to these hosts, by chance."""
        return int(self.say(f"lose {permille} " + " ".join(names))[1])

    def plug(self, *names):
        return int(self.say("plug " + " ".join(names))[1])

    def arm(self, ranges):
        """Watch flows by source port, (first, last) each, no others; the time."""
        return int(self.say("arm " + " ".join(f"{a}-{b}" for a, b in ranges))[2])

    def read(self):
        """Backend -> (time of the first watched packet since armed or 0, watched packets ever, packets ever)."""
        groups = self.say("read")[1:]
        return dict(zip(self.backends, (tuple(map(int, g.split(":"))) for g in groups)))


class Topology:
    def __init__(self, prefix, build, n_backends=4, keep=False, n_balancers=1):
        self.prefix, self.keep, self.build = prefix, keep, pathlib.Path(build).resolve()
        self.name = f"{prefix}-{os.getpid()}"
        self.directory = pathlib.Path(tempfile.gettempdir()) / self.name  # logs, sockets, configurations
        self.switch = Host(self, "switch", 0)
        self.client = Host(self, "client", 1)
        self.balancers = [Host(self, "balancer", 2), Host(self, "standby", 3)][:n_balancers]
        self.balancer = self.balancers[0]
        self.backends = [Host(self, f"gpu{i + 1}", 11 + i) for i in range(n_backends)]
        self.hosts = [self.client, *self.balancers, *self.backends]
        self.processes = []
        self.plug = None

    def __enter__(self):
        sweep(self.prefix)
        self.handler = signal.signal(signal.SIGTERM, lambda *_: exit(143))
        try:
            self.up()
        except BaseException:
            self.keep = False
            self.__exit__()
            raise
        return self

    def __exit__(self, kind=Exception, *_):
        """Take it down; if it is to be kept, only when a signal ended the block."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if self.keep and (kind is None or issubclass(kind, Exception)):
                (self.directory / "kept").touch()
            else:
                self.down()
        finally:
            signal.signal(signal.SIGINT, handler)
            signal.signal(signal.SIGTERM, self.handler)

    def up(self):
        self.directory.mkdir()
        if not BPFFS.is_mount():  # systemd mounts it, a bare machine or a container may not
            run("mount", "-t", "bpf", "bpf", BPFFS)
        for host in (self.switch, *self.hosts):
            run("ip", "netns", "add", host.netns)
            host.run("sysctl", "-qw", *SYSCTLS)
        # A switch has no packet filter. These are there where the host has br_netfilter loaded.
        self.switch.run("sysctl", "-eqw", *[f"net.bridge.bridge-nf-call-{t}tables=0" for t in ("ip", "ip6", "arp")])
        self.switch.ip("link set lo up", "link add bridge type bridge forward_delay 0 mcast_snooping 0",
                       *[f"link add {h.name} type veth peer name eth0 address {h.mac} netns {h.netns}" for h in self.hosts],
                       *[f"link set {h.name} master bridge up" for h in self.hosts], "link set bridge up")
        for host in self.hosts:
            host.ip("link set lo up", "link set eth0 up", f"addr add {host.ipv4}/24 dev eth0",
                    f"addr add {host.ipv6}/64 dev eth0 nodad")
            # A veth leaves checksums and segments to a hardware that isn't there; XDP_TX would send them on unfinished.
            host.run("ethtool", "-K", "eth0", "tx", "off")
        self.client.ip(f"route add {VIP4}/32 via {self.balancer.ipv4}", f"route add {VIP6}/128 via {self.balancer.ipv6}")
        self.plug = Plug(self, self.build)

    def down(self):
        for p in reversed(self.processes):
            stop(p)
        remove(self.name)

    def start(self, name, argv, **kw):
        argv = [str(a) for a in argv]
        if not self.keep:
            argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        with open(self.directory / f"{name}.log", "wb") as log:
            kw = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **kw}
            p = subprocess.Popen(argv, start_new_session=True, **kw)
        self.processes.append(p)
        with open(self.directory / "pids", "a") as f:
            print(p.pid, file=f)
        return p

    def log(self, name):
        return (self.directory / f"{name}.log").read_text(errors="replace")


def stop(process, seconds=5):
    """SIGTERM, then SIGKILL after a while. Its exit status."""
    process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def remove(name):
    """Delete the namespaces, the pins and the directory of a topology whose processes have ended."""
    for path in NETNS.glob(f"{name}-*"):
        run("ip", "netns", "delete", path.name, check=False)
    for path in BPFFS.glob(f"{name}-*"):
        shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(pathlib.Path(tempfile.gettempdir()) / name, ignore_errors=True)


def existing(prefix):
    """Names and pids of the topologies of this prefix that have namespaces, live or dead."""
    found = (re.fullmatch(rf"({re.escape(prefix)}-(\d+))-\w+", p.name) for p in NETNS.glob(f"{prefix}-*"))
    return sorted({(m[1], int(m[2])) for m in found if m})


def sweep(prefix, kept=False):
    """Remove what dead runs left behind; what was kept on purpose too if `kept`. The names removed."""
    names = []
    for name, pid in existing(prefix):
        mark = pathlib.Path(tempfile.gettempdir()) / name / "kept"
        if pathlib.Path(f"/proc/{pid}").exists() or (mark.exists() and not kept):
            continue
        kill_recorded(name)
        remove(name)
        names.append(name)
    return names


def kill_recorded(name):
    """End the processes that a topology recorded, as far as they still live in one of its namespaces."""
    spaces = {path.stat().st_ino for path in NETNS.glob(f"{name}-*")}
    with contextlib.suppress(FileNotFoundError):
        for pid in map(int, (pathlib.Path(tempfile.gettempdir()) / name / "pids").read_text().split()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if os.stat(f"/proc/{pid}/ns/net").st_ino in spaces:
                    os.kill(pid, signal.SIGTERM)
