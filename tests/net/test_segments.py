# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a real client answers to the segments of user/core/segment.c, sent by user/shuntd/outlet.c.

Two namespaces: `server` has the VIP on its loopback, until it loses it and so falls silent; `client` connects to it.
tests/lib/segment_tool sends from the server's namespace as shuntd would, and a packet socket there sees every TCP segment
that the client sends.
"""

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

TOOL = os.path.join(os.environ.get("SHUNT_BUILD", "build"), "tests", "lib", "segment_tool")
DEADLINE_S = 20
PORT = 443
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SYN, RST, ACK = 2, 4, 16
FAMILIES = {
    4: (socket.AF_INET, "10.9.0.1", "10.9.0.2", "203.0.113.10", 24, 32),
    6: (socket.AF_INET6, "fd09::1", "fd09::2", "2001:db8:ff::10", 64, 128),
}


def run(*words):
    return subprocess.run(" ".join(map(str, words)).split(), check=True, capture_output=True, text=True).stdout


class Net:
    def __init__(self):
        self.prefix = f"seg{os.getpid()}-"
        self.sockets = []

    def build(self):
        for name in ("client", "server"):
            run("ip netns add", self.prefix + name)
        self.ip("client", "link add eth0 type veth peer name eth0 netns", self.prefix + "server")
        for _, server, client, vip, bits, host_bits in FAMILIES.values():
            nodad = "nodad" if bits == 64 else ""
            self.ip("client", f"addr add {client}/{bits} dev eth0", nodad)
            self.ip("server", f"addr add {server}/{bits} dev eth0", nodad)
        for name in ("client", "server"):
            self.ip(name, "link set lo up")
            self.ip(name, "link set eth0 up")
        for _, server, client, vip, bits, host_bits in FAMILIES.values():
            self.ip("client", f"route add {vip}/{host_bits} via {server}")
            self.ip("server", f"route add blackhole {vip}/{host_bits}")  # without the address: not a word
        self.sniffer = self.socket("server", socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))

    def close(self):
        for s in self.sockets:
            s.close()
        for name in ("client", "server"):
            subprocess.run(["ip", "netns", "del", self.prefix + name], stderr=subprocess.DEVNULL)

    def ip(self, name, *words):
        return run("ip -n", self.prefix + name, *words)

    def socket(self, name, *args):
        """A socket of that namespace: made by a thread that went there."""
        made = []

        def make():
            with open(f"/run/netns/{self.prefix}{name}") as netns:
                if ctypes.CDLL(None, use_errno=True).setns(netns.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.socket(*args))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        self.sockets.append(made[0])
        return made[0]

    def tool(self, what, family, client_port, isn):
        _, _, client, vip, _, _ = FAMILIES[family]
        run(f"nsenter --net=/run/netns/{self.prefix}server", TOOL, what, client, client_port, vip, PORT, isn)

    def segment(self, family, client_port, flags):
        """The client's next TCP segment with these flags, of all the flags: its sequence and acknowledgement numbers."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if not select.select([self.sniffer], [], [], 0.1)[0]:
                continue
            data, where = self.sniffer.recvfrom(2048)
            if where[2] != socket.PACKET_HOST or data[0] >> 4 != family or data[9 if family == 4 else 6] != 6:
                continue
            tcp = data[20 if family == 4 else 40:]
            source, _, seq, ack, _, seen = struct.unpack("!HHIIBB", tcp[:14])
            if source == client_port and seen == flags:
                return seq, ack
        raise AssertionError(f"the client sent no segment with flags {flags:#x} within {DEADLINE_S} s")

    def answer(self, family, client_port, isn):
        """The number that the client expects next, of the answer to a challenge: a bare ACK while nothing else happens."""
        while select.select([self.sniffer], [], [], 0)[0]:
            self.sniffer.recv(2048)  # from before
        self.tool("challenge", family, client_port, isn)
        seq, ack = self.segment(family, client_port, ACK)
        assert seq == (isn + 1 + len(b"a question")) % 2**32
        return ack

    @contextlib.contextmanager
    def vip(self, family):
        """While in it, the server has the VIP."""
        words = f"{FAMILIES[family][3]}/{FAMILIES[family][5]} dev lo"
        self.ip("server", "addr add", words, "nodad" if family == 6 else "")
        try:
            yield
        finally:
            self.ip("server", "addr del", words)

    @contextlib.contextmanager
    def connection(self, family):
        """An established connection whose server falls silent: the client's socket, its port, its first number."""
        af, _, _, vip, _, _ = FAMILIES[family]
        with self.socket("server", af, socket.SOCK_STREAM) as listener, self.socket("client", af, socket.SOCK_STREAM) as c:
            with self.vip(family):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((vip, PORT))
                listener.listen()
                c.settimeout(DEADLINE_S)
                c.connect((vip, PORT))
                port = c.getsockname()[1]
                isn, _ = self.segment(family, port, SYN)
                server, _ = listener.accept()
                c.sendall(b"a question")
                assert server.recv(100) == b"a question"
                server.sendall(b"half an answer")
                assert c.recv(100) == b"half an answer"
            with server:
                yield c, port, isn

    def reset(self, family, client_port, sequence):
        """What the walk answers to an orphan, here by hand: a RST with the number that the client expects."""
        af, _, client, vip, _, _ = FAMILIES[family]
        source, destination = (socket.inet_pton(af, a) for a in (vip, client))
        tcp = struct.pack("!HHIIBBHHH", PORT, client_port, sequence, 0, 5 << 4, RST, 0, 0, 0)
        words = source + destination + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp)) + tcp
        total = sum(struct.unpack(f"!{len(words) // 2}H", words))
        while total >> 16:
            total = (total & 0xffff) + (total >> 16)
        tcp = tcp[:16] + struct.pack("!H", ~total & 0xffff) + tcp[18:]
        if family == 4:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0)
        else:
            header = struct.pack("!IHBB", 6 << 28, len(tcp), socket.IPPROTO_TCP, 64)
        with self.socket("server", af, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(header + source + destination + tcp, (client, 0))


@pytest.fixture(scope="module")
def net():
    n = Net()
    try:
        n.build()
        yield n
    finally:
        n.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_silent_reader_answers_a_challenge_with_its_exact_state_and_can_be_reset(net, family):
    with net.connection(family) as (client, port, isn):
        net.reset(family, port, net.answer(family, port, isn))
        with pytest.raises(ConnectionResetError):
            client.recv(100)


@pytest.mark.parametrize("family", FAMILIES)
def test_challenge_alone_harms_no_connection(net, family):
    with net.connection(family) as (client, port, isn):
        net.answer(family, port, isn)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(100)


@pytest.mark.parametrize("family", FAMILIES)
def test_refusal_is_not_believed_by_an_established_client(net, family):
    with net.connection(family) as (client, port, isn):
        net.tool("refuse", family, port, isn)
        net.answer(family, port, isn)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(100)


@pytest.mark.parametrize("family", FAMILIES)
def test_client_whose_syn_nobody_answers_is_refused_at_once(net, family):
    af, _, _, vip, _, _ = FAMILIES[family]
    with net.socket("client", af, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        assert client.connect_ex((vip, PORT)) == errno.EINPROGRESS
        port = client.getsockname()[1]
        isn, _ = net.segment(family, port, SYN)
        net.tool("challenge", family, port, isn)  # means nothing to it
        net.tool("refuse", family, port, isn)
        assert select.select([], [client], [], DEADLINE_S)[1], "still connecting"
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


@pytest.mark.parametrize("family", FAMILIES)
def test_refusal_of_another_syn_is_not_believed(net, family):
    af, _, _, vip, _, _ = FAMILIES[family]
    with net.socket("client", af, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        assert client.connect_ex((vip, PORT)) == errno.EINPROGRESS
        port = client.getsockname()[1]
        isn, _ = net.segment(family, port, SYN)
        net.tool("refuse", family, port, (isn + 1) % 2**32)
        net.segment(family, port, SYN)  # it repeats its SYN, so it goes on
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
