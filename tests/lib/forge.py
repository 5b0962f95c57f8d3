#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packets that nobody's kernel would send: what an attacker forges, and what comes back to him. IPv4.

  forge.py SECONDS    on the attacker's host: sends the IPv4 packets that standard input has, one a line in hex, and prints
                      what comes from their destinations in the next SECONDS: one JSON line for each TCP segment
                      {"source", "destination", "flags", "seq", "ack"}, addresses as "A:P", flags as in "SA"
  forge.py SECONDS INTERFACE    on the way: prints the newest heartbeat of these SECONDS from and to each address and port, as
                      frames in hex, one a line
  forge.py SECONDS INTERFACE PORT    the same of all UDP datagrams from or to this port
"""
import ipaddress
import json
import select
import socket
import struct
import sys
import time

FLAGS = "FSRPA"  # from the lowest bit (RFC 9293 3.1)
ETH_P_IP = 0x0800


def checksum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def address(text):
    """"A:P" or "A,P" as (4 bytes, port)."""
    host, port = text.replace(",", ":").rsplit(":", 1)
    return ipaddress.IPv4Address(host).packed, int(port)


def ipv4(source, destination, protocol, payload):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0, source, destination)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def tcp(source, destination, flags, seq=0, ack=0, data=b""):
    """A segment from "A:P" to "A:P" as an IPv4 packet."""
    (a, sport), (b, dport) = address(source), address(destination)
    bits = sum(1 << FLAGS.index(f) for f in flags)
    segment = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xffffffff, ack & 0xffffffff, 5 << 4, bits, 64240, 0, 0) + data
    check = checksum(a + b + struct.pack("!HH", socket.IPPROTO_TCP, len(segment)) + segment)
    return ipv4(a, b, socket.IPPROTO_TCP, segment[:16] + struct.pack("!H", check) + segment[18:])


def udp(source, destination, data):
    """A datagram from "A:P" to "A:P" as an IPv4 packet; UDP's checksum is left out, as it may be (RFC 768)."""
    (a, sport), (b, dport) = address(source), address(destination)
    return ipv4(a, b, socket.IPPROTO_UDP, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data)


def unreachable(router, quoted, code=1, mtu=0, to=None):
    """ICMP destination unreachable (code 4: fragmentation needed) from a router's address, about a packet; to its source."""
    to = ipaddress.IPv4Address(to).packed if to else quoted[12:16]
    body = struct.pack("!BBHHH", 3, code, 0, 0, mtu) + quoted[:28]
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ipv4(ipaddress.IPv4Address(router).packed, to, socket.IPPROTO_ICMP, body)


def send(host, packets, seconds=0.3):
    """Let a Host of the topology send them; the segments that came back."""
    lines = "".join(p.hex() + "\n" for p in packets)
    return [json.loads(line) for line in host.run("/usr/bin/python3", __file__, seconds, text=lines).splitlines()]


# ---- heartbeats (include/shunt/heartbeat.h) ----

HEARTBEAT_PORTS = {7784, 3785}
PROBE = 14 + 20 + 8  # where it begins in a frame
ENGINE, ROUND, TAG = PROBE + 29, PROBE + 32, PROBE + 64


def ports(frame):
    """Source and destination of UDP over IPv4 without options; None: it is something else."""
    if frame[12:14] != struct.pack("!H", ETH_P_IP) or len(frame) < PROBE or (frame[14], frame[23]) != (0x45, socket.IPPROTO_UDP):
        return None
    return struct.unpack("!HH", frame[34:38])


def overhear(host, interface, seconds=0.3):
    """Heartbeats that pass this interface, by (Ethernet source, destination)."""
    lines = host.run("/usr/bin/python3", __file__, seconds, interface).split()
    return {(f[6:12].hex(":"), f[:6].hex(":")): f for f in map(bytes.fromhex, lines)}


def overhear_all(host, interface, port, seconds):
    """All UDP datagrams from or to this port that pass the interface, as (source, destination, data)."""
    frames = map(bytes.fromhex, host.run("/usr/bin/python3", __file__, seconds, interface, port).split())
    return [(*(f"{socket.inet_ntoa(f[26 + 4 * i:30 + 4 * i])}:{p}" for i, p in enumerate(ports(f))), f[42:]) for f in frames]


def alter(frame, **changes):
    """A heartbeat with other bytes: `at_N` are those from the N-th of the frame on; checksums follow."""
    for at, new in changes.items():
        at = int(at.removeprefix("at_"))
        frame = frame[:at] + new + frame[at + len(new):]
    ip, udp = frame[14:34], frame[34:40] + b"\0\0" + frame[42:]
    udp = udp[:6] + struct.pack("!H", checksum(ip[12:20] + struct.pack("!HH", ip[9], len(udp)) + udp) or 0xffff) + udp[8:]
    ip = ip[:10] + b"\0\0" + ip[12:]
    return frame[:14] + ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + udp


def listen(interface, seconds, port=None):
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL: what leaves is seen too
    ear.bind((interface, 0))
    deadline, heard = time.monotonic() + seconds, {}
    while (left := deadline - time.monotonic()) > 0:
        if select.select([ear], [], [], left)[0]:
            frame = ear.recv(2048)
            if (HEARTBEAT_PORTS if port is None else {port}) & set(ports(frame) or ()):
                heard[len(heard) if port else frame[:12]] = frame
    for frame in heard.values():
        print(frame.hex())


# ---- segments ----

def segment(frame):
    """The printed form of a TCP segment in an Ethernet frame; None: something else."""
    ip = frame[14:]
    if frame[12:14] != struct.pack("!H", ETH_P_IP) or len(ip) < 40 or ip[9] != socket.IPPROTO_TCP:
        return None
    l4 = ip[(ip[0] & 15) * 4:]
    sport, dport, seq, ack, _, bits = struct.unpack("!HHIIBB", l4[:14])
    return {"source": f"{socket.inet_ntoa(ip[12:16])}:{sport}", "destination": f"{socket.inet_ntoa(ip[16:20])}:{dport}",
            "flags": "".join(f for i, f in enumerate(FLAGS) if bits >> i & 1), "seq": seq, "ack": ack}


def main(seconds):
    packets = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    expected = {p[16:20] for p in packets}
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
    mouth = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for p in packets:
        mouth.sendto(p, (socket.inet_ntoa(p[16:20]), 0))
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([ear], [], [], left)[0]:
            frame = ear.recv(2048)
            heard = segment(frame)
            if heard and frame[26:30] in expected:
                print(json.dumps(heard))


if __name__ == "__main__":
    main(float(sys.argv[1])) if len(sys.argv) == 2 else listen(sys.argv[2], float(sys.argv[1]), *map(int, sys.argv[3:]))
