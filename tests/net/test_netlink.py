# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What user/shuntd/netlink.c says about the way to an address, against the real kernel.

A balancer's namespace `lb` has eth0 and eth1, each a veth to a host's namespace (`h0`, `h1`). tests/lib/netlink_tool
runs in `lb`, prints the ways at once and again at each change that it is told of.
"""

import json
import os
import select
import signal
import subprocess
import time

import pytest

TOOL = os.path.join(os.environ.get("SHUNT_BUILD", "build"), "tests", "lib", "netlink_tool")
DEADLINE_S = 30
MAC = {"h0": "02:00:00:00:00:02", "h1": "02:00:00:00:01:02", "eth0": "02:00:00:00:00:01", "eth1": "02:00:00:00:01:01"}
USABLE_STATES = ("stale", "delay", "reachable", "probe", "permanent")


def run(*words, check=True):
    return subprocess.run(" ".join(words).split(), check=check, capture_output=True, text=True).stdout


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)
    return value


class Net:
    """lb with eth0 (10.0.0.1, fd00::1) towards h0 (.2, ::2) and eth1 (10.0.1.1, fd01::1) towards h1."""

    def __init__(self):
        self.prefix = f"nl{os.getpid()}-"
        self.tools = []

    def build(self):
        for name in ("lb", "h0", "h1"):
            run("ip netns add", self.prefix + name)
            self.write(name, "/proc/sys/net/ipv6/conf/all/accept_dad", 0)
            self.write(name, "/proc/sys/net/ipv6/conf/default/accept_dad", 0)
            self.ip(name, "link set lo up")
        for i in (0, 1):
            self.ip("lb", f"link add eth{i} address {MAC[f'eth{i}']} type veth peer name eth0 address {MAC[f'h{i}']}"
                    f" netns {self.prefix}h{i}")
            self.ip("lb", f"addr add 10.0.{i}.1/24 dev eth{i}")
            self.ip(f"h{i}", f"addr add 10.0.{i}.2/24 dev eth0")
            self.ip("lb", f"addr add fd0{i}::1/64 dev eth{i} nodad")
            self.ip(f"h{i}", f"addr add fd0{i}::2/64 dev eth0 nodad")
            self.ip(f"h{i}", "addr add fe80::2/64 dev eth0 nodad")
            self.ip("lb", f"link set eth{i} up")
            self.ip(f"h{i}", "link set eth0 up")
        for i in (0, 1):
            self.wait_running("lb", f"eth{i}")

    def close(self):
        try:
            for tool in self.tools:
                tool.close()
        finally:
            for name in ("lb", "h0", "h1"):
                run("ip netns del", self.prefix + name, check=False)

    def ip(self, name, words):
        return run("ip -n", self.prefix + name, words)

    def exec(self, name, words, check=True):
        return run("ip netns exec", self.prefix + name, words, check=check)

    def write(self, name, path, value):
        subprocess.run(["ip", "netns", "exec", self.prefix + name, "tee", path], input=f"{value}\n", text=True,
                       check=True, stdout=subprocess.DEVNULL)

    def batch(self, name, lines):
        subprocess.run(["ip", "-n", self.prefix + name, "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                       check=True)

    def is_running(self, name, dev):
        return "LOWER_UP" in json.loads(self.ip(name, f"-j link show dev {dev}"))[0]["flags"]

    def wait_running(self, name, dev):
        wait_for(lambda: self.is_running(name, dev), f"{name}: {dev} has a carrier")

    def received(self, name):
        """Frames that the host's eth0 has received."""
        return json.loads(self.ip(name, "-j -s link show dev eth0"))[0]["stats64"]["rx"]["packets"]

    def without_ipv6(self):
        """So that nothing but IPv4 and ARP is on the wire."""
        for name, dev in (("lb", "eth0"), ("h0", "eth0")):
            self.write(name, f"/proc/sys/net/ipv6/conf/{dev}/disable_ipv6", 1)

    def tool(self, *addresses, options=""):
        tool = Tool(self.prefix + "lb", addresses, options)
        self.tools.append(tool)
        return tool


class Tool:
    """netlink_tool resolve: `line` is the newest line it printed, `changes` the changes it was told of."""

    def __init__(self, namespace, addresses, options):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, TOOL, "resolve", *options.split(), *addresses],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.stopped = False
        self.pending = b""
        self.lines = []
        self.until(lambda ways: True)

    @property
    def changes(self):
        return self.lines[-1]["changes"]

    def read(self, timeout_s):
        if select.select([self.process.stdout], [], [], timeout_s)[0]:
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, "netlink_tool ended"
            *whole, self.pending = (self.pending + data).split(b"\n")
            self.lines += [json.loads(line) for line in whole]

    def until(self, condition):
        """Wait for a line whose ways fulfil the condition; the first way is returned."""
        deadline = time.monotonic() + DEADLINE_S
        while not (self.lines and condition(self.lines[-1]["ways"])):
            assert time.monotonic() < deadline, f"never printed; the newest lines: {self.lines[-3:]}"
            self.read(0.1)
        return self.lines[-1]["ways"][0]

    def until_error(self, error):
        return self.until(lambda ways: ways[0]["error"] == error)

    def until_way(self, **fields):
        return self.until(lambda ways: all(ways[0].get(k) == v for k, v in fields.items()))

    def sockets(self):
        """(bytes waiting, messages dropped) of the tool's rtnetlink sockets."""
        with open(f"/proc/{self.process.pid}/net/netlink") as f:
            rows = [line.split() for line in f.readlines()[1:]]
        mine = [row for row in rows if row[1] == "0" and int(row[3], 16)]  # NETLINK_ROUTE, member of a group
        return sum(int(row[4]) for row in mine), sum(int(row[8]) for row in mine)

    def drain(self):
        """Wait until it has read every event there was, and read what it printed about them."""
        wait_for(lambda: self.sockets()[0] == 0, "the tool reads its events")
        self.read(0)

    def stop(self):
        self.stopped = True
        self.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", "it stops")

    def go_on(self):
        self.stopped = False
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.stopped:
            self.go_on()
        self.process.stdin.close()
        try:
            assert self.process.wait(DEADLINE_S) == 0
        finally:
            self.process.stdout.close()
            self.process.kill()
            self.process.wait()


@pytest.fixture
def net():
    n = Net()
    try:
        n.build()
        yield n
    finally:
        n.close()


def test_a_neighbour_is_found_without_sending_data(net):
    net.without_ipv6()
    tool = net.tool("10.0.0.2")
    way = tool.until_error("")
    del way["ifindex"]
    assert way == {"address": "10.0.0.2", "error": "", "dev": "eth0", "on_link": True, "mtu": 1500, "local": "10.0.0.1",
                   "dst_mac": MAC["h0"], "src_mac": MAC["eth0"]}
    snmp = [line.split() for line in net.exec("h0", "cat /proc/net/snmp").splitlines() if line.startswith("Ip:")]
    assert dict(zip(*snmp))["InReceives"] == "0", "only ARP may have been sent"


def test_an_ipv6_neighbour_is_found(net):
    tool = net.tool("fd00::2")
    way = tool.until_error("")
    assert (way["dev"], way["dst_mac"], way["local"], way["on_link"]) == ("eth0", MAC["h0"], "fd00::1", True)


def test_a_changed_mac_is_told(net):
    tool = net.tool("10.0.0.2", "fd00::2")
    tool.until(lambda ways: not any(way["error"] for way in ways))
    net.ip("lb", "neigh replace 10.0.0.2 lladdr 02:00:00:00:aa:01 nud reachable dev eth0")
    tool.until_way(dst_mac="02:00:00:00:aa:01")
    net.ip("lb", "neigh replace fd00::2 lladdr 02:00:00:00:aa:02 nud reachable dev eth0")
    tool.until(lambda ways: ways[1]["dst_mac"] == "02:00:00:00:aa:02")
    net.ip("lb", "link set eth0 address 02:00:00:00:aa:03")
    tool.until(lambda ways: all(way.get("src_mac") == "02:00:00:00:aa:03" for way in ways))


def test_a_silent_neighbour_is_lost_and_found_again_without_a_storm(net):
    net.without_ipv6()
    for name, value in (("mcast_solicit", 3), ("ucast_solicit", 1), ("retrans_time_ms", 100)):
        net.write("lb", f"/proc/sys/net/ipv4/neigh/eth0/{name}", value)
    tool = net.tool("10.0.0.2")
    tool.until_error("")
    net.ip("h0", "link set eth0 arp off")
    net.ip("lb", f"neigh replace 10.0.0.2 lladdr {MAC['h0']} nud probe dev eth0")
    tool.until_error("EHOSTUNREACH")

    # It is asked for again and again, at the kernel's pace: one solicitation each retrans_time.
    begin, n = time.monotonic(), net.received("h0")
    wait_for(lambda: net.received("h0") >= n + 10, "ten more solicitations: three times it was given up")
    n = net.received("h0") - n
    assert n <= (time.monotonic() - begin) / 0.1 * 1.5 + 6
    tool.drain()
    assert [line["ways"][0]["error"] for line in tool.lines][-2:] == ["", "EHOSTUNREACH"], "repetition is not a change"

    net.ip("h0", "link set eth0 arp on")
    assert tool.until_error("")["dst_mac"] == MAC["h0"]


def test_a_deleted_neighbour_is_found_again(net):
    tool = net.tool("10.0.0.2")
    tool.until_error("")
    net.ip("lb", "neigh del 10.0.0.2 dev eth0")
    wait_for(lambda: MAC["h0"] in net.ip("lb", "neigh show 10.0.0.2 dev eth0"), "the entry is there again")
    tool.until_error("")


def test_a_route_moved_to_another_interface_is_followed(net):
    net.ip("lb", "route add 10.9.0.0/24 via 10.0.0.2")
    net.ip("lb", "-6 route add fd09::/64 via fd00::2")
    tool = net.tool("10.9.0.7", "fd09::7")
    tool.until(lambda ways: all(way.get("dst_mac") == MAC["h0"] and not way["on_link"] for way in ways))
    net.ip("lb", "route replace 10.9.0.0/24 via 10.0.1.2")
    net.ip("lb", "-6 route replace fd09::/64 via fd01::2")
    tool.until(lambda ways: all(way.get("dst_mac") == MAC["h1"] and way["dev"] == "eth1" for way in ways))
    assert [way["local"] for way in tool.lines[-1]["ways"]] == ["10.0.1.1", "fd01::1"]
    assert [way["src_mac"] for way in tool.lines[-1]["ways"]] == [MAC["eth1"]] * 2


def test_the_longest_prefix_and_policy_rules_are_the_kernels(net):
    net.ip("lb", "route add 10.9.0.0/16 via 10.0.0.2")
    tool = net.tool("10.9.0.7")
    tool.until_way(dev="eth0")
    net.ip("lb", "route add 10.9.0.0/28 via 10.0.1.2")
    tool.until_way(dev="eth1")
    net.ip("lb", "route add default via 10.0.0.2 table 100")
    net.ip("lb", "rule add to 10.9.0.7 lookup 100")
    tool.until_way(dev="eth0")
    net.ip("lb", "rule del to 10.9.0.7 lookup 100")
    tool.until_way(dev="eth1")
    net.ip("lb", "route del 10.9.0.0/28 via 10.0.1.2")
    tool.until_way(dev="eth0")
    net.ip("lb", "route del 10.9.0.0/16 via 10.0.0.2")
    tool.until_error("ENETUNREACH")


def test_a_nexthop_object_that_is_replaced_is_followed(net):
    net.ip("lb", "nexthop add id 7 via 10.0.0.2 dev eth0")
    net.ip("lb", "route add 10.9.0.0/24 nhid 7")
    tool = net.tool("10.9.0.7")
    tool.until_way(dst_mac=MAC["h0"])
    net.ip("lb", "nexthop replace id 7 via 10.0.1.2 dev eth1")
    tool.until_way(dst_mac=MAC["h1"])


def test_a_link_local_gateway_works(net):
    net.ip("lb", "-6 route add fd09::/64 via fe80::2 dev eth1")
    tool = net.tool("fd09::7")
    assert tool.until_error("")["dst_mac"] == MAC["h1"]
    net.ip("lb", "-6 route replace fd09::/64 via fe80::2 dev eth0")
    assert tool.until_way(dev="eth0", error="")["dst_mac"] == MAC["h0"]


def test_an_ipv4_route_by_an_ipv6_gateway_works(net):
    net.ip("lb", "route add 10.9.0.0/24 via inet6 fe80::2 dev eth1")
    way = net.tool("10.9.0.7").until_error("")
    assert (way["dst_mac"], way["local"], way["on_link"]) == (MAC["h1"], "10.0.1.1", False)


def test_the_mtu_is_the_smaller_of_route_and_link(net):
    net.ip("lb", "route add 10.9.0.0/24 via 10.0.0.2 mtu 1400")
    net.ip("lb", "-6 route add fd09::/64 via fd00::2 mtu 1350")
    tool = net.tool("10.9.0.7", "fd09::7", "10.0.0.2")

    def mtus(*expected):
        tool.until(lambda ways: [way.get("mtu") for way in ways] == list(expected))

    mtus(1400, 1350, 1500)
    net.ip("lb", "link set eth0 mtu 9000")
    mtus(1400, 1350, 9000)
    net.ip("lb", "link set eth0 mtu 1300")
    mtus(1300, 1300, 1300)
    net.ip("lb", "link set eth0 mtu 1500")
    net.ip("lb", "route change 10.9.0.0/24 via 10.0.0.2 mtu 1450")
    net.ip("lb", "-6 route replace fd09::/64 via fd00::2 mtu 1350")
    mtus(1450, 1350, 1500)


def test_an_interface_going_down_and_up_is_followed(net):
    tool = net.tool("10.0.0.2")
    tool.until_error("")
    net.ip("lb", "link set eth0 down")
    tool.until_error("ENETUNREACH")
    net.ip("lb", "link set eth0 up")
    assert tool.until_error("")["dst_mac"] == MAC["h0"]


def test_a_lost_carrier_is_followed(net):
    tool = net.tool("10.0.0.2", "fd00::2")
    tool.until(lambda ways: not any(way["error"] for way in ways))
    net.ip("h0", "link set eth0 down")
    tool.until_error("ENETDOWN")
    net.ip("h0", "link set eth0 up")
    tool.until_error("")


def test_a_deleted_interface_is_followed(net):
    tool = net.tool("10.0.0.2")
    tool.until_error("")
    net.ip("lb", "link del eth0")
    tool.until_error("ENETUNREACH")


def test_an_address_that_is_removed_changes_source_or_route(net):
    net.ip("lb", "addr add 10.0.5.1/32 dev eth0")
    net.ip("lb", "route replace 10.9.0.0/24 via 10.0.0.2 src 10.0.5.1")
    net.ip("lb", "route add 10.9.0.0/16 via 10.0.0.2 metric 50")
    tool = net.tool("10.9.0.7", "fd00::2")
    tool.until_way(local="10.0.5.1")
    net.ip("lb", "addr del 10.0.5.1/32 dev eth0")  # takes the route that names it
    tool.until_way(local="10.0.0.1")
    tool.until(lambda ways: ways[1].get("local") == "fd00::1")
    net.ip("lb", "addr del fd00::1/64 dev eth0")
    tool.until(lambda ways: ways[1]["error"] == "ENETUNREACH")
    net.ip("lb", "addr del 10.0.0.1/24 dev eth0")
    tool.until_error("ENETUNREACH")


@pytest.mark.parametrize("address", ["10.91.0.1", "10.92.0.1", "10.93.0.1", "10.94.0.1", "10.95.0.1", "10.0.0.1",
                                     "127.0.0.1", "10.0.0.255", "224.0.0.5", "fd91::1", "fd92::1", "fd93::1", "fd95::1",
                                     "fd00::1", "::1", "ff0e::5"])
def test_an_address_that_cannot_be_reached_is_refused(net, address):
    for family, prefix in (("", "10.9{}.0.0/24"), ("-6", "fd9{}::/64")):
        for i, kind in ((1, "blackhole"), (2, "unreachable"), (3, "prohibit"), (4, "throw")):
            net.ip("lb", f"{family} route add {kind} " + prefix.format(i))
    assert net.tool(address).lines[0]["ways"] == [{"address": address, "error": "ENETUNREACH"}]


def test_an_interface_without_ethernet_is_refused(net):
    net.ip("lb", "tuntap add tun0 mode tun")
    net.ip("lb", "addr add 10.0.7.1/24 dev tun0")
    net.ip("lb", "link set tun0 up")
    assert net.tool("10.0.7.2").lines[0]["ways"][0]["error"] == "EOPNOTSUPP"


def test_events_that_change_no_answer_are_not_told(net):
    tool = net.tool("10.0.0.2", "fd00::2")
    tool.until(lambda ways: not any(way["error"] for way in ways))
    tool.drain()
    before = tool.changes
    for state in USABLE_STATES * 3:
        for address in ("10.0.0.2", "fd00::2"):
            net.ip("lb", f"neigh replace {address} lladdr {MAC['h0']} nud {state} dev eth0")
            tool.drain()
    net.ip("lb", "neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 dev eth0")
    net.ip("lb", f"neigh add 10.0.0.2 lladdr {MAC['h1']} dev eth1")
    net.ip("lb", "route add 10.77.0.0/16 via 10.0.0.77")
    net.ip("lb", "addr add 10.77.0.1/32 dev eth1")
    net.ip("lb", "link set eth1 mtu 1400")
    tool.drain()
    net.ip("lb", "neigh replace 10.0.0.2 lladdr 02:00:00:00:aa:01 nud permanent dev eth0")
    tool.until_way(dst_mac="02:00:00:00:aa:01")
    assert tool.changes == before + 1


def burst(n_neighbours, last_mac, all_along):
    """Many other neighbours, then the watched one's MAC last_mac; before, others for it all along."""
    lines = []
    for i in range(n_neighbours):
        lines.append(f"neigh replace 10.0.{4 + i // 250}.{1 + i % 250} lladdr 02:00:00:01:{i // 256:02x}:{i % 256:02x}"
                     " nud permanent dev eth0")
        if all_along and i % 10 == 0:
            mac = f"02:00:00:02:{i // 256:02x}:{i % 256:02x}"
            lines.append(f"neigh replace 10.0.0.2 lladdr {mac} nud permanent dev eth0")
    return lines + [f"neigh replace 10.0.0.2 lladdr {last_mac} nud permanent dev eth0"]


def test_a_burst_of_events_is_one_change(net):
    tool = net.tool("10.0.0.2", "10.0.1.2")
    tool.until(lambda ways: not any(way["error"] for way in ways))
    tool.drain()
    before = tool.changes
    tool.stop()
    net.batch("lb", burst(2000, "02:00:00:00:aa:01", all_along=True))
    tool.go_on()
    tool.until_way(dst_mac="02:00:00:00:aa:01")
    assert tool.sockets()[1] == 0, "nothing was lost"
    net.ip("lb", "neigh replace 10.0.1.2 lladdr 02:00:00:00:aa:02 nud permanent dev eth1")
    tool.until(lambda ways: ways[1]["dst_mac"] == "02:00:00:00:aa:02")
    assert tool.changes == before + 2


def test_lost_events_are_made_up_for(net):
    tool = net.tool("10.0.0.2", "10.0.1.2", options="--rcvbuf 4096")
    tool.until(lambda ways: not any(way["error"] for way in ways))
    tool.drain()
    tool.stop()
    net.batch("lb", burst(2000, "02:00:00:00:aa:01", all_along=False))
    net.ip("lb", "link set eth1 mtu 1400")
    assert tool.sockets()[1] > 1000, "events were lost"
    tool.go_on()
    tool.until_way(dst_mac="02:00:00:00:aa:01")
    assert tool.lines[-1]["ways"][1]["mtu"] == 1400
    net.ip("lb", "neigh replace 10.0.1.2 lladdr 02:00:00:00:aa:02 nud permanent dev eth1")
    tool.until(lambda ways: ways[1]["dst_mac"] == "02:00:00:00:aa:02")


def test_a_family_counts_only_with_an_address_that_other_networks_can_use(net):
    def has(dev, family):
        return net.exec("lb", f"{TOOL} family {dev} {family}").strip()

    assert (has("eth0", 4), has("eth0", 6)) == ("yes", "yes")
    net.ip("lb", "addr del fd00::1/64 dev eth0")
    net.ip("lb", "addr add fe80::77/64 dev eth0 nodad")
    assert (has("eth0", 4), has("eth0", 6)) == ("yes", "no")
    net.ip("lb", "addr flush dev eth1")
    net.ip("lb", "addr add 169.254.7.1/16 dev eth1 scope link")
    assert (has("eth1", 4), has("eth1", 6)) == ("no", "no")
    assert (has("lo", 4), has("lo", 6), has("none0", 4)) == ("no", "no", "no")
