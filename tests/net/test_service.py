# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the daemons tell the service manager: the test holds the socket that systemd would."""
import contextlib
import ctypes
import os
import signal
import socket
import time

import pytest

from cluster import Cluster
from conftest import BUILD
from topology import run, stop, wait_for

PATIENCE_S = 0.4  # of the watchdog


class Manager:
    """Takes what a service tells."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(path)
        self.heard = []

    def listen(self):
        """Everything until now, a list of assignments."""
        while True:
            try:
                self.heard += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard

    def forget(self):
        self.listen()
        self.heard = []

    def hear_life(self):
        for _ in range(3):
            self.forget()
            self.wait("WATCHDOG=1")

    def miss_life(self):
        """Until the manager would kill."""
        heard_s = time.monotonic()

        def is_over():
            nonlocal heard_s
            if "WATCHDOG=1" in self.listen():
                heard_s = time.monotonic()
            self.heard = []
            return time.monotonic() - heard_s > PATIENCE_S
        wait_for(is_over, "the watchdog to run out")

    def wait(self, what, seconds=10):
        wait_for(lambda: what in self.listen(), f"{what}, heard {self.heard}", seconds)


@pytest.fixture(scope="module")
def cluster():
    with Cluster("shunt-service", BUILD, n_backends=2) as c:
        c.start_backends()
        yield c


@pytest.fixture
def manager(cluster, monkeypatch):
    """Its environment is that of every daemon that the test starts."""
    path = cluster.directory / "notify"
    manager = Manager(str(path))
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", str(int(PATIENCE_S * 1e6)))
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield manager
    cluster.plug.plug(*[h.name for h in cluster.hosts])
    cluster.stop_shuntd()
    manager.socket.close()
    path.unlink()


def test_shuntd_is_ready_when_it_is_attached_and_says_how_many_are_up(cluster, manager):
    """And that it stops."""
    process = cluster.balancer.start("shuntd", BUILD / "shuntd", "-f", cluster.write("shunt.yaml", cluster.config(interval="1ms", multiplier=10, hold="20ms")))
    try:
        manager.wait("READY=1")
        assert cluster.socket.is_socket() and "xdp" in cluster.balancer.run("ip", "link", "show", "eth0")
        manager.wait("STATUS=2 backends, 2 up")
        cluster.plug.unplug("gpu1")
        manager.wait("STATUS=2 backends, 1 up")
        assert "STOPPING=1" not in manager.listen()
    finally:
        stop(process)
    assert manager.listen()[-1] == "STOPPING=1"


def test_reload_by_signal_is_told_from_its_begin_to_its_end(cluster, manager):
    process = cluster.start_shuntd(cluster.config(interval="1ms", multiplier=10, hold="20ms"))
    for config in (cluster.config(interval="2ms"), "this is no configuration"):
        manager.forget()
        cluster.write("shunt.yaml", config)
        process.send_signal(signal.SIGHUP)
        manager.wait("READY=1")
        told = [line for line in manager.heard if line in ("RELOADING=1", "READY=1")]
        assert told == ["RELOADING=1", "READY=1"]


def ptrace(request, thread):
    if ctypes.CDLL(None, use_errno=True).ptrace(request, thread, None, None):
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


@contextlib.contextmanager
def stopped(thread):
    """One thread of a process stands still: ptrace(2)."""
    seize, interrupt, detach = 0x4206, 0x4207, 17
    ptrace(seize, thread)
    ptrace(interrupt, thread)
    os.waitpid(thread, 0x40000000)  # __WALL
    try:
        yield
    finally:
        ptrace(detach, thread)


def prober_of(process):
    """The thread of shuntd that asks: the only one at real-time priority."""
    thread, = [t for t in map(int, os.listdir(f"/proc/{process.pid}/task")) if os.sched_getscheduler(t) == os.SCHED_FIFO]
    return thread


@pytest.mark.parametrize("thread", [lambda p: p.pid, prober_of], ids=["main loop", "prober"])
def test_sign_of_life_comes_while_loop_and_prober_move_and_only_then(cluster, manager, thread):
    process = cluster.start_shuntd(cluster.config(interval="1ms", multiplier=10, hold="20ms"))
    manager.hear_life()
    with stopped(thread(process)):
        manager.miss_life()
    manager.hear_life()


def test_agent_is_ready_when_it_answers_and_says_how_its_engine_is(cluster, manager):
    host = cluster.backends[0]
    stop(cluster.agents[host.name])
    cluster.agents[host.name] = agent = cluster.start_agent(host)
    manager.wait("READY=1")
    assert "xdp" in host.run("ip", "link", "show", "eth0") and cluster.agent_socket(host).is_socket()
    manager.wait("STATUS=serving")
    run(BUILD / "shunt-agent", "-s", cluster.agent_socket(host), "drain")
    manager.wait("STATUS=draining")
    manager.hear_life()
    with stopped(agent.pid):
        manager.miss_life()
    manager.hear_life()
    assert stop(agent) == 0 and manager.listen()[-1] == "STOPPING=1"
    manager.forget()
    cluster.agents[host.name] = cluster.start_agent(host)
    manager.wait("READY=1")


def test_without_a_manager_nobody_is_told(cluster, monkeypatch):
    """Nor with one that is gone, or one that wants to hear of another process."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(cluster.directory / "absent"))
    monkeypatch.setenv("WATCHDOG_USEC", "nonsense")
    cluster.start_shuntd(cluster.config(interval="1ms", multiplier=10, hold="20ms"))
    assert cluster.stop_shuntd() == 0
