# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every way an engine can fail, with real processes: what its kernel and its agent say of it, and what the balancer does."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from cluster import PYTHON, Cluster, Victim
from conftest import BUILD, ROOT
from topology import run, stop, wait_for

PORT = 8000
HOLD = "100ms"


@pytest.fixture(scope="module")
def cluster():
    """gpu1, whose engine each test brings along, and gpu2, where nobody watches an engine."""
    with Cluster("shunt-engine", BUILD, n_backends=2) as c:
        c.agents = {"gpu2": c.start_agent(c.backends[1])}
        yield c


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
        self.victims.append(Victim(self.cluster.backends[0], PORT, *options))
        return self.victims[-1]

    def begin(self, engine=f"{{listen: {PORT}, worker_age: 0s}}", *options, more=""):
        """All of it, until both backends are up. The time then, and the engine. `more`: lines of the pool."""
        victim = self.victim(*options)
        self.agent_start(engine)
        self.start_shuntd(self.cluster.config(interval="1ms", hold=HOLD, more=more))
        return time.monotonic_ns(), victim

    def down(self, since_ns, why="dead"):
        """The evidence of gpu1's fall."""
        event = wait_for(lambda: self.cluster.events(since_ns, object="backend", name="gpu1", what="down"), "the fall")[0]
        assert event["why"] == why
        assert self.cluster.states()["gpu2"] == "up"
        return event["evidence"]

    def probe(self):
        return next(p for p in self.cluster.shunt("probe", "show") if p["backend"] == "gpu1")

    def said(self):
        return self.probe()["engine"]

    def status(self):
        return self.cluster.backends[0].run(BUILD / "shunt-agent", "-s", self.cluster.agent_socket(self.cluster.backends[0]), "status")

    def wait_said(self, engine):
        wait_for(lambda: self.said() == engine, f"gpu1 to say {engine}")

    def asked_anew(self, more=3):
        """Until gpu1 has answered questions that were asked after this was called; for what must not happen."""
        n = self.probe()["answers"]
        wait_for(lambda: self.probe()["answers"] > n + more, "more answers")

    def asked_n_times(self, victim, n):
        """Until the victim's health was asked so often."""
        for _ in range(n):
            victim.do("asked")

    def listens(self):
        return self.cluster.backends[0].run("ss", "-Hltn", f"sport = :{PORT}")

    def listener(self):
        """The process that listens."""
        return self.cluster.backends[0].run("ss", "-Hltnp", f"sport = :{PORT}").split("pid=")[1].split(",")[0]

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
    wait_for(lambda: f"dead ({cause}" in scene.log(), "the agent to say so")


def test_engine_that_is_asked_to_stop_serves_its_connections_to_their_end(scene):
    begun_ns, victim = scene.begin()
    victim.do("linger")
    victim.kill(signal.SIGTERM)
    scene.cluster.wait_states(gpu1="draining")
    wait_for(lambda: not scene.listens(), "the listener to be closed")
    scene.asked_anew()
    assert scene.cluster.states()["gpu1"] == "draining" and scene.said() == "draining"
    victim.say("exit 0")
    evidence = scene.down(begun_ns)
    assert (evidence["cause"], evidence["planned"]) == ("exited with status 0", True)
    victim.end()
    scene.victim()
    scene.cluster.wait_states()


def test_controller_that_judges_itself_hears_of_deaths_too(scene):
    scene.victim()
    scene.agent_start(f"{{listen: {PORT}}}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD, detector="controller"))
    begun_ns = time.monotonic_ns()
    scene.victims[0].kill()
    assert scene.down(begun_ns)["cause"] == "killed by signal 9"


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


HEALTH = f"{{listen: {PORT}, health: {{url: 'http://127.0.0.1:{PORT}/health', interval: 20ms, timeout: 100ms}}}}"


@pytest.mark.parametrize("health", ["503", "404", "hang", "garbage"])
def test_engine_whose_health_fails_gets_no_new_flow_but_is_never_dead(scene, health):
    begun_ns, victim = scene.begin(HEALTH)
    victim.do(f"health {health}")
    scene.cluster.wait_states(gpu1="draining", gpu2="up")
    assert scene.said() == "loading"
    assert [e["why"] for e in scene.cluster.events(begun_ns, name="gpu1", what="draining")] == ["its engine is not ready"]
    assert scene.cluster.shunt("backend", "show", "gpu1")[0]["verdict"] == "loading"
    victim.do("health 200")
    scene.cluster.wait_states()
    assert not scene.cluster.events(begun_ns, name="gpu1", what="down")


def cpu_s(process):
    """Seconds of processor time that it took."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_engine_that_dies_while_its_health_is_asked_leaves_the_agent_at_rest(scene):
    begun_ns, victim = scene.begin(HEALTH.replace("100ms", "30s"))
    victim.do("health hang")
    victim.do("asked")
    victim.kill()
    scene.down(begun_ns)
    dead_ns, before_s = time.monotonic_ns(), cpu_s(scene.agent)
    wait_for(lambda: time.monotonic_ns() > dead_ns + 2_000_000_000, "some turns")
    assert cpu_s(scene.agent) - before_s < 0.5
    victim.end()
    scene.victim()
    scene.cluster.wait_states()


NAME_SERVER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
while True:
    print("ready", flush=True)
    s.recv(512)
    print("asked", flush=True)
"""


def test_agent_does_not_wait_for_a_name_server_that_says_nothing(scene):
    cluster, host = scene.cluster, scene.cluster.backends[0]
    files = {"resolv.conf": "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n", "nsswitch.conf": "hosts: dns\n"}
    binds = " && ".join(f"mount --bind {cluster.write(name, text)} /etc/{name}" for name, text in files.items())
    config = cluster.write("agent-gpu1.yaml", f"interfaces: [eth0]\npin: none\ncontrol: {{socket: {cluster.agent_socket(host)}}}\n"
                           f"engine: {HEALTH.replace('127.0.0.1', 'engine.test')}\n")
    name_server = host.start("names", PYTHON, "-c", NAME_SERVER)
    wait_for(lambda: "ready" in cluster.log("names"), "the name server")
    scene.victim()
    scene.agent = host.start("agent-gpu1", "unshare", "-m", "sh", "-c", f"{binds} && exec \"$@\"", "sh",
                             BUILD / "shunt-agent", "-f", config)
    wait_for(lambda: cluster.log("names").count("asked") > 10, "more questions than one, of two each")
    assert scene.status().startswith("loading, ")
    stop(name_server)


@pytest.mark.parametrize("health", ["204", "megabytes", "429"])
def test_engine_whose_health_is_odd_but_good_serves(scene, health):
    begun_ns, victim = scene.begin(HEALTH)
    victim.do(f"health {health}")
    scene.asked_n_times(victim, 5)
    assert scene.said() == "serving" and scene.cluster.states()["gpu1"] == "up"
    assert not scene.cluster.events(begun_ns, name="gpu1", what="draining")


FULL = HEALTH.replace("interval", f"full_url: 'http://127.0.0.1:{PORT}/slots', interval")


@pytest.mark.parametrize("engine, verb, status", [(HEALTH, "health", "429"), (FULL, "full", "429"), (FULL, "full", "503")],
                         ids=["429", "429 elsewhere", "503 elsewhere"])
def test_engine_that_is_full_says_so_and_serves(scene, engine, verb, status):
    begun_ns, victim = scene.begin(engine)
    assert "health: ready: " in scene.status()
    victim.do(f"{verb} {status}")
    wait_for(lambda: "health: ready, full: " in scene.status(), "the agent to hear it")
    wait_for(lambda: scene.probe()["full"], "the balancer to hear it")
    scene.asked_anew()
    assert scene.said() == "serving" and scene.cluster.states()["gpu1"] == "up"
    victim.do(f"{verb} 200")
    wait_for(lambda: "health: ready: " in scene.status() and not scene.probe()["full"], "room again")
    assert not scene.cluster.events(begun_ns, name="gpu1", what="draining")


@pytest.mark.parametrize("full", ["500", "hang", "garbage"])
def test_engine_that_does_not_say_whether_it_is_full_is_not(scene, full):
    begun_ns, victim = scene.begin(FULL)
    victim.do(f"full {full}")
    scene.asked_n_times(victim, 6)
    assert "health: ready: " in scene.status() and scene.said() == "serving"


def test_engine_is_loading_until_it_first_says_that_it_is_ready(scene):
    victim = scene.victim()
    victim.do("health 503")
    scene.agent_start(HEALTH)
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD), "gpu2")
    scene.wait_said("loading")
    scene.asked_anew()
    assert scene.cluster.states()["gpu1"] == "down"
    victim.do("health 200")
    scene.cluster.wait_states()
    assert scene.said() == "serving"


@pytest.mark.parametrize("share, n_draining", [("49%", 0), ("50%", 1), ("100%", 2)])
def test_health_of_every_engine_at_once_ejects_as_many_as_may_be(scene, share, n_draining):
    """gpu2's agent watches the same stub's health, so both are not ready at once."""
    cluster, (_, gpu2) = scene.cluster, scene.cluster.backends
    begun_ns, victim = scene.begin(HEALTH, more=f"    max_soft_eject: {share}\n")
    second = Victim(gpu2, PORT)
    config = cluster.write("agent-second.yaml", (cluster.directory / "agent-gpu1.yaml").read_text())
    stop(cluster.agents["gpu2"])
    cluster.agents["gpu2"] = cluster.start_agent(gpu2, config.read_text()[config.read_text().index("engine:"):])
    try:
        cluster.wait_states()
        for v in (victim, second):
            v.do("health 503")

        def ends():
            kept, draining = ({e["name"] for e in cluster.events(begun_ns, object="backend", what=what)} for what in ("kept", "draining"))
            return kept | draining == {"gpu1", "gpu2"} and (kept, draining)
        kept, draining = wait_for(ends, "an end for each")
        scene.asked_anew()
        assert len(draining) == n_draining and not kept & draining
        assert cluster.states() == {name: "draining" if name in draining else "up" for name in ("gpu1", "gpu2")}
    finally:
        second.end()
        stop(cluster.agents["gpu2"])
        cluster.agents["gpu2"] = cluster.start_agent(gpu2)


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


def test_worker_that_was_born_while_the_engine_served_counts_too(scene):
    begun_ns, victim = scene.begin()
    victim.say("worker")
    os.kill(int(victim.process.stdout.readline().split()[1]), signal.SIGKILL)
    assert scene.down(begun_ns)["cause"] == "a worker was killed by signal 9"


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


# ---- who takes over the port ----

def begin_beside(scene, *options):
    """Two engines that listen on the port, and the time when both did."""
    _, first = scene.begin(f"{{listen: {PORT}, worker_age: 0s}}", "beside", *options)
    second = scene.victim("beside", "worker")
    wait_for(lambda: f"process {second.process.pid} listens too" in scene.log(), "the agent to know both")
    return time.monotonic_ns(), first, second


def wait_closed(scene, victim):
    wait_for(lambda: f"pid={victim.process.pid}," not in scene.cluster.backends[0].run("ss", "-Hltnp"), "the listener to be closed")


def unmoved(scene, since_ns):
    """gpu1 serves, and did all the time."""
    scene.asked_anew()
    fallen = [e for e in scene.cluster.events(since_ns, object="backend", name="gpu1") if e["what"] in ("down", "draining")]
    return scene.said() == "serving" and not fallen


@pytest.mark.parametrize("end", ["at once", "by the signal", "late", "by force"])
def test_engine_that_hands_its_port_over_and_ends_in_good_order_leaves_the_host_serving(scene, end):
    begun_ns, first, second = begin_beside(scene, "worker")
    if end != "by the signal":
        first.do("catch" if end == "at once" else "linger")
    first.kill(signal.SIGTERM)
    if end in ("late", "by force"):
        wait_closed(scene, first)
        assert unmoved(scene, begun_ns)
        os.kill(first.worker, signal.SIGKILL)
        first.say("exit 3") if end == "late" else first.kill()
    first.process.wait()
    wait_for(lambda: f"process {second.process.pid} goes on" in scene.log(), "the agent to notice")
    assert unmoved(scene, begun_ns)
    os.kill(second.worker, signal.SIGKILL)
    assert scene.down(begun_ns)["cause"] == "a worker was killed by signal 9"


@pytest.mark.parametrize("crashes", [0, 1])
def test_crash_of_either_engine_on_the_port_is_death(scene, crashes):
    begun_ns, *victims = begin_beside(scene)
    victims[crashes].kill()
    evidence = scene.down(begun_ns)
    assert (evidence["cause"], evidence["planned"]) == ("killed by signal 9", False)
    victims[crashes].end()
    scene.asked_anew(20)
    assert scene.said() == "dead"


def test_engines_on_the_port_that_are_all_asked_to_stop_drain(scene):
    begun_ns, first, second = begin_beside(scene)
    for victim in (first, second):
        assert unmoved(scene, begun_ns)
        victim.do("linger")
        victim.kill(signal.SIGTERM)
    scene.cluster.wait_states(gpu1="draining")
    first.say("exit 0")
    assert scene.down(begun_ns)["planned"]


def test_engine_that_begins_to_listen_after_the_one_before_was_asked_to_stop_serves(scene):
    begun_ns, first = scene.begin(HEALTH, "beside")
    first.do("linger")
    first.kill(signal.SIGTERM)
    scene.cluster.wait_states(gpu1="draining")
    second = scene.victim("beside")
    scene.cluster.wait_states()
    began_ns = time.monotonic_ns()
    first.say("exit 0")
    first.process.wait()
    assert unmoved(scene, began_ns)
    second.kill()
    scene.down(begun_ns)


def test_engine_that_was_asked_to_stop_and_listens_on_is_no_part_of_its_successor(scene):
    _, first = scene.begin(f"{{listen: {PORT}, worker_age: 0s}}", "beside")
    first.do("stay")
    first.kill(signal.SIGTERM)
    scene.cluster.wait_states(gpu1="draining")
    second = scene.victim("beside")
    scene.cluster.wait_states()
    second.do("listen")  # once more: the agent looks who listens
    scene.asked_anew(2000)
    began_ns = time.monotonic_ns()
    first.say("exit 3")
    first.process.wait()
    assert unmoved(scene, began_ns)


# ---- who may beat ----

BEATER = "import sys; sys.path.insert(0, sys.argv[1]); from beat import Beat; b = Beat(sys.argv[2]); b(); print(open('/proc/self/status').read())"


def beat_as(user, group, snippet, socket):
    """Run the Python snippet as a user without any capability."""
    return subprocess.run(["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
                           PYTHON, "-c", BEATER, os.path.dirname(snippet), socket],
                          capture_output=True, text=True, timeout=30)


def test_engine_without_privileges_beats_if_it_is_of_the_group(scene, for_all):
    snippet = for_all(ROOT / "tools/examples/beat.py")
    socket = scene.cluster.directory / "beat.sock"
    scene.cluster.directory.chmod(0o755)
    begun_ns, victim = scene.begin(f"{{listen: {PORT}, beat: {{limit: 300ms, socket: {socket}, group: games}}}}")
    refused = beat_as("nobody", "nogroup", snippet, socket)
    assert refused.returncode and "PermissionError" in refused.stderr
    scene.asked_anew()
    assert scene.said() == "serving"
    done = beat_as("games", "games", snippet, socket)
    assert done.returncode == 0, done.stderr
    assert "CapEff:\t0000000000000000" in done.stdout
    scene.down(begun_ns, "stalled")  # it beat once


def test_engine_in_c_beats(scene):
    socket, tool = scene.cluster.directory / "beat.sock", BUILD / "tests/lib/beat_tool"
    begun_ns, victim = scene.begin(f"{{listen: {PORT}, beat: {{limit: 200ms, socket: {socket}}}}}")
    assert subprocess.run([tool, socket, "1000"]).returncode == 0
    assert scene.down(begun_ns, "stalled")["beat_age_us"] >= 200_000
    refused = subprocess.run([tool, f"{socket}{'x' * 120}", "1"], capture_output=True, text=True)
    assert refused.returncode == 1 and "File name too long" in refused.stderr


def test_pinned_beat_outlives_the_agent(scene):
    socket, pin = scene.cluster.directory / "beat.sock", pathlib.Path(f"/sys/fs/bpf/shunt-beat-{os.getpid()}")
    engine = f"{{listen: {PORT}, beat: {{limit: 200ms, socket: {socket}, pin: {pin}}}}}"
    try:
        scene.agent_start(engine)
        victim = scene.victim(f"beat={socket}")
        assert stop(scene.agent) == 0
        scene.agent_start(engine)
        scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD))
        begun_ns = time.monotonic_ns()
        victim.kill(signal.SIGSTOP)
        scene.down(begun_ns, "stalled")
    finally:
        pin.unlink(missing_ok=True)


# ---- which processes ----

def test_engine_is_found_by_its_pid_file(scene):
    path = scene.cluster.write("engine.pid", "no number\n")
    scene.agent_start(f"{{pid_file: {path}}}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD), "gpu2")
    scene.wait_said("loading")
    for _ in range(2):
        victim = scene.victim()
        path.write_text(f"{victim.process.pid}\n")
        scene.cluster.wait_states()
        begun_ns = time.monotonic_ns()
        victim.kill()
        assert scene.down(begun_ns)["cause"] == "killed by signal 9"
        victim.end()


@pytest.mark.parametrize("lingers", [False, True], ids=["of somebody else", "of the one before"])
def test_engine_is_who_its_pid_file_names_in_the_end(scene, lingers):
    """What it named at first lives on: it had that number by chance, or ends its connections."""
    first = scene.victim("beside")
    path = scene.cluster.write("engine.pid", f"{first.process.pid}\n")
    scene.agent_start(f"{{pid_file: {path}}}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD))
    assert scene.said() == "serving"
    if lingers:
        first.do("linger")
        first.kill(signal.SIGTERM)
        scene.cluster.wait_states(gpu1="draining")
    second = scene.victim("beside")
    path.write_text(f"{second.process.pid}\n")
    wait_for(lambda: f"process {second.process.pid} found" in scene.log(), "the agent to follow")
    scene.cluster.wait_states()
    first.end()
    scene.asked_anew()
    assert scene.said() == "serving"
    begun_ns = time.monotonic_ns()
    second.kill()
    assert scene.down(begun_ns)["cause"] == "killed by signal 9"


def test_pid_file_of_a_process_that_is_gone_or_dies_at_once_is_waited_with(scene):
    """Numbers that vanish while they are looked at, some of them used again: never a serving engine, never an agent that ends."""
    path = scene.cluster.write("engine.pid", "0\n")
    scene.agent_start(f"{{pid_file: {path}}}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD), "gpu2")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        child = subprocess.Popen(["/bin/true"])
        path.write_text(f"{child.pid}\n")
        child.wait()
    wait_for(lambda: scene.said() in ("loading", "dead"), "the last one to be known as gone")
    scene.asked_anew()
    assert scene.said() in ("loading", "dead") and scene.cluster.states()["gpu1"] == "down"
    victim = scene.victim()
    path.write_text(f"{victim.process.pid}\n")
    scene.cluster.wait_states()


@pytest.fixture
def cgroup():
    """A memory cgroup of ours (version 1 or 2)."""
    root = next((p for p in map(pathlib.Path, ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")) if (p / "cgroup.procs").exists()))
    path = root / f"shunt-engine-{os.getpid()}"
    path.mkdir()
    yield path
    wait_for(lambda: not (path / "cgroup.procs").read_text(), "an empty cgroup")
    path.rmdir()


def limit_memory(cgroup, n_bytes):
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max"):
        if (cgroup / name).exists():
            (cgroup / name).write_text(str(n_bytes))


def test_engine_is_found_by_its_cgroup_and_its_want_of_memory_is_named(scene, cgroup):
    limit_memory(cgroup, 64 << 20)
    scene.agent_start(f"{{cgroup: {cgroup}}}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD), "gpu2")
    scene.wait_said("loading")
    victim = scene.victim()
    (cgroup / "cgroup.procs").write_text(str(victim.process.pid))
    scene.cluster.wait_states()
    begun_ns = time.monotonic_ns()
    victim.say(f"eat {256 << 20}")
    evidence = scene.down(begun_ns)
    assert (evidence["cause"], evidence["planned"]) == ("killed for want of memory", False)
    victim.end()


def test_worker_that_outlives_the_engine_of_a_cgroup_is_no_engine(scene, cgroup):
    """It may hang in a driver, or be left by a supervisor that kills the main process alone."""
    victim = scene.victim()
    (cgroup / "cgroup.procs").write_text(str(victim.process.pid))
    victim.do("fork")
    scene.agent_start(f"{{cgroup: {cgroup}}}")
    begun_ns = time.monotonic_ns()
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD))
    survivor = next(int(p) for p in (cgroup / "cgroup.procs").read_text().split() if int(p) != victim.process.pid)
    try:
        victim.process.kill()
        assert not scene.down(begun_ns)["planned"]
        victim.process.wait()
        told = scene.log().count("found")
        wait_for(lambda: time.monotonic_ns() > begun_ns + 1_000_000_000, "some searches")
        assert scene.said() == "dead" and scene.log().count("found") == told
        scene.victims.append(Victim(scene.cluster.backends[0], PORT + 1))  # PORT is the survivor's yet
        (cgroup / "cgroup.procs").write_text(str(scene.victims[-1].process.pid))
        scene.cluster.wait_states()
    finally:
        os.kill(survivor, signal.SIGKILL)
    scene.victims[-1].end()


def test_engine_that_forks_and_ends_is_followed_by_who_listens_then(scene):
    """As servers do that become daemons: the first process is gone, the second has its socket."""
    begun_ns, victim = scene.begin(f"{{listen: {PORT}}}")
    victim.do("fork")
    victim.kill()
    victim.process.wait()
    scene.cluster.wait_states()
    begun_ns = time.monotonic_ns()
    os.kill(int(scene.listener()), signal.SIGKILL)
    scene.down(begun_ns)


def test_engine_whose_threads_die_for_another_program_lives(scene):
    """execve(2) kills every other thread by SIGKILL: no end of the process."""
    begun_ns, victim = scene.begin()
    victim.do("exec")
    scene.asked_anew()
    assert scene.said() == "serving" and not scene.cluster.events(begun_ns, name="gpu1", what="down")


def test_unknown_port_is_loading_and_says_nothing_of_death(scene):
    scene.agent_start("{listen: 8999}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD), "gpu2")
    scene.wait_said("loading")
    scene.asked_anew()
    assert scene.cluster.states()["gpu1"] == "down" and "dead" not in scene.log()
    assert scene.log().count("engine: nobody listens on port 8999 yet\n") == 1


def test_unknown_cgroup_is_loading_and_is_named(scene):
    scene.agent_start("{cgroup: /sys/fs/cgroup/shunt-nobody}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD), "gpu2")
    scene.wait_said("loading")
    scene.asked_anew()
    assert scene.cluster.states()["gpu1"] == "down" and "dead" not in scene.log()
    assert scene.log().count("engine: no process in /sys/fs/cgroup/shunt-nobody yet\n") == 1


def process_numbered(pid, *argv):
    """An unrelated process that has this number, which nobody has: `sleep`, if no other is said."""
    for _ in range(200):
        pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        process = subprocess.Popen(argv or ["sleep", "60"])
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    raise AssertionError(f"no process got the number {pid}")


@pytest.mark.parametrize("by", ["listen", "pid_file"])
def test_process_with_the_number_of_a_dead_one_is_nobody(scene, by):
    path = scene.cluster.write("engine.pid", "0\n")
    victim = scene.victim("worker")
    path.write_text(f"{victim.process.pid}\n")
    scene.agent_start(f"{{{by}: {PORT if by == 'listen' else path}, worker_age: 0s}}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD))
    begun_ns = time.monotonic_ns()
    os.kill(victim.worker, signal.SIGUSR1)
    victim.do("reap")
    other = process_numbered(victim.worker)
    other.kill()
    other.wait()
    scene.asked_anew()
    assert scene.said() == "serving"
    victim.kill()
    victim.end()
    scene.down(begun_ns)
    other = process_numbered(victim.process.pid)
    try:
        scene.asked_anew(20)  # several searches for an engine: one that is down is asked every 16 ms
        assert scene.said() == "dead"
    finally:
        other.kill()
        other.wait()
    path.write_text(f"{scene.victim().process.pid}\n")
    scene.cluster.wait_states()


def test_process_with_the_number_of_one_that_ended_unseen_is_nobody(scene):
    """The agent lists the engine's processes and tells the kernel of each: one may end in between."""
    begun_ns, victim = scene.begin(f"{{listen: {PORT}, worker_age: 0s}}", "worker")
    os.kill(victim.worker, signal.SIGUSR1)
    victim.do("reap")
    watched = next(scene.cluster.agent_pin(scene.cluster.backends[0]).glob("watched-*"))
    main, worker = (pid.to_bytes(4, "little") for pid in (victim.process.pid, victim.worker))
    life = json.loads(run("bpftool", "-j", "map", "lookup", "pinned", watched, "key", *main))["value"][:8]
    run("bpftool", "map", "update", "pinned", watched, "key", *worker, "value", *life, *[0] * 12, *main)
    assert process_numbered(victim.worker, "false").wait() == 1
    scene.asked_anew()
    assert scene.said() == "serving" and not scene.cluster.events(begun_ns, object="backend", name="gpu1", what="down")


def test_group_that_is_not_there_is_refused(scene):
    host, socket = scene.cluster.backends[0], scene.cluster.directory / "beat.sock"
    config = scene.cluster.write("nogroup.yaml", "interfaces: [eth0]\npin: none\n"
                                 f"control: {{socket: {scene.cluster.directory}/nogroup.sock}}\n"
                                 f"engine: {{beat: {{limit: 1s, socket: {socket}, group: no-such-group}}}}\n")
    done = host.try_run(BUILD / "shunt-agent", "-f", config)
    assert (done.returncode, done.stderr) == (1, "shunt-agent: no-such-group: no such group\n")


PROBE = """
import socket, struct, sys
to, version = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
bfd = struct.pack("!BBBBI4sIII", 1 << 5, 0xc2, 3, 24, 1, socket.inet_aton(to), 1000, 0, 0)
s.sendto(bfd + struct.pack("!IBBHQ", 0x7368756e, version, 0, 0, 1) + bytes(32), (to, 7784))
"""


def test_balancer_of_another_version_is_named_and_served(scene):
    begun_ns, _ = scene.begin()
    for _ in range(2):
        scene.cluster.balancer.run(PYTHON, "-c", PROBE, scene.cluster.backends[0].ipv4, 2)
        wait_for(lambda: "a balancer asks in version 2 of the probe, this agent speaks 1\n" in scene.status(), "its version")
        scene.asked_anew()
    assert scene.log().count("a balancer asks in version 2 of the probe") == 1
    assert scene.said() == "serving" and scene.cluster.states()["gpu1"] == "up"


def test_status_says_what_the_engine_does(scene):
    socket = scene.cluster.directory / "beat.sock"
    engine = HEALTH.replace("}}", f"}}, beat: {{limit: 1h, socket: {socket}}}}}")
    scene.agent_start(engine)
    assert "loading, 0 connections\nengine: none seen yet\nbeat: none yet\ninterface eth0: attached\npinned in " in scene.status()
    begun_ns, victim = time.monotonic_ns(), scene.victim(f"beat={socket}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold=HOLD))
    assert re.match(rf"serving, 0 connections\nengine: process {victim.process.pid}\nhealth: ready: status 200\nbeat: \d+\.\d ms ago\n",
                    scene.status())
    victim.kill()
    scene.down(begun_ns)
    assert re.match(rf"dead, \d+ connections?\nengine: dead \(killed by signal 9, process {victim.process.pid}\)\n", scene.status())
