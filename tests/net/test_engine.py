# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every way an engine can fail, with real processes: what its kernel and its agent say of it, and what the balancer does."""
import os
import pathlib
import signal
import subprocess
import time

import pytest

from cluster import LIB, PYTHON, Cluster
from conftest import BUILD
from topology import stop, wait_for

PORT = 8000
HOLD = "100ms"


@pytest.fixture(scope="module")
def cluster():
    """gpu1, whose engine each test brings along, and gpu2, where nobody watches an engine."""
    with Cluster("shunt-engine", BUILD, n_backends=2) as c:
        c.start_agent(c.backends[1])
        yield c


class Victim:
    """The engine on gpu1."""

    def __init__(self, host, *options):
        self.process = host.start("victim", PYTHON, LIB / "victim.py", PORT, *options, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        self.worker = int(self.process.stdout.readline().split()[1])

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def do(self, line):
        self.say(line)
        assert self.process.stdout.readline() == b"done\n"

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def end(self):
        self.process.kill()
        self.process.wait()


class Scene:
    """An agent with this `engine:` on gpu1, a controller, and victims, one after the other."""

    def __init__(self, cluster, shuntd):
        self.cluster, self.start_shuntd, self.victims, self.agent = cluster, shuntd, [], None

    def agent_start(self, engine):
        host = self.cluster.backends[0]
        self.agent = self.cluster.start_agent(host, f"engine: {engine}\n")
        wait_for(lambda: "ready: 1 interfaces" in self.log(), "the agent of gpu1")

    def log(self):
        return self.cluster.log("agent-gpu1")

    def victim(self, *options):
        self.victims.append(Victim(self.cluster.backends[0], *options))
        return self.victims[-1]

    def begin(self, engine=f"{{listen: {PORT}, worker_age: 0s}}", *options):
        """All of it, until both backends are up. The time then, and the engine."""
        victim = self.victim(*options)
        self.agent_start(engine)
        self.start_shuntd(self.cluster.config(interval="1ms", hold=HOLD))
        return time.monotonic_ns(), victim

    def down(self, since_ns, why="dead"):
        """The evidence of gpu1's fall."""
        event = wait_for(lambda: self.cluster.events(since_ns, object="backend", name="gpu1", what="down"), "the fall")[0]
        assert event["why"] == why
        assert self.cluster.states()["gpu2"] == "up"
        return event["evidence"]

    def said(self):
        return next(p["engine"] for p in self.cluster.shunt("probe", "show") if p["backend"] == "gpu1")

    def wait_said(self, engine):
        wait_for(lambda: self.said() == engine, f"gpu1 to say {engine}")

    def asked_anew(self):
        """Until gpu1 has answered a question that was asked after this was called; for what must not happen."""
        def answers():
            return next(p["answers"] for p in self.cluster.shunt("probe", "show") if p["backend"] == "gpu1")
        n = answers()
        wait_for(lambda: answers() > n + 3, "more answers")

    def end(self):
        for victim in self.victims:
            victim.end()
        if self.agent:
            self.agent.send_signal(signal.SIGCONT)
            assert stop(self.agent) == 0, self.log()


@pytest.fixture
def scene(cluster, shuntd):
    s = Scene(cluster, shuntd)
    yield s
    s.end()


@pytest.mark.parametrize("how, cause, planned", [
    (lambda v: v.kill(), "killed by signal 9", False),
    (lambda v: v.say("segv"), "killed by signal 11", False),
    (lambda v: v.kill(signal.SIGABRT), "killed by signal 6", False),
    (lambda v: v.say("exit 3"), "exited with status 3", False),
    (lambda v: v.say("exit 0"), "exited with status 0", True),
    (lambda v: v.kill(signal.SIGTERM), "killed by signal 15", True),
    (lambda v: (v.do("catch"), v.kill(signal.SIGTERM)), "exited with status 0", True),
    (lambda v: v.say("close"), "its listening socket is gone", False),
], ids=["SIGKILL", "SIGSEGV", "SIGABRT", "exit 3", "exit 0", "SIGTERM", "SIGTERM caught", "listener closed"])
def test_engine_that_ends_is_dead_and_the_event_says_how(scene, how, cause, planned):
    begun_ns, victim = scene.begin()
    how(victim)
    evidence = scene.down(begun_ns)
    assert (evidence["cause"], evidence["planned"]) == (cause, planned)
    assert evidence["round"] > 0 and evidence["asked_us"] >= 0
    assert scene.said() == "dead"
    assert f"dead ({cause}" in scene.log()


def test_restarted_engine_is_admitted_again(scene):
    begun_ns, victim = scene.begin()
    for _ in range(3):
        victim.kill()
        scene.down(begun_ns)
        victim.end()
        victim = scene.victim()
        scene.cluster.wait_states()
        begun_ns = time.monotonic_ns()
        assert scene.said() == "serving"


def test_engine_that_listens_again_is_admitted_again(scene):
    begun_ns, victim = scene.begin()
    victim.do("close")
    scene.down(begun_ns)
    victim.do("listen")
    scene.cluster.wait_states()


def test_stalled_engine_beats_again_and_is_admitted_again(scene):
    socket = scene.cluster.directory / "beat.sock"
    engine = f"{{listen: {PORT}, beat: {{limit: 200ms, socket: {socket}}}}}"
    scene.agent_start(engine)
    victim = scene.victim(f"beat={socket}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD))
    begun_ns = time.monotonic_ns()
    victim.kill(signal.SIGSTOP)
    evidence = scene.down(begun_ns, "stalled")
    assert evidence["beat_age_us"] >= 200_000
    assert scene.said() == "stalled"
    victim.kill(signal.SIGCONT)
    scene.cluster.wait_states()


def test_engine_that_never_beat_is_not_stalled(scene):
    socket = scene.cluster.directory / "beat.sock"
    begun_ns, victim = scene.begin(f"{{listen: {PORT}, beat: {{limit: 1ms, socket: {socket}}}}}")
    victim.kill(signal.SIGSTOP)
    scene.asked_anew()
    assert scene.said() == "serving"


def test_worker_that_crashes_is_the_engines_death(scene):
    begun_ns, victim = scene.begin(f"{{listen: {PORT}, worker_age: 0s}}", "worker")
    os.kill(victim.worker, signal.SIGKILL)
    assert scene.down(begun_ns)["cause"] == "a worker was killed by signal 9"
    scene.asked_anew()
    assert scene.said() == "dead"  # though its main process listens on
    victim.end()
    scene.victim("worker")
    scene.cluster.wait_states()


def test_worker_that_fails_is_the_engines_death(scene):
    begun_ns, victim = scene.begin(f"{{listen: {PORT}, worker_age: 0s}}", "worker")
    os.kill(victim.worker, signal.SIGUSR2)
    assert scene.down(begun_ns)["cause"] == "a worker exited with status 1"


@pytest.mark.parametrize("engine, number", [
    (f"{{listen: {PORT}, worker_age: 0s}}", signal.SIGUSR1), (f"{{listen: {PORT}, worker_age: 0s}}", signal.SIGTERM),
    (f"{{listen: {PORT}, workers: main, worker_age: 0s}}", signal.SIGKILL), (f"{{listen: {PORT}, worker_age: 1h}}", signal.SIGKILL)],
    ids=["ends cleanly", "is told to end", "does not count", "is young"])
def test_worker_that_may_end_leaves_the_engine_serving(scene, engine, number):
    begun_ns, victim = scene.begin(engine, "worker")
    os.kill(victim.worker, number)
    wait_for(lambda: pathlib.Path(f"/proc/{victim.worker}/stat").read_text().split(") ")[1][0] == "Z", "the worker's end")
    scene.asked_anew()
    assert scene.said() == "serving" and scene.cluster.states()["gpu1"] == "up"
