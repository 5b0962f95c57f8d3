# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Real connections through the real programs: who serves them, by which road, and what doesn't fit."""
import collections
import json

import pytest

from cluster import LIB, PORT, PYTHON
from topology import VIP4, VIP6, stop, wait_for

ROADS = {"ipip over IPv4": ("ipip", 4), "ipip over IPv6": ("ipip", 6), "l2": ("l2", 4)}
FAMILIES = {"4": VIP4, "6": VIP6}
CALM = "20ms"  # between probes, so that a busy machine ejects nobody here


@pytest.fixture(scope="module", params=ROADS.values(), ids=ROADS.keys())
def road(cluster, request):
    """The controller runs with each way of forwarding in turn."""
    cluster.start_shuntd(cluster.config(*request.param, interval=CALM))
    cluster.wait_states()
    return request.param


def served_by(answers):
    assert [a for a in answers if a["error"]] == []
    return collections.Counter(a["backend"] for a in answers)


@pytest.mark.parametrize("family", FAMILIES)
def test_tcp_connections_are_served_by_every_backend(cluster, road, family):
    assert set(served_by(cluster.ask(FAMILIES[family], 48))) == {b.name for b in cluster.backends}


@pytest.mark.parametrize("family", FAMILIES)
def test_datagrams_are_answered_by_every_backend(cluster, road, family):
    assert set(served_by(cluster.ask_udp(FAMILIES[family], 48))) == {b.name for b in cluster.backends}


@pytest.mark.parametrize("family", FAMILIES)
def test_flow_where_names_the_backend_that_answers(cluster, road, family):
    tcp, udp = cluster.ask(FAMILIES[family], 8), cluster.ask_udp(FAMILIES[family], 8)
    assert [cluster.where(a["port"], f"chat{family}") for a in tcp] == [a["backend"] for a in tcp]
    assert [cluster.where(a["port"], f"pulse{family}") for a in udp] == [a["backend"] for a in udp]


@pytest.mark.parametrize("family", FAMILIES)
def test_long_requests_arrive_whole(cluster, road, family):
    assert served_by(cluster.ask(FAMILIES[family], 8, body_bytes=200_000)).total() == 8


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sender_of_too_large_packets_is_told_the_size_that_fits(cluster, road, family):
    forward, outer = road
    outer_header = {"l2": 0, "ipip": 20 if outer == 4 else 40}[forward]
    send_full_size = """
import json, socket, sys
v6 = ":" in sys.argv[1]
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
level, discover, mtu = (socket.IPPROTO_IPV6, 23, 24) if v6 else (socket.IPPROTO_IP, 10, 14)  # linux/in.h, linux/in6.h
s.setsockopt(level, discover, 2)  # IP_PMTUDISC_DO
s.settimeout(5)
s.connect((sys.argv[1], int(sys.argv[2])))
payload = b"x" * (1500 - 28 - 20 * v6)
try:
    s.send(payload)
    s.recv(100)  # the engine's answer, or the ICMP error
except OSError:
    pass
print(json.dumps(s.getsockopt(level, mtu)))
"""
    for cache in ("-4", "-6"):
        cluster.client.run("ip", cache, "route", "flush", "cache")
    told = cluster.client.run(PYTHON, "-c", send_full_size, FAMILIES[family], PORT)
    assert json.loads(told) == 1500 - outer_header


@pytest.mark.parametrize("family", FAMILIES)
def test_an_icmp_error_reaches_the_backend_of_the_flow_it_quotes(cluster, road, family):
    """A backend's datagram to a closed port of the client comes back to its socket as an error."""
    send_to_closed_port = """
import socket, sys
vip, client, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((vip, int(sys.argv[4])))
s.connect((client, port))
s.settimeout(5)
s.send(b"anybody there?")
try:
    s.recv(1)
except OSError as e:
    print(type(e).__name__)
"""
    port = 20000  # nobody listens there
    backend = next(b for b in cluster.backends if b.name == cluster.where(port, f"pulse{family}"))
    client = cluster.client.ipv4 if family == "4" else cluster.client.ipv6
    assert backend.run(PYTHON, "-c", send_to_closed_port, FAMILIES[family], client, port, PORT) == "ConnectionRefusedError\n"


def test_packets_for_the_balancer_itself_are_left_to_it(cluster, road):
    engine = cluster.balancer.start("engine-balancer", PYTHON, LIB / "engine.py", "balancer", f"{cluster.balancer.ipv4}:{PORT}",
                                    f"[{cluster.balancer.ipv6}]:{PORT}")
    wait_for(lambda: "ready" in cluster.log("engine-balancer"), "the balancer's own server")
    assert served_by(cluster.ask(cluster.balancer.ipv4, 2) + cluster.ask(cluster.balancer.ipv6, 2)) == {"balancer": 4}
    stop(engine)


def test_every_packet_of_a_connection_is_counted_once(cluster, road):
    def counted():
        vips = {v["name"]: v for v in cluster.shunt("vip", "show")}
        return vips["chat4"]["new_flows"], sum(b["new_flows"] for b in cluster.shunt("backend", "show"))
    before = counted()
    served_by(cluster.ask(VIP4, 16))
    assert counted() == (before[0] + 16, before[1] + 16)


def test_a_vip_without_a_port_takes_every_port(cluster, shuntd):
    vips = "\n".join(f"  - {{name: all-{protocol}, address: {VIP4}, protocol: {protocol}, port: any, pool: gpus}}"
                     for protocol in ("tcp", "udp"))
    shuntd(cluster.config(vips=vips, interval=CALM))
    for port in (80, 8001, 8002):
        assert served_by(cluster.ask(VIP4, 8, port) + cluster.ask_udp(VIP4, 8, port)).total() == 16


def test_a_vip_with_a_port_takes_no_other(cluster, shuntd):
    shuntd(cluster.config(interval=CALM))
    assert {a["error"] for a in cluster.ask(VIP4, 2, 8001)} == {"TimeoutError"}


SEND_TUNNELLED = """
import socket, struct, sys
backend, inner, text = sys.argv[1:]
def checksum(b):
    total = sum(struct.unpack(f"!{len(b) // 2}H", b))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
udp = struct.pack("!HHHH", 20000, 9999, 8 + len(text), 0) + text.encode()  # no checksum: RFC 768
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton("10.0.0.1"), socket.inet_aton(inner))
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP)
s.sendto(ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + udp, (backend, 0))
"""
LISTEN = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 9999))
s.settimeout(10)
print("ready", flush=True)
print(s.recv(100).decode(), flush=True)
"""


def test_the_agent_takes_packets_out_of_a_tunnel_only_for_its_vips_and_from_its_balancers(cluster):
    """Else whoever reaches a backend could write its inner packets for it."""
    backend = cluster.backends[0]
    listener = backend.start("listener", PYTHON, "-c", LISTEN)
    wait_for(lambda: "ready" in cluster.log("listener"), "the listener")
    for host, inner, text in ((cluster.client, VIP4, "of-a-stranger"), (cluster.balancer, backend.ipv4, "not-for-a-vip"),
                              (cluster.balancer, VIP4, "good")):
        host.run(PYTHON, "-c", SEND_TUNNELLED, backend.ipv4, inner, text)
    assert listener.wait(10) == 0
    assert cluster.log("listener").split() == ["ready", "good"]  # the first to arrive was the last sent
