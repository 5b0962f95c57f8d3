# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keys of the probes' tags: who is believed, what an operator sees who got them wrong, and how they are changed."""
import os
import signal
import subprocess
import time

import pytest

from cluster import Cluster
from conftest import BUILD
from topology import stop, wait_for

ONE, TWO, THREE = "0f" * 16, "5ae1" * 8, "C0FFEE00" * 4
NO_RIGHT_TAG = "bear no right tag"


@pytest.fixture(scope="module")
def cluster():
    """Three backends with engines; each test brings its agents."""
    with Cluster("shunt-auth", BUILD, n_backends=3) as c:
        for b in c.backends:
            c.start_engine(b)
        for b in c.backends:
            wait_for(lambda: "ready" in c.log(f"engine-{b.name}"), f"engine of {b.name}")
        yield c


class Keys:
    """Agents and a controller, each with a file of its own for keys, or none."""

    def __init__(self, cluster):
        self.cluster, self.agents = cluster, {}

    def file(self, name):
        return self.cluster.directory / f"{name}.key"

    def write(self, name, *keys, mode=0o600):
        return self.cluster.write_keys(f"{name}.key", *keys, mode=mode)

    def agent(self, host, *keys):
        more = f"key_file: {self.write(host.name, *keys)}\n" if keys else ""
        self.agents[host.name] = self.cluster.start_agent(host, more)
        wait_for(lambda: "ready: 1 interfaces" in self.log(host.name), f"the agent of {host.name}")

    def begin(self, keys, *agents):
        """An agent a backend with these keys, and the controller with its own. The time before."""
        for host, its in zip(self.cluster.backends, agents):
            self.agent(host, *its)
        self.begun_ns = time.monotonic_ns()
        key_file = self.write("balancer", *keys) if keys else None
        self.cluster.start_shuntd(self.cluster.config(interval="1ms", hold="100ms", key_file=key_file))

    def log(self, name):
        return self.cluster.log(f"agent-{name}")

    def change(self, name, *keys, mode=0o600):
        """Other keys for an agent; returns when it has said something to it."""
        before = self.log(name)
        self.write(name, *keys, mode=mode)
        self.agents[name].send_signal(signal.SIGHUP)
        return wait_for(lambda: self.log(name)[len(before):], f"the agent of {name} to read its keys")

    def reload(self, *keys):
        """Other keys for the balancer; what the reload says."""
        self.write("balancer", *keys)
        return self.cluster.shunt("config", "reload")["changes"]

    def status(self, name):
        host = next(b for b in self.cluster.backends if b.name == name)
        return subprocess.run([BUILD / "shunt-agent", "-s", self.cluster.agent_socket(host), "status"], capture_output=True,
                              text=True).stdout

    def asked(self, name, field="answers"):
        return next(p[field] for p in self.cluster.shunt("probe", "show") if p["backend"] == name)

    def downs(self):
        return [e["text"] for e in self.cluster.events(self.begun_ns, object="backend", what="down")]

    def wait_complaint(self, name):
        said = f"probes of {self.cluster.balancer.ipv4} {NO_RIGHT_TAG}"
        wait_for(lambda: said in self.log(name), f"{name} to complain")

    def end(self):
        for agent in self.agents.values():
            assert stop(agent) == 0


@pytest.fixture
def keys(cluster, shuntd):
    k = Keys(cluster)
    yield k
    k.end()


def test_backends_whose_agents_have_the_balancers_key_are_up(keys):
    keys.begin([ONE], [ONE], [TWO, ONE], [ONE, TWO])
    keys.cluster.wait_states()
    assert keys.cluster.reasons()["PROBE_FORGED"] == 0
    assert "\ntags: demanded, 1 key\n" in keys.status("gpu1")
    assert "\ntags: demanded, 2 keys\n" in keys.status("gpu2")
    assert NO_RIGHT_TAG not in keys.log("gpu1")


def test_backend_whose_agent_has_another_key_stays_down_and_its_log_says_why(keys):
    keys.begin([ONE], [TWO], [ONE], [ONE])
    keys.cluster.wait_states(gpu2="up", gpu3="up")
    keys.wait_complaint("gpu1")
    assert (keys.cluster.states()["gpu1"], keys.asked("gpu1")) == ("down", 0)
    assert "probes refused" in keys.status("gpu1")
    assert NO_RIGHT_TAG not in keys.log("gpu2") and "refused" not in keys.status("gpu2")


def test_backend_whose_agent_alone_gets_another_key_is_silent_until_it_has_the_right_one_again(keys):
    keys.begin([ONE], [ONE], [ONE], [ONE])
    keys.cluster.wait_states()
    keys.change("gpu1", TWO)
    event = wait_for(lambda: keys.cluster.events(keys.begun_ns, object="backend", name="gpu1", what="down"), "the fall")[0]
    assert event["why"] == "silent"
    keys.wait_complaint("gpu1")
    keys.change("gpu1", ONE)
    keys.cluster.wait_states()
    assert len(keys.downs()) == 1


def test_answers_of_an_agent_without_a_key_are_forged_ones_to_a_balancer_with_one(keys):
    keys.begin([ONE], [], [ONE], [ONE])
    keys.cluster.wait_states(gpu2="up", gpu3="up")
    said = wait_for(lambda: keys.cluster.events(keys.begun_ns, object="backend", name="gpu1"), "the event")
    assert [e["what"] for e in said if e["what"] != "resolved"] == ["answers bear no tag of ours"]
    assert (keys.cluster.states()["gpu1"], keys.asked("gpu1")) == ("down", 0) and keys.asked("gpu1", "forged") >= 16
    assert "tags" not in keys.status("gpu1")
    assert stop(keys.agents["gpu1"]) == 0
    keys.agent(keys.cluster.backends[0], ONE)
    keys.cluster.wait_states()
    wait_for(lambda: keys.cluster.events(keys.begun_ns, name="gpu1", what="answers bear our tag"), "the end of it")


def test_balancer_without_a_key_is_refused_by_an_agent_with_one(keys):
    keys.begin([], [ONE], [], [])
    keys.cluster.wait_states(gpu2="up", gpu3="up")
    keys.wait_complaint("gpu1")
    assert (keys.cluster.states()["gpu1"], keys.asked("gpu1")) == ("down", 0)


def test_complaint_about_tags_is_said_once(keys):
    keys.begin([ONE], [TWO], [ONE], [ONE])
    keys.wait_complaint("gpu1")
    asked = keys.asked("gpu1", "rounds_asked")
    wait_for(lambda: keys.asked("gpu1", "rounds_asked") > asked + 200, "more questions")  # one in 16 ms: three seconds
    assert keys.log("gpu1").count(NO_RIGHT_TAG) == 1


# ---- files ----

def spoil(path, how):
    """What is wrong with a file of keys, and what is said of it."""
    path.unlink(missing_ok=True)
    if how == "vanished":
        return "No such file"
    if how == "a directory":
        path.mkdir()
        return "not a regular file"
    path.write_text({"short": ONE[:-1], "zeros": "0" * 32, "three": f"{ONE}\n{TWO}\n{THREE}\n"}.get(how, ONE))
    path.chmod(0o644 if how == "world-readable" else 0o600)
    if how == "somebody's":
        os.chown(path, 65534, 65534)
    return {"world-readable": "chmod 600", "somebody's": "chown", "short": ":1: a key of 31 digits", "zeros": ":1: a key of zeros",
            "three": ":3: a third key"}[how]


def clean(path):
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


FAULTS = ["vanished", "a directory", "world-readable", "somebody's", "short", "zeros", "three"]


@pytest.mark.parametrize("how", FAULTS)
def test_daemons_with_a_bad_file_of_keys_do_not_start(cluster, how):
    path = cluster.directory / "bad.key"
    said = spoil(path, how)
    config = cluster.write("bad.yaml", cluster.config(key_file=path))
    agent = cluster.write("bad-agent.yaml", f"interfaces: [eth0]\nkey_file: {path}\ncontrol: {{socket: {cluster.socket}}}\n")
    for program, file in (("shuntd", config), ("shunt-agent", agent)):
        done = cluster.balancer.try_run(cluster.build / program, "-f", file)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"{program}: {path}:") and said in done.stderr and ONE[:-1] not in done.stderr
    clean(path)


@pytest.mark.parametrize("how", FAULTS)
def test_a_file_of_keys_that_went_bad_changes_nothing_but_the_log(keys, how):
    keys.begin([ONE], [ONE], [ONE], [ONE])
    keys.cluster.wait_states()
    for name in ("balancer", "gpu1"):
        spoil(keys.file(name), how)
    before = keys.log("gpu1")
    keys.agents["gpu1"].send_signal(signal.SIGHUP)
    said = wait_for(lambda: keys.log("gpu1")[len(before):], "the agent's complaint")
    assert said.startswith(f"shunt-agent: {keys.file('gpu1')}:")
    with pytest.raises(RuntimeError) as refusal:
        keys.cluster.shunt_text("config", "reload")
    assert str(keys.file("balancer")) in str(refusal.value)
    answers = keys.asked("gpu1")
    wait_for(lambda: keys.asked("gpu1") > answers + 10, "answers to the keys from before")
    assert keys.downs() == [] and keys.cluster.reasons()["PROBE_FORGED"] == 0
    for name in ("balancer", "gpu1"):
        clean(keys.file(name))


def test_a_reload_says_that_keys_changed_and_never_which_they_are(keys):
    keys.begin([ONE], [ONE, TWO], [ONE, TWO], [ONE, TWO])
    keys.cluster.wait_states()
    assert keys.reload(ONE) == []
    assert keys.reload(TWO, ONE) == ["probe keys: changed"]
    told = "".join(keys.cluster.shunt_text(*words) for words in (("event", "show"), ("config", "show"), ("-j", "event", "show")))
    told = (told + keys.cluster.log("shuntd") + keys.log("gpu1")).lower()
    assert "probe.key_file" in told
    for key in (ONE, TWO):
        assert key[:8].lower() not in told
    assert keys.downs() == []


# ---- rotation ----

def test_keys_are_rotated_under_traffic_without_losing_a_backend(keys):
    """The new key second everywhere, then first, then alone; host by host, the balancer in between."""
    keys.begin([ONE], [ONE], [ONE], [ONE])
    keys.cluster.wait_states()
    load = keys.cluster.start_load(50)
    wait_for(lambda: all(b["live"] for b in keys.cluster.shunt("backend", "show")), "streams everywhere")
    for step in ([ONE, TWO], [TWO, ONE], [TWO]):
        keys.change("gpu1", *step)
        assert keys.reload(*step) == ["probe keys: changed"]
        for name in ("gpu2", "gpu3"):
            keys.change(name, *step)
        for name in keys.agents:
            answers = keys.asked(name)
            wait_for(lambda: keys.asked(name) > answers + 20, f"answers of {name}")
    assert "\ntags: demanded, 1 key\n" in keys.status("gpu3")
    assert keys.downs() == []
    assert [r for r in keys.cluster.load_end(load) if r["error"]] == []
    assert NO_RIGHT_TAG not in "".join(map(keys.log, keys.agents))
