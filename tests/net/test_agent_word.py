# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the balancer makes of an agent that it can't read, or that has stopped talking to its own kernel side."""
import signal
import time

import pytest

from cluster import PYTHON, Cluster
from conftest import BUILD
from topology import stop, wait_for

# Answers probes as an agent whose layout has this version would: heartbeat.h says what is at its place in each of them.
# Each after so many more were received.
IMPOSTOR = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
s.bind(("", 7784))
print("ready", flush=True)
waiting = []
while True:
    waiting.append(s.recvfrom(2048))
    if len(waiting) <= int(sys.argv[2]):
        continue
    probe, peer = waiting.pop(0)
    mine, yours = struct.unpack_from("!II", probe, 4)
    trailer = bytearray(probe[24:])
    trailer[4] = int(sys.argv[1])
    trailer[5] = 5  # were it of our version: dead
    s.sendto(struct.pack("!BBBBII", 1 << 5, 3 << 6, 3, 24, yours, mine) + probe[12:24] + bytes(trailer), peer)
"""


@pytest.fixture(scope="module")
def cluster():
    """gpu1 has an agent, gpu2 none of its own."""
    with Cluster("shunt-word", BUILD, n_backends=2) as c:
        c.agents = {"gpu1": c.start_agent(c.backends[0])}
        yield c


def probe(cluster, name):
    return cluster.shunt("probe", "show", name)[0]


def impostor(cluster, version, n_after=0):
    name = f"impostor-{version}-{n_after}"
    process = cluster.backends[1].start(name, PYTHON, "-c", IMPOSTOR, version, n_after)
    wait_for(lambda: "ready" in cluster.log(name), "the impostor")
    return process


def test_agent_of_another_version_is_named_once_and_its_host_serves(cluster, shuntd):
    stranger = impostor(cluster, 2)
    try:
        begun_ns = time.monotonic_ns()
        shuntd(cluster.config(interval="10ms"))
        said = wait_for(lambda: cluster.events(begun_ns, name="gpu2", what="agent of another version"), "the event")
        shown = probe(cluster, "gpu2")
        wait_for(lambda: probe(cluster, "gpu2")["answers"] > shown["answers"] + 10, "more answers")
        assert len(cluster.events(begun_ns, what="agent of another version")) == len(said) == 1
        assert said[0]["evidence"] == {"agent_version": 2, "our_version": 1}
        assert (shown["agent_version"], shown["engine"], shown["full"]) == (2, "unknown", None)
        assert cluster.states()["gpu2"] == "up"
    finally:
        stop(stranger)
    again = impostor(cluster, 1)
    try:
        wait_for(lambda: cluster.events(begun_ns, name="gpu2", what="agent of our version again"), "the event")
    finally:
        stop(again)


def test_old_word_of_an_agent_is_named_once_and_so_is_its_end(cluster, shuntd):
    begun_ns, agent = time.monotonic_ns(), cluster.agents["gpu1"]
    shuntd(cluster.config(interval="10ms"), "gpu1")
    agent.send_signal(signal.SIGSTOP)
    try:
        said = wait_for(lambda: cluster.events(begun_ns, name="gpu1", what="agent's word is old"), "the event", 20)[0]
        assert said["evidence"]["agent_age_ms"] >= 5000
        assert cluster.states()["gpu1"] == "up"
    finally:
        agent.send_signal(signal.SIGCONT)
    wait_for(lambda: cluster.events(begun_ns, name="gpu1", what="agent's word is fresh"), "the event")
    assert len([e for e in cluster.events(begun_ns, name="gpu1") if "word" in e["what"]]) == 2


def test_answers_that_come_after_64_rounds_are_named_once_and_so_is_their_end(cluster, shuntd):
    far = impostor(cluster, 1, 5)  # probes to who is down are 16 rounds apart
    begun_ns = time.monotonic_ns()
    try:
        shuntd(cluster.config(interval="2ms"), "gpu1")
        wait_for(lambda: cluster.events(begun_ns, name="gpu2", what="answers come too late"), "the event")
        shown = probe(cluster, "gpu2")
        assert shown["state"] == "down" and shown["too_late"] >= 16
    finally:
        stop(far)
    near = impostor(cluster, 2)
    try:
        wait_for(lambda: cluster.events(begun_ns, name="gpu2", what="answers come in time"), "the event")
        assert len([e for e in cluster.events(begun_ns, name="gpu2") if e["what"].startswith("answers come")]) == 2
    finally:
        stop(near)
