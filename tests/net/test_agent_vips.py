# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What user/agent/vips.c does to a backend's host, and that it takes all of it back.

A backend's namespace `be` has eth0, a veth to `cl`. tests/lib/netlink_tool sets the VIPs up and, when its standard
input ends, takes them back.
"""

import ctypes
import json
import os
import socket
import subprocess
import time

import pytest

TOOL = os.path.join(os.environ.get("SHUNT_BUILD", "build"), "tests", "lib", "netlink_tool")
DEADLINE_S = 30
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
MAC = {"be": "02:00:00:00:00:01", "cl": "02:00:00:00:00:02"}
VIPS = ["203.0.113.10", "203.0.113.11", "2001:db8::10"]
SETTINGS = ("arp_ignore", "arp_announce", "rp_filter")


def run(*words, check=True):
    return subprocess.run(" ".join(words).split(), check=check, capture_output=True, text=True)


class Net:
    def __init__(self, record):
        self.prefix = f"av{os.getpid()}-"
        self.record = record  # the file in which the tool keeps what it changed
        self.tools, self.sockets = [], []

    def build(self):
        for name in ("be", "cl"):
            run("ip netns add", self.prefix + name)
            self.ip(name, "link set lo up")
        self.ip("be", f"link add eth0 address {MAC['be']} type veth peer name eth0 address {MAC['cl']}"
                f" netns {self.prefix}cl")
        for name, host in (("be", 1), ("cl", 2)):
            self.ip(name, f"addr add 10.0.0.{host}/24 dev eth0")
            self.ip(name, f"addr add fd00::{host}/64 dev eth0 nodad")
            self.ip(name, "link set eth0 up")
        for dev in ("all", "default", "eth0"):
            self.set(dev, "rp_filter", 0)

    def close(self):
        for tool in self.tools:
            tool.kill()
            tool.communicate()
        for s in self.sockets:
            s.close()
        for name in ("be", "cl"):
            run("ip netns del", self.prefix + name, check=False)

    def ip(self, name, words, check=True):
        return run("ip -n", self.prefix + name, words, check=check).stdout

    def exec(self, name, words, check=True):
        return run("ip netns exec", self.prefix + name, words, check=check)

    def set(self, dev, setting, value):
        subprocess.run(["ip", "netns", "exec", self.prefix + "be", "tee", f"/proc/sys/net/ipv4/conf/{dev}/{setting}"],
                       input=f"{value}\n", text=True, check=True, stdout=subprocess.DEVNULL)

    def get(self, dev="eth0"):
        return [int(self.exec("be", f"cat /proc/sys/net/ipv4/conf/{dev}/{setting}").stdout) for setting in SETTINGS]

    def addresses(self):
        """Addresses of lo, with prefix length, but the loopback's own."""
        info = json.loads(self.ip("be", "-j addr show dev lo"))[0]["addr_info"]
        return sorted(f"{a['local']}/{a['prefixlen']}" for a in info
                      if a["local"] not in ("127.0.0.1", "::1"))

    def state(self):
        return self.addresses(), self.get()

    def wait_answered(self, address):
        """Wait until `cl` knows the MAC of an address on its eth0."""
        deadline = time.monotonic() + DEADLINE_S
        while "lladdr" not in self.ip("cl", f"neigh show {address} dev eth0"):
            assert time.monotonic() < deadline, f"{address} is not answered for"
            time.sleep(0.01)

    def socket(self, name, address, port=0):
        """A UDP socket that lives in a namespace."""
        with open("/proc/self/ns/net") as own, open(f"/run/netns/{self.prefix}{name}") as other:
            assert LIBC.setns(other.fileno(), CLONE_NEWNET) == 0
            try:
                s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            finally:
                assert LIBC.setns(own.fileno(), CLONE_NEWNET) == 0
        self.sockets.append(s)
        s.settimeout(DEADLINE_S)
        s.bind((address, port))
        return s

    def setup(self, *vips, interfaces="eth0"):
        tool = subprocess.Popen(["ip", "netns", "exec", self.prefix + "be", TOOL, "vips", self.record, interfaces, *vips],
                                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.tools.append(tool)
        return tool, tool.stdout.readline().strip()

    @staticmethod
    def settle(tool):
        tool.stdin.write(".")
        tool.stdin.flush()
        assert tool.stdout.readline() == "settled\n"

    def undo(self, tool):
        tool.communicate(timeout=DEADLINE_S)
        assert tool.returncode == 0
        assert not os.path.exists(self.record)


@pytest.fixture
def net(tmp_path):
    n = Net(tmp_path / "record")
    try:
        n.build()
        yield n
    finally:
        n.close()


def test_vips_are_put_on_the_loopback_and_taken_back(net):
    before = net.state()
    tool, answer = net.setup(*VIPS)
    assert answer == "ready"
    assert net.state() == (["2001:db8::10/128", "203.0.113.10/32", "203.0.113.11/32"], [1, 2, 0])
    assert "tentative" not in net.ip("be", "-6 addr show dev lo")
    net.undo(tool)
    assert net.state() == before


def test_a_vip_takes_packets_but_is_not_announced(net):
    for vip in (VIPS[0], VIPS[1]):
        net.ip("cl", f"route add {vip}/32 dev eth0")
    net.ip("be", f"addr add {VIPS[1]}/32 dev lo")
    net.ip("cl", f"neigh add {VIPS[1]} dev eth0 use")
    net.wait_answered(VIPS[1])  # so would any VIP be, without the settings
    net.ip("be", f"addr del {VIPS[1]}/32 dev lo")

    tool, _ = net.setup(VIPS[0], VIPS[2])
    net.ip("cl", f"neigh add {VIPS[0]} dev eth0 use")
    net.ip("cl", "neigh add 10.0.0.1 dev eth0 use")
    net.wait_answered("10.0.0.1")
    assert "lladdr" not in net.ip("cl", f"neigh show {VIPS[0]} dev eth0")

    net.ip("cl", f"neigh replace {VIPS[0]} lladdr {MAC['be']} nud permanent dev eth0")
    net.ip("cl", f"-6 route add {VIPS[2]}/128 dev eth0")
    net.ip("cl", f"neigh replace {VIPS[2]} lladdr {MAC['be']} nud permanent dev eth0")
    for vip, source in ((VIPS[0], "10.0.0.2"), (VIPS[2], "fd00::2")):
        server, client = net.socket("be", vip, 5000), net.socket("cl", source)
        client.sendto(b"?", (vip, 5000))
        server.sendto(b"!", server.recvfrom(16)[1])
        assert client.recvfrom(16)[1][0] == vip
    net.undo(tool)


def test_an_address_that_was_there_before_stays(net):
    net.ip("be", f"addr add {VIPS[0]}/32 dev lo")
    net.ip("be", f"addr add {VIPS[2]}/128 dev lo nodad")
    tool, answer = net.setup(*VIPS)
    assert answer == "ready"
    net.undo(tool)
    assert net.addresses() == ["2001:db8::10/128", "203.0.113.10/32"]


@pytest.mark.parametrize("everywhere, own, during", [(0, 0, 0), (0, 1, 2), (0, 2, 2), (1, 0, 2), (1, 1, 2), (2, 1, 1)])
def test_only_a_strict_rp_filter_is_loosened(net, everywhere, own, during):
    net.set("all", "rp_filter", everywhere)
    net.set("eth0", "rp_filter", own)
    tool, _ = net.setup(VIPS[0])
    assert net.get()[2] == during
    net.undo(tool)
    assert net.get()[2] == own
    assert net.get("all")[2] == everywhere


def test_a_decapsulated_packet_passes_a_strict_rp_filter(net):
    """A source that is routed elsewhere, as a client's is on a backend with two interfaces."""
    net.set("eth0", "rp_filter", 1)
    net.ip("be", "tuntap add tun0 mode tun")
    net.ip("be", "link set tun0 up")
    net.ip("be", "route add 198.51.100.0/24 dev tun0")
    net.ip("be", f"addr add {VIPS[0]}/32 dev lo")
    net.ip("cl", "addr add 198.51.100.1/32 dev lo")
    net.ip("cl", f"route add {VIPS[0]}/32 dev eth0")
    net.ip("cl", f"neigh add {VIPS[0]} lladdr {MAC['be']} nud permanent dev eth0")
    server = net.socket("be", VIPS[0], 5000)
    clients = [net.socket("cl", source) for source in ("198.51.100.1", "10.0.0.2")]

    def arrivals():
        """Sources that get through, of one datagram from elsewhere and then one from the neighbour."""
        for client in clients:
            client.sendto(b"?", (VIPS[0], 5000))
        sources = [server.recvfrom(16)[1][0]]
        while sources[-1] != "10.0.0.2":
            sources.append(server.recvfrom(16)[1][0])
        return sources

    assert arrivals() == ["10.0.0.2"], "the strict filter must be seen at work"
    tool, _ = net.setup(VIPS[0])
    assert arrivals() == ["198.51.100.1", "10.0.0.2"]
    net.undo(tool)
    assert arrivals() == ["10.0.0.2"]


def test_settings_that_are_stronger_already_stay(net):
    net.set("eth0", "arp_ignore", 8)
    net.set("eth0", "arp_announce", 2)
    tool, _ = net.setup(VIPS[0])
    assert net.get() == [8, 2, 0]
    net.undo(tool)
    assert net.get() == [8, 2, 0]


def test_what_somebody_else_changed_since_is_kept(net):
    tool, _ = net.setup(*VIPS)
    net.set("eth0", "arp_ignore", 2)
    net.ip("be", f"addr del {VIPS[0]}/32 dev lo")
    net.undo(tool)
    assert net.state() == ([], [2, 0, 0])


def kill(tool):
    tool.kill()
    tool.communicate()


def test_what_a_killed_agent_set_up_is_taken_back_by_the_next(net):
    net.ip("be", f"addr add {VIPS[0]}/32 dev lo")
    net.set("eth0", "rp_filter", 1)
    before = net.state()
    for settles in (True, False, True):
        tool, answer = net.setup(*VIPS)
        assert answer == "ready"
        if settles:
            net.settle(tool)
        kill(tool)
        assert net.state() == (["2001:db8::10/128", "203.0.113.10/32", "203.0.113.11/32"], [1, 2, 2])
    tool, _ = net.setup(*VIPS)
    net.settle(tool)
    net.undo(tool)
    assert net.state() == before


def test_vips_of_a_killed_agent_that_are_none_any_more_go_when_the_next_takes_its_place(net):
    before = net.state()
    tool, _ = net.setup(VIPS[0], VIPS[2])
    kill(tool)
    tool, _ = net.setup(VIPS[0], VIPS[1])
    assert net.addresses() == ["2001:db8::10/128", "203.0.113.10/32", "203.0.113.11/32"]
    net.settle(tool)
    assert net.addresses() == ["203.0.113.10/32", "203.0.113.11/32"]
    net.undo(tool)
    assert net.state() == before


def test_an_agent_that_does_not_take_a_killed_ones_place_leaves_what_that_set_up(net):
    before = net.state()
    tool, _ = net.setup(VIPS[0], VIPS[2])
    kill(tool)
    left = net.state()
    tool, _ = net.setup(VIPS[0], VIPS[1])
    tool.communicate(timeout=DEADLINE_S)
    assert net.state() == left
    tool, _ = net.setup(VIPS[0])
    net.settle(tool)
    net.undo(tool)
    assert net.state() == before


@pytest.mark.parametrize("text", ["", "address\n", "address 203.0.113.256\n", "setting /proc/sys/net/ipv4/conf/eth0/arp_ignore\n",
                                  "setting /proc/sys/net/ipv4/conf/../ip_forward 1 0\n", "address 203.0.113.9", "\0\n" * 99,
                                  "x" * 70000])
def test_a_record_that_makes_no_sense_says_nothing(net, text):
    before = net.state()
    with open(net.record, "w") as f:
        f.write(text)
    tool, answer = net.setup(VIPS[1])
    assert answer == "ready"
    assert net.state() == (["203.0.113.11/32"], [1, 2, 0])
    net.undo(tool)
    assert net.state() == before


def test_a_record_that_cannot_be_written_is_said(net):
    net.record = "/proc/self/record"
    tool, answer = net.setup(VIPS[1])
    assert answer == "ready"
    assert tool.communicate(timeout=DEADLINE_S)[1] == (
        "/proc/self/record: cannot be written (No such file or directory): what is set up now stays if the agent is killed\n")
    assert net.addresses() == []


def test_a_failure_leaves_nothing_changed_and_names_its_object(net):
    before = net.state()
    tool, answer = net.setup(*VIPS, interfaces="eth0,eth7")
    assert answer == "ENOENT"
    assert tool.communicate()[1] == "interface eth7: arp_ignore cannot be set to 1 (No such file or directory)\n"
    assert net.state() == before
    tool, answer = net.setup(VIPS[0], "ff0e::1", VIPS[1])
    assert answer == "EADDRNOTAVAIL"
    assert tool.communicate()[1] == "vip ff0e::1: cannot be put on lo (Cannot assign requested address)\n"
    assert net.state() == before
