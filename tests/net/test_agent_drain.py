# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A backend's host takes itself out of service: its agent's answers say so, and one command waits for the last connection.

The balancer's host has no controller in most of these; it plays the client, with routes to the VIPs on gpu1.
"""
import os
import signal
import socket
import subprocess

import pytest

from conftest import BUILD
from topology import VIP4, VIP6, wait_for

PORT = 8005
SERVER = f"""
import asyncio, socket
async def hold(reader, writer):
    await reader.read()
    writer.close()
async def main():
    s = socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
    server = await asyncio.start_server(hold, sock=s)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
CLIENT = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
print("open", flush=True)
sys.stdin.readline()
"""


class Agent:
    def __init__(self, path):
        self.path = path

    def argv(self, *words):
        return [BUILD / "shunt-agent", "-s", self.path, *words]

    def run(self, *words):
        return subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=60)

    def standing(self):
        """The first line of its status."""
        return self.run("status").stdout.splitlines()[0]

    def connections(self):
        return int(self.run("status").stdout.split()[1])


@pytest.fixture(scope="module")
def host(cluster):
    """gpu1, which serves on all of its addresses, with ways to its VIPs from the balancer."""
    gpu1 = cluster.backends[0]
    server = gpu1.start("holder", "/usr/bin/python3", "-c", SERVER)
    cluster.balancer.ip(f"route add {VIP4}/32 via {gpu1.ipv4}", f"route add {VIP6}/128 via {gpu1.ipv6}")
    wait_for(lambda: "ready" in cluster.log("holder"), "the server on gpu1")
    yield gpu1
    cluster.balancer.ip(f"route del {VIP4}/32", f"route del {VIP6}/128")
    server.terminate()
    server.wait()


@pytest.fixture
def agent(cluster, host):
    """The agent of gpu1, in service again afterwards."""
    agent = Agent(cluster.agent_socket(host))
    yield agent
    agent.run("undrain")


@pytest.fixture
def connect(cluster, host):
    """Opens a connection to an address on gpu1; returns its client, which closes when it is communicated with."""
    clients = []

    def start(address):
        argv = cluster.balancer.enter("/usr/bin/python3", "-c", CLIENT, address, PORT)
        clients.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert clients[-1].stdout.readline() == "open\n"
        return clients[-1]
    yield start
    for client in clients:
        if client.returncode is None:
            client.communicate("\n", timeout=30)


def test_status_counts_the_connections_of_the_vips_and_no_others(agent, host, connect):
    assert agent.standing() == "serving, 0 connections"
    connect(host.ipv4)
    connect(host.ipv6)
    assert agent.connections() == 0
    client = connect(VIP4)
    assert agent.standing() == "serving, 1 connection"
    connect(VIP6)
    assert agent.connections() == 2
    client.communicate("\n", timeout=30)
    wait_for(lambda: agent.connections() == 1, "the closed connection to be gone")


def test_drain_is_said_until_undrain(agent):
    assert agent.run("drain").stdout == agent.run("drain").stdout == "draining, 0 connections\n"
    assert agent.standing() == "draining, 0 connections"
    assert agent.run("undrain").stdout == "serving, 0 connections\n"
    assert agent.standing() == "serving, 0 connections"


def test_drain_waits_for_the_last_connection(agent, connect):
    clients = [connect(VIP4), connect(VIP6)]
    waiting = subprocess.Popen(agent.argv("drain", "--wait", "--deadline", "60s"), stdout=subprocess.PIPE, text=True)
    assert waiting.stdout.readline() == "draining, 2 connections\n"
    for client in clients:
        assert waiting.poll() is None
        client.communicate("\n", timeout=30)
    rest, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0 and rest.endswith("drained\n")
    assert agent.standing() == "draining, 0 connections"


def test_drain_ends_with_1_at_the_deadline_and_goes_on(agent, connect):
    connect(VIP4)
    done = agent.run("drain", "--wait", "--deadline", "1500ms")  # longer than none is waited for
    assert (done.returncode, done.stderr) == (1, "shunt-agent: the deadline came first: 1 connection left\n")
    assert agent.standing() == "draining, 1 connection"


def test_interrupted_wait_leaves_the_drain_on_and_says_so(agent, connect):
    connect(VIP4)
    waiting = subprocess.Popen(agent.argv("drain", "--wait"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waiting.stdout.readline()
    waiting.send_signal(signal.SIGINT)
    _, complaint = waiting.communicate(timeout=30)
    assert (waiting.returncode, complaint) == (-signal.SIGINT, "shunt-agent: goes on draining, 1 connection left\n")
    assert agent.standing() == "draining, 1 connection"


def test_wait_ends_when_somebody_undrains(agent, connect):
    connect(VIP4)
    waiting = subprocess.Popen(agent.argv("drain", "--wait"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waiting.stdout.readline()
    agent.run("undrain")
    _, complaint = waiting.communicate(timeout=30)
    assert (waiting.returncode, complaint) == (1, "shunt-agent: put back into service meanwhile\n")


@pytest.mark.parametrize("words", [
    ["milk"], ["drain", "drain"], ["undrain", "--wait"], ["drain", "--deadline", "10m"], ["drain", "--wait", "--deadline", "10"],
    ["drain", "--wait", "--deadline", "0s"], ["drain", "--wait", "--deadline"], ["--wait"], ["drain", "--milk"]], ids=" ".join)
def test_misuse_ends_with_2_and_changes_nothing(agent, words):
    done = agent.run(*words)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr
    if "10" in words:
        assert "such as 10m" in done.stderr
    assert agent.run("status").stdout.startswith("serving")


def test_absent_agent_is_named_by_its_socket(tmp_path):
    done = Agent(tmp_path / "agent.sock").run("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"shunt-agent: no agent runs: nobody answers on {tmp_path}/agent.sock\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stale:
        stale.bind(f"{tmp_path}/agent.sock")
    assert "nobody answers" in Agent(tmp_path / "agent.sock").run("drain").stderr


def test_agent_without_vips_cannot_be_waited_for(cluster, host):
    path = cluster.directory / "bare.sock"
    config = cluster.write("bare.yaml", f"interfaces: [lo]\npin: none\ncontrol: {{socket: {path}}}\n")
    bare = host.start("bare", BUILD / "shunt-agent", "-f", config)
    try:
        wait_for(lambda: "ready" in cluster.log("bare"), "an agent without VIPs")
        done = Agent(path).run("drain", "--wait")
        assert done.returncode == 1 and "knows no VIPs" in done.stderr
        assert Agent(path).standing() == "draining, 0 connections"
        found = subprocess.run([BUILD / "shunt-agent", "-f", config, "status"], capture_output=True, text=True)
        assert found.stdout.startswith("draining, 0 connections\n")  # found by its configuration too
    finally:
        bare.terminate()
        assert bare.wait(10) == 0
    assert not path.exists()


def test_second_agent_on_the_same_socket_is_refused(cluster, host, agent):
    config = cluster.write("second.yaml", f"interfaces: [lo]\npin: none\ncontrol: {{socket: {agent.path}}}\n")
    done = host.try_run(BUILD / "shunt-agent", "-f", config)
    assert done.returncode == 1
    assert done.stderr == f"shunt-agent: {agent.path}: another shunt-agent answers on this socket\n"
    assert agent.run("status").returncode == 0 and os.stat(agent.path).st_mode & 0o777 == 0o600


def test_hostile_clients_do_not_keep_the_agent_from_answering(agent):
    silent = []
    for i in range(40):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(str(agent.path))
        client.setblocking(False)
        if i % 2:
            client.send(os.urandom(1000))
        silent.append(client)
    assert agent.standing() == "serving, 0 connections"
    for client in silent:
        client.close()


def test_balancer_hears_of_a_drain_and_of_its_end(cluster, shuntd, agent, host):
    """AdminDown in the answers (RFC 7880 7.3.3): no new flow, though the host answers."""
    shuntd(cluster.config(interval="1ms"), host.name)
    agent.run("drain")
    cluster.wait_states(**{host.name: "draining"})
    shown, = cluster.shunt("backend", "show", host.name)
    assert (shown["verdict"], shown["draining"]) == ("asked", "asked")
    refused = subprocess.run([*cluster.shunt_argv(), "backend", "undrain", host.name], capture_output=True, text=True)
    assert refused.returncode == 1 and "shunt-agent undrain" in refused.stderr
    agent.run("undrain")
    cluster.wait_states(**{host.name: "up"})
