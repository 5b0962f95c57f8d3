# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An agent that is killed: its kernel's side goes on, and the next agent takes over without anybody noticing.

The engine that is watched on gpu1 is a victim; the streams through the VIP are served by stubs, on gpu1 and on gpu2.
"""
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from cluster import Cluster, VIP4, VIP6
from conftest import BUILD
from test_engine import HEALTH, PORT, Scene, begin_beside, unmoved, wait_closed
from topology import run, stop, wait_for

ENGINE = f"{{listen: {PORT}, worker_age: 0s}}"
KILLS = 20
WATCHERS = ["watch_exit", "watch_fork", "watch_oom", "watch_signal"]
STEPS = 12  # removals from the directory in a start: one before each of 6 pins, then what is stale


@pytest.fixture(scope="module")
def cluster():
    with Cluster("shunt-pins", BUILD, n_backends=2) as c:
        c.agents = {"gpu2": c.start_agent(c.backends[1])}
        for b in c.backends:
            c.start_engine(b)
        for b in c.backends:
            wait_for(lambda: "ready" in c.log(f"engine-{b.name}"), f"engine of {b.name}")
        yield c


class Succession(Scene):
    """Agents on gpu1, one after the other."""

    def __init__(self, cluster, shuntd):
        super().__init__(cluster, shuntd)
        self.host = cluster.backends[0]
        self.pin = cluster.agent_pin(self.host)

    def agent_start(self, engine=ENGINE, wait=True):
        """Another one, with the engine of the one before if none is said; its log begins anew."""
        self.engine = engine
        self.agent = self.cluster.start_agent(self.host, f"engine: {engine}\n")
        if wait:
            wait_for(lambda: "ready: " in self.log(), "the agent of gpu1")

    def agent_kill(self):
        self.agent.kill()
        self.agent.wait()

    def agent_succeed(self):
        self.agent_start(self.engine)
        assert "took over from an agent that was killed" in self.log()

    def command(self, *words):
        return run(BUILD / "shunt-agent", "-s", self.cluster.agent_socket(self.host), *words)

    def pinned(self):
        """What is pinned, without the run's number."""
        return sorted(p.name.split("-")[0] for p in self.pin.iterdir()) if self.pin.exists() else None

    def fallen(self, since_ns):
        """Events in which gpu1 lost new flows, or all."""
        return [e for e in self.cluster.events(since_ns, object="backend", name="gpu1") if e["what"] in ("down", "draining")]

    def vips(self):
        """Addresses of the loopback interface."""
        return [a["local"] for a in json.loads(self.host.run("ip", "-j", "addr", "show", "dev", "lo"))[0]["addr_info"]]

    def agent_age_us(self):
        return self.probe()["agent_age_us"]

    def end(self):
        if self.agent.poll() is not None:
            self.agent_start(self.engine)
        super().end()
        assert self.pinned() is None
        assert "xdp" not in self.host.run("ip", "link", "show", "eth0")


def link_id(path):
    shown = json.loads(run("bpftool", "-j", "link", "show", "pinned", path))
    return (shown[0] if isinstance(shown, list) else shown)["id"]


def program_maps(pin):
    """Numbers of the maps that a pinned link's program uses."""
    shown = json.loads(run("bpftool", "-j", "link", "show", "pinned", pin))
    program = (shown[0] if isinstance(shown, list) else shown)["prog_id"]
    return set(json.loads(run("bpftool", "-j", "prog", "show", "id", program))["map_ids"])


def links_alive(ids):
    return {link["id"] for link in json.loads(run("bpftool", "-j", "link", "show"))} & set(ids)


@pytest.fixture
def scene(cluster, shuntd):
    s = Succession(cluster, shuntd)
    yield s
    s.end()


def test_killed_agent_goes_on_answering_and_the_next_takes_over_unnoticed(scene):
    cluster = scene.cluster
    begun_ns, victim = scene.begin(ENGINE)
    load = cluster.start_load(50)
    scene.agent_kill()
    wait_for(lambda: scene.agent_age_us() > 300_000, "an age that grows")
    assert scene.said() == "serving"
    scene.agent_succeed()
    wait_for(lambda: scene.agent_age_us() < 300_000, "the new agent's word")
    scene.asked_anew()
    assert scene.said() == "serving" and scene.fallen(begun_ns) == []
    records = cluster.load_end(load)
    assert {r["backend"] for r in records} == {"gpu1", "gpu2"} and [r for r in records if r["error"]] == []
    victim.kill()
    assert scene.down(begun_ns)["cause"] == "killed by signal 9"  # and the new one's programs watch


def test_engine_that_dies_while_the_agent_is_dead_is_dead_and_stays_so(scene):
    begun_ns, victim = scene.begin(ENGINE)
    scene.agent_kill()
    victim.kill()
    assert scene.down(begun_ns)["cause"] == "killed by signal 9"
    victim.end()
    scene.agent_succeed()
    assert "dead (killed by signal 9" in scene.log()
    scene.asked_anew()
    assert scene.said() == "dead"
    scene.victim()
    scene.cluster.wait_states()


def test_engine_whose_worker_crashed_is_not_taken_for_a_new_one(scene):
    begun_ns, victim = scene.begin(ENGINE, "worker")
    os.kill(victim.worker, signal.SIGKILL)
    scene.down(begun_ns)
    scene.agent_kill()
    scene.agent_succeed()
    scene.asked_anew()
    assert scene.said() == "dead"  # though its main process listens
    victim.end()
    scene.victim()
    scene.cluster.wait_states()


def test_host_that_was_taken_out_of_service_stays_out(scene):
    begun_ns, _ = scene.begin(ENGINE)
    scene.command("drain")
    scene.cluster.wait_states(gpu1="draining")
    scene.agent_kill()
    scene.agent_succeed()
    scene.asked_anew()
    assert scene.said() == "draining" and "goes on draining" in scene.log()
    assert not scene.cluster.events(begun_ns, object="backend", name="gpu1", what="up")
    scene.command("undrain")
    scene.cluster.wait_states()


def test_engine_that_was_asked_to_stop_goes_on_draining(scene):
    begun_ns, victim = scene.begin(ENGINE)
    victim.do("linger")
    victim.kill(signal.SIGTERM)
    scene.cluster.wait_states(gpu1="draining")
    wait_for(lambda: not scene.listens(), "the listener to be closed")
    scene.agent_kill()
    scene.agent_succeed()
    scene.asked_anew()
    assert scene.said() == "draining"
    victim.say("exit 0")
    assert scene.down(begun_ns)["planned"]


@pytest.mark.parametrize("lingers", [False, True], ids=["ends meanwhile", "ends later"])
def test_engine_that_hands_its_port_over_while_the_agent_is_dead_leaves_the_host_serving(scene, lingers):
    begun_ns, first, second = begin_beside(scene)
    scene.agent_kill()
    if lingers:
        first.do("linger")
    first.kill(signal.SIGTERM)
    wait_closed(scene, first) if lingers else first.process.wait()
    assert unmoved(scene, begun_ns)
    scene.agent_succeed()
    if lingers:
        first.say("exit 3")
        first.process.wait()
    assert unmoved(scene, begun_ns)
    second.kill()
    assert scene.down(begun_ns)["cause"] == "killed by signal 9"


def test_stalled_engine_is_still_stalled_and_beats_into_the_same_memory(scene):
    socket = scene.cluster.directory / "beat.sock"
    scene.agent_start(f"{{listen: {PORT}, beat: {{limit: 200ms, socket: {socket}}}}}")
    victim = scene.victim(f"beat={socket}")
    scene.start_shuntd(scene.cluster.config(interval="1ms", hold="100ms"))
    begun_ns = time.monotonic_ns()
    victim.kill(signal.SIGSTOP)
    scene.down(begun_ns, "stalled")
    scene.agent_kill()
    scene.agent_succeed()
    scene.asked_anew()
    assert scene.said() == "stalled"
    victim.kill(signal.SIGCONT)
    scene.cluster.wait_states()
    assert "beat" in scene.pinned()


@pytest.mark.parametrize("health, said", [("200", "serving"), ("503", "loading")])
def test_engine_is_as_ready_as_it_was(scene, health, said):
    _, victim = scene.begin(HEALTH)
    victim.do(f"health {health}")
    scene.wait_said(said)
    scene.cluster.wait_states(gpu1="up" if said == "serving" else "draining")
    begun_ns = time.monotonic_ns()
    scene.agent_kill()
    scene.agent_succeed()
    scene.asked_n_times(victim, 5)
    scene.asked_anew()
    assert scene.said() == said
    assert not [e for e in scene.cluster.events(begun_ns, object="backend", name="gpu1") if e["what"] != "drained"]


def test_one_bad_answer_to_the_next_agent_is_no_verdict(scene):
    begun_ns, victim = scene.begin(HEALTH.replace("20ms", "10s"))
    victim.do("health 503")
    scene.agent_kill()
    scene.agent_succeed()
    scene.asked_anew()
    assert scene.said() == "serving" and scene.fallen(begun_ns) == []


def test_agent_that_is_killed_at_any_moment_of_its_start_leaves_a_host_that_serves(scene):
    cluster = scene.cluster
    begun_ns, victim = scene.begin(ENGINE)
    scene.agent_kill()
    started = time.monotonic()
    scene.agent_succeed()
    usual_s = time.monotonic() - started
    load = cluster.start_load(50)
    scene.agent_kill()
    chance = random.Random(1)
    for _ in range(KILLS):
        scene.agent_start(ENGINE, wait=False)
        try:
            scene.agent.wait(chance.uniform(0, 1.2 * usual_s))  # is killed after so long
        except subprocess.TimeoutExpired:
            scene.agent_kill()
        assert scene.agent.returncode == -signal.SIGKILL, scene.log()
        scene.asked_anew()
        assert scene.said() == "serving"
    scene.agent_succeed()
    assert scene.fallen(begun_ns) == []
    assert scene.pinned() == ["agent", *WATCHERS, "watched", "xdp"]
    assert [r for r in cluster.load_end(load) if r["error"]] == []
    victim.kill()
    scene.down(begun_ns)


def test_agent_that_is_killed_between_any_two_steps_leaves_programs_that_belong_together(scene):
    begun_ns, victim = scene.begin(ENGINE)
    scene.agent_kill()
    config = scene.cluster.directory / "agent-gpu1.yaml"
    for step in range(1, STEPS + 1):
        scene.agent = scene.host.start("agent-gpu1", "strace", "-o", "/dev/null", "-e", "trace=unlinkat",
                                       "-e", f"inject=unlinkat:signal=KILL:when={step}", BUILD / "shunt-agent", "-f", config)
        assert scene.agent.wait(10) == -signal.SIGKILL, scene.log()
        pin, = scene.pin.glob("xdp-*")
        told, = [p for p in scene.pin.glob("watch_signal-*") if program_maps(p) & program_maps(pin)]
        assert {p.name.split("-")[0] for p in scene.pin.glob(f"*-{told.name.split('-')[1]}")} == {"agent", "watched", *WATCHERS}
        scene.asked_anew()
        assert scene.said() == "serving"
    assert scene.fallen(begun_ns) == []
    scene.agent_succeed()
    assert scene.pinned() == ["agent", *WATCHERS, "watched", "xdp"]


def test_killed_agent_that_knew_of_an_engine_that_nobody_saw_end_says_that_it_is_gone(scene):
    """As when the kernel refuses the programs that see an end: here they are unpinned."""
    begun_ns, victim = scene.begin(ENGINE)
    scene.agent_kill()
    links = {path: link_id(path) for path in scene.pin.glob("watch_*")}
    for path in links:
        path.unlink()
    wait_for(lambda: not links_alive(links.values()), "the end of the programs")
    victim.kill()
    victim.end()
    scene.asked_anew()
    assert scene.said() == "serving"
    scene.agent_succeed()
    assert scene.down(begun_ns)["cause"] == "its process is gone"


def test_word_of_another_version_tells_whether_the_host_is_out_of_service(scene):
    scene.pin.mkdir(mode=0o700)
    old = scene.pin / "agent-00000000"
    run("bpftool", "map", "create", old, "type", "array", "key", 4, "value", 40, "entries", 1, "name", "agent")
    run("bpftool", "map", "update", "pinned", old, "key", *[0] * 4, "value", *([0] * 4 + [1] + [0] * 35))
    scene.agent_start(ENGINE)
    assert "goes on draining" in scene.log() and not old.exists()
    assert scene.command("status").startswith("draining, ")


def test_agent_that_cannot_start_changes_nothing_of_what_a_killed_one_left(scene):
    begun_ns, victim = scene.begin(ENGINE)
    scene.agent_kill()
    left, vips = sorted(scene.pin.iterdir()), scene.vips()
    assert VIP4 in vips and VIP6 in vips
    good = (scene.cluster.directory / "agent-gpu1.yaml").read_text()
    for wrong, sentence in ((good, "interface eth7: "), (good.replace("setup_vips: true", "setup_vips: false"),
                                                         "interface eth7: no such interface")):
        bad = scene.cluster.write("bad.yaml", wrong.replace("[eth0]", "[eth0, eth7]"))
        done = scene.host.try_run(BUILD / "shunt-agent", "-f", bad)
        assert done.returncode == 1 and sentence in done.stderr
        assert sorted(scene.pin.iterdir()) == left and scene.vips() == vips
    scene.asked_anew()
    assert scene.said() == "serving" and scene.fallen(begun_ns) == []


def test_vips_that_the_next_agent_is_not_to_set_up_are_taken_back(scene):
    scene.begin(ENGINE)
    scene.agent_kill()
    config = scene.cluster.write("none.yaml", (scene.cluster.directory / "agent-gpu1.yaml").read_text().replace(
        "setup_vips: true", "setup_vips: false"))
    scene.agent = scene.host.start("agent-gpu1", BUILD / "shunt-agent", "-f", config)
    wait_for(lambda: "ready: " in scene.log(), "the next agent")
    assert VIP4 not in scene.vips() and VIP6 not in scene.vips()
    scene.agent_kill()
    scene.agent_start(ENGINE)
    assert VIP4 in scene.vips() and VIP6 in scene.vips()


def test_interface_that_is_no_longer_configured_is_left(scene):
    config = scene.cluster.write("two.yaml", f"interfaces: [eth0, lo]\npin: {scene.pin}\n"
                                 f"control: {{socket: {scene.cluster.agent_socket(scene.host)}}}\n")
    scene.agent = scene.host.start("agent-gpu1", BUILD / "shunt-agent", "-f", config)
    wait_for(lambda: "ready: 2" in scene.log(), "an agent on two interfaces")
    assert "xdp" in scene.host.run("ip", "link", "show", "lo")
    scene.agent_kill()
    scene.agent_start(ENGINE)
    wait_for(lambda: "xdp" not in scene.host.run("ip", "link", "show", "lo"), "lo without a program")
    assert "xdp" in scene.host.run("ip", "link", "show", "eth0")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_agent_that_is_started_while_another_ends_waits_for_its_end(scene, number):
    scene.agent_start(ENGINE)
    first = scene.agent
    first.send_signal(signal.SIGSTOP)
    first.send_signal(signal.SIGTERM)  # it will end in good order, later
    scene.agent_start(ENGINE, wait=False)
    sleeping = pathlib.Path(f"/proc/{scene.agent.pid}/wchan")
    wait_for(lambda: "nanosleep" in sleeping.read_text(), "the second agent to wait")
    if number == signal.SIGKILL:
        first.kill()
    else:
        first.send_signal(signal.SIGCONT)
    first.wait()
    wait_for(lambda: "ready: " in scene.log(), "the second agent")


def test_second_agent_on_the_same_directory_is_refused(scene):
    scene.agent_start(ENGINE)
    config = scene.cluster.write("second.yaml", f"interfaces: [lo]\npin: {scene.pin}\n"
                                 f"control: {{socket: {scene.cluster.directory}/second.sock}}\n")
    done = scene.host.try_run(BUILD / "shunt-agent", "-f", config)
    assert (done.returncode, done.stderr) == (
        1, f"shunt-agent: {scene.pin}: another shunt-agent has this directory, expected one of its own in 'pin'\n")
    assert "pinned in" in scene.command("status")


FOREIGN = ["xdp", "obj", BUILD / "bpf/plug.bpf.o", "program", "port_ingress"]


def occupant(scene):
    """Number of the program on the interface."""
    return json.loads(scene.host.run("bpftool", "-j", "net", "show"))[0]["xdp"][0]["id"]


def test_program_of_somebody_else_stays_and_is_named(scene):
    scene.host.run("ip", "link", "set", "dev", "eth0", *FOREIGN)
    try:
        scene.agent_start(ENGINE, wait=False)
        assert scene.agent.wait(10) == 1
        assert f"XDP program {occupant(scene)} is already attached there and shunt-agent does not replace it" in scene.log()
        assert "xdp" in scene.host.run("ip", "link", "show", "eth0") and scene.pinned() is None
    finally:
        scene.host.run("ip", "link", "set", "dev", "eth0", "xdp", "off")


def detach(scene):
    """As an operator does who insists."""
    pin, = scene.pin.glob("xdp-*")
    run("bpftool", "link", "detach", "id", link_id(pin))


def test_program_that_somebody_detaches_is_attached_again(scene):
    begun_ns, _ = scene.begin(ENGINE)
    assert scene.host.try_run("ip", "link", "set", "dev", "eth0", "xdp", "off").returncode  # a link is safe from that
    detach(scene)
    wait_for(lambda: "interface eth0: attached again" in scene.log(), "the program to be back")
    assert "interface eth0: somebody detached the XDP program" in scene.log()
    scene.cluster.wait_states()
    scene.agent_kill()
    scene.agent_succeed()  # and it is pinned again
    scene.asked_anew()


def test_program_that_somebody_replaced_is_missed_until_there_is_room_again(scene):
    scene.agent_start(ENGINE)
    scene.agent.send_signal(signal.SIGSTOP)
    detach(scene)
    scene.host.run("ip", "link", "set", "dev", "eth0", *FOREIGN)
    try:
        scene.agent.send_signal(signal.SIGCONT)
        wait_for(lambda: f"XDP program {occupant(scene)} is already attached there" in scene.log(), "the foreign program's number")
        assert "interface eth0: not attached: XDP program" in scene.command("status")
    finally:
        scene.host.run("ip", "link", "set", "dev", "eth0", "xdp", "off")
    wait_for(lambda: "interface eth0: attached\n" in scene.command("status"), "the program to be back")


@pytest.mark.parametrize("place, why", [
    ("directory", "is not in a bpffs"), ("absent", "is not in a bpffs"), ("dotted", "a bpffs takes no dots in names"),
    ("others", "others can write there"), ("readonly", "Read-only file system"), ("none", "the configuration says 'pin: none'")])
def test_agent_that_cannot_pin_says_so_and_goes_on(scene, place, why):
    cluster, bpffs = scene.cluster, scene.pin.parent
    pin = {"directory": cluster.directory, "absent": cluster.directory / "a/b", "dotted": bpffs / f"{scene.pin.name}.d",
           "none": "none"}.get(place, scene.pin)
    before = []
    if place == "others":
        pin.mkdir()
        pin.chmod(0o777)
    elif place == "readonly":
        before = ["unshare", "-m", "sh", "-c", f"mount --bind {bpffs} {bpffs} && mount -o remount,ro,bind {bpffs} && exec \"$@\"", "sh"]
    config = cluster.write("unpinned.yaml", f"interfaces: [eth0]\npin: {pin}\n"
                           f"control: {{socket: {cluster.agent_socket(scene.host)}}}\n")
    scene.agent = scene.host.start("agent-gpu1", *before, BUILD / "shunt-agent", "-f", config)
    wait_for(lambda: "ready: 1" in scene.log(), "an agent without pins")
    assert (f"not pinned, so this host falls silent if the agent is killed: " in scene.log()) == (place != "none")
    status = scene.command("status")
    assert "not pinned" in status and why in status, status
    scene.agent_kill()
    wait_for(lambda: "xdp" not in scene.host.run("ip", "link", "show", "eth0"), "nothing to be attached")
    if place == "others":
        pin.rmdir()
    scene.engine = ENGINE
